#include "server/drop_log.h"

#include <fmt/format.h>

#include <chrono>
#include <string>
#include <utility>

#include "base/clock.h"

namespace detour::server {

namespace {

constexpr std::uint32_t kLinesAtOnce = 20;
constexpr Duration kLineInterval = std::chrono::seconds(1);

}  // namespace

void DropLog::watch(std::span<const std::string> keys) {
  std::map<crypto::NodePublic, Gates> gates;
  for (const std::string& text : keys) {
    const auto key = crypto::NodePublic::parse(text);
    if (!key) continue;
    Gates& of_key = gates[*key];
    while (of_key.size() < metrics::kDropReasonCount)
      of_key.push_back(std::make_unique<LogGate>(kLinesAtOnce, kLineInterval));
  }
  const std::lock_guard lock(mutex_);
  is_on_.store(!gates.empty(), std::memory_order_relaxed);
  gates_ = std::move(gates);
}

void DropLog::on_drop(const relay::Drop& drop) {
  std::uint64_t suppressed = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto found = gates_.find(drop.destination);
    if (found == gates_.end()) return;
    LogGate& gate = *found->second[static_cast<std::size_t>(drop.reason)];
    if (!gate.admit(Clock::now(), &suppressed)) return;
  }
  std::string line = fmt::format("drop: {}, {} bytes of {}, {} -> {}", metrics::label(drop.reason),
                                 drop.packet_size, metrics::label(drop.kind), drop.source.typed(),
                                 drop.destination.typed());
  if (suppressed != 0) line += fmt::format(" ({} more like this were not logged)", suppressed);
  log_.info(line);
}

}  // namespace detour::server
