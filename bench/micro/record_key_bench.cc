#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <array>
#include <vector>

#include "base/check.h"
#include "net/record_key.h"

namespace detour::net {
namespace {

constexpr std::array<std::uint8_t, 5> kHeader = {23, 3, 3, 0, 0};
constexpr std::uint8_t kApplicationData = 23;

struct Record {
  explicit Record(std::size_t size) : content(size, 0x5a), sealed(size + 1 + kAeadTagSize) {}
  std::vector<std::uint8_t> content;
  std::vector<std::uint8_t> sealed;
};

std::unique_ptr<RecordKey> make_key(RecordKey::Backend backend) {
  const std::array<std::uint8_t, 16> bytes = {1, 2, 3};
  auto key = RecordKey::make(bytes, backend);
  DETOUR_CHECK(key != nullptr);
  return key;
}

/// Seals one record of range(0) bytes after the other with the same key.
void seal(benchmark::State& state, RecordKey::Backend backend) {
  const auto key = make_key(backend);
  Record record(static_cast<std::size_t>(state.range(0)));
  RecordKey::Nonce nonce{};
  for (auto _ : state) {
    ++nonce.back();
    DETOUR_CHECK(key->seal(nonce, kHeader, record.content, kApplicationData, record.sealed.data()));
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

void open(benchmark::State& state, RecordKey::Backend backend) {
  const auto key = make_key(backend);
  Record record(static_cast<std::size_t>(state.range(0)));
  const RecordKey::Nonce nonce{};
  DETOUR_CHECK(key->seal(nonce, kHeader, record.content, kApplicationData, record.sealed.data()));
  std::vector<std::uint8_t> out(record.content.size() + 1);
  for (auto _ : state) DETOUR_CHECK(key->open(nonce, kHeader, record.sealed, out.data()));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

/// For each backend that this machine has: a disco packet, a full packet, a full record.
[[maybe_unused]] const bool kRegistered = [] {
  for (const auto backend : {RecordKey::Backend::kIpsecMb, RecordKey::Backend::kEvp}) {
    if (!RecordKey::has_backend(backend)) continue;
    const auto name = RecordKey::name_of(backend);
    for (const int size : {100, 1437, 16384}) {
      benchmark::RegisterBenchmark(fmt::format("seal_record/{}", name).c_str(), seal, backend)
          ->Arg(size);
      benchmark::RegisterBenchmark(fmt::format("open_record/{}", name).c_str(), open, backend)
          ->Arg(size);
    }
  }
  return true;
}();

}  // namespace
}  // namespace detour::net
