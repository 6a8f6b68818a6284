add_executable(bench_figures bench_figures.c)
target_link_libraries(bench_figures PRIVATE duo_bench PkgConfig::JANSSON)
add_test(NAME bench
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/bench.sh $<TARGET_FILE:duo> $<TARGET_FILE:bench_figures>)
set_tests_properties(bench PROPERTIES TIMEOUT 120)
# Sanitizers have an allocator of their own; clang's OpenMP allocates for every parallel region.
if(NOT DUO_SANITIZE AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
    duo_test(allocations LINKS duo_bench)
    target_include_directories(test_allocations PRIVATE ${CMAKE_SOURCE_DIR}/src/bench)
endif()
