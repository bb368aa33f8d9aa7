# detour_library(<folder> SOURCES <files> [DEPS <targets>] [PRIVATE_DEPS <targets>])
#
# One folder below src/ is one library, detour::<folder>. Includes start at src/.
function(detour_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(detour_${name} STATIC ${ARG_SOURCES})
  add_library(detour::${name} ALIAS detour_${name})
  target_include_directories(detour_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(detour_${name} PUBLIC ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS} detour_warnings)
endfunction()

# detour_test(<name> SOURCES <files> [DEPS <targets>])
#
# One GoogleTest program; ctest sees each of its tests. Expanding GoogleTest's macros costs the compiler
# most, and optimising and instrumenting what comes of it twice as much again; only what is tested needs
# that.
function(detour_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gtest_main detour_warnings)
  target_compile_definitions(${name} PRIVATE
    DETOUR_TESTDATA="${PROJECT_SOURCE_DIR}/tests/testdata")
  target_compile_options(${name} PRIVATE -O0 -g1 -U_FORTIFY_SOURCE)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60)
endfunction()
