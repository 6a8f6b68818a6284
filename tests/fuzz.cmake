# A target per reader: a plain program that CTest runs over its seeds, each also cut and with bits
# changed. With -DDUO_FUZZ=ON (clang) they are libFuzzer's, for tools/torture.sh.
option(DUO_FUZZ "build the fuzz targets for libFuzzer" OFF)
set(fuzz_folder ${CMAKE_CURRENT_SOURCE_DIR}/fuzz)
add_library(fuzz_file STATIC fuzz/fuzz_file.c)
target_include_directories(fuzz_file PUBLIC ${fuzz_folder} PRIVATE ${CMAKE_SOURCE_DIR}/src/store)
target_link_libraries(fuzz_file PUBLIC duo_store)

function(duo_fuzz name module)
    add_executable(fuzz_${name} fuzz/fuzz_${name}.c)
    target_link_libraries(fuzz_${name} PRIVATE fuzz_file ${module})
    target_compile_definitions(fuzz_${name} PRIVATE DUO_FUZZ_SEEDS="${fuzz_folder}/seeds")
    if(DUO_FUZZ)
        target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
        add_test(NAME fuzz_${name} COMMAND fuzz_${name} -runs=2000 -seed=1 -verbosity=0
            ${CMAKE_CURRENT_BINARY_DIR}/corpus_${name} ${fuzz_folder}/seeds/${name})
        file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/corpus_${name})
    else()
        target_sources(fuzz_${name} PRIVATE fuzz/fuzz_main.c)
        add_test(NAME fuzz_${name} COMMAND fuzz_${name} ${fuzz_folder}/seeds/${name})
    endif()
    set_tests_properties(fuzz_${name} PROPERTIES TIMEOUT 60
        ENVIRONMENT ASAN_OPTIONS=allocator_may_return_null=1)
endfunction()

duo_fuzz(recipe duo_base)
duo_fuzz(store duo_store)
duo_fuzz(tokens duo_data)
duo_fuzz(checkpoint duo_checkpoint)
duo_fuzz(routes duo_study)
duo_fuzz(choices duo_study)
duo_fuzz(prompt duo_data)
duo_fuzz(tokenizer duo_data)
