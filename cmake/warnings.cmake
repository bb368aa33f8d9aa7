# Warnings are errors with the compilers that CI runs; system headers are exempt. Others warn of other
# things, inside standard libraries and dependencies as well, and whoever builds with one of them is not
# to be stopped by that.
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" OR CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  set(as_errors -Werror)
  set(null_dereference -Wnull-dereference)
endif()
add_library(detour_warnings INTERFACE)
target_compile_options(detour_warnings INTERFACE
  -Wall -Wextra -Wpedantic ${as_errors}
  -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Wold-style-cast
  -Wcast-align -Woverloaded-virtual ${null_dereference} -Wimplicit-fallthrough
  -Wformat=2 -Wundef)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(detour_warnings INTERFACE -Wduplicated-cond -Wlogical-op)
  # GCC 12 reports these inside its own standard library when sanitizers inline it.
  if(DETOUR_SANITIZE)
    target_compile_options(detour_warnings INTERFACE -Wno-null-dereference -Wno-maybe-uninitialized
      -Wno-stringop-overflow -Wno-array-bounds)
  endif()
endif()
