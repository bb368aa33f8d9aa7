#pragma once

#include <cstdio>
#include <cstdlib>

/// Ends the program when `condition` is false: for what only a bug can cause. Kept in release
/// builds. Never used on anything that a peer or the operator can influence.
#define DETOUR_CHECK(condition)                                                           \
  do {                                                                                    \
    if (!(condition)) [[unlikely]] {                                                      \
      std::fprintf(stderr, "detour: internal error: %s at %s:%d\n", #condition, __FILE__, \
                   __LINE__);                                                             \
      std::abort();                                                                       \
    }                                                                                     \
  } while (false)
