# Kills, power loss, storage that fails, two at once: a slice of each that takes seconds.
# tools/torture.sh runs the same programs with large counts.

# Libraries that stand between a program and the system: no sanitizers, no flags of ours.
foreach(name faults recorder short_memory)
    add_library(${name} MODULE ${name}.c)
    set_target_properties(${name} PROPERTIES PREFIX "")
    target_compile_options(${name} PRIVATE
        -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wvla -Wmissing-prototypes)
    target_link_libraries(${name} PRIVATE ${CMAKE_DL_LIBS})
endforeach()

function(duo_durability_test name script)
    add_test(NAME ${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/${script} $<TARGET_FILE:duo> ${ARGN})
    set_tests_properties(${name} PROPERTIES TIMEOUT 240 SKIP_RETURN_CODE 77)
endfunction()

duo_durability_test(faults faults.sh $<TARGET_FILE:faults> 27 0)
add_executable(power_loss power_loss.c disk_model.c)
target_link_libraries(power_loss PRIVATE duo_checkpoint)
duo_durability_test(power_loss power_loss.sh
    $<TARGET_FILE:recorder> $<TARGET_FILE:power_loss> 400 0)
# Tensors of 1 MiB, for which space is reserved.
duo_durability_test(faults_large faults.sh $<TARGET_FILE:faults> 9 0
    --set model.d_big=8192 --set model.n_layers=1)
duo_durability_test(full_disk full_disk.sh)
duo_durability_test(kills kills.sh 15 1)
duo_durability_test(signals signals.sh 12 1)
duo_durability_test(two_at_once two_at_once.sh 6)

# Numbers that are not finite.
duo_test(bad_numbers LINKS duo_train)
duo_durability_test(bad_numbers_run bad_numbers.sh)

include(fuzz.cmake)

# Files of strangers: sealed with the right hashes, and HDF5 that no library should be given.
add_executable(hostile hostile.c hostile_file.c)
target_include_directories(hostile PRIVATE ${CMAKE_SOURCE_DIR}/src/store)
target_link_libraries(hostile PRIVATE duo_store m)
duo_durability_test(hostile hostile.sh $<TARGET_FILE:hostile> 8 1 4)

# Memory that runs out.
duo_durability_test(memory memory.sh $<TARGET_FILE:short_memory> 96 0)

# The same bits on any number of threads; files of older formats.
duo_durability_test(determinism determinism.sh 1 1)
duo_durability_test(golden golden.sh)

# Damage: every change is noticed.
add_executable(corrupt corrupt.c)
target_include_directories(corrupt PRIVATE ${CMAKE_SOURCE_DIR}/src/store)
target_link_libraries(corrupt PRIVATE fuzz_file duo_base)
duo_durability_test(corruption corruption.sh $<TARGET_FILE:corrupt> 3000 4 1)
duo_durability_test(seal seal.sh $<TARGET_FILE:corrupt> 60 0)
