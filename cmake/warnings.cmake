# Warnings are errors everywhere in this project; system headers are exempt.
add_library(detour_warnings INTERFACE)
target_compile_options(detour_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Werror
  -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Wold-style-cast
  -Wcast-align -Woverloaded-virtual -Wnull-dereference -Wimplicit-fallthrough
  -Wformat=2 -Wundef)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(detour_warnings INTERFACE -Wduplicated-cond -Wlogical-op)
  # GCC 12 reports these inside its own standard library when sanitizers inline it.
  if(DETOUR_SANITIZE)
    target_compile_options(detour_warnings INTERFACE -Wno-null-dereference -Wno-maybe-uninitialized
      -Wno-stringop-overflow -Wno-array-bounds)
  endif()
endif()
