#pragma once

#include <cstdint>
#include <string>

/// Counts calls of malloc() and its kin, operator new included, in all threads but those of the
/// test itself. Linking allocations.cc replaces the C library's functions; not for sanitizer
/// builds, which bring their own.
namespace detour::test {

/// While one lives, its thread's allocations do not count.
class ExemptThread {
 public:
  ExemptThread();
  ~ExemptThread();
  ExemptThread(const ExemptThread&) = delete;
  ExemptThread& operator=(const ExemptThread&) = delete;

 private:
  bool before_;
};

/// Counts from its construction on.
class AllocationCount {
 public:
  AllocationCount();
  ~AllocationCount();
  AllocationCount(const AllocationCount&) = delete;
  AllocationCount& operator=(const AllocationCount&) = delete;

  /// Ends counting and gives the number.
  std::uint64_t stop();
  /// Where the first of them came from, with how often each place was met.
  [[nodiscard]] std::string places() const;
};

}  // namespace detour::test
