#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/debug_access.h"
#include "admin/status.h"
#include "crypto/keys.h"

/// What the query of /debug/clients/ asks for, as derper understands it: which clients, in which
/// order, and from where on. Values in, values out.
namespace detour::admin {

enum class ClientSort : std::uint8_t {
  kKey,
  kIp,
  kConn,
  kConnected,
  kReceivedBytes,
  kSentBytes,
  kReceivedPackets,
  kSentPackets,
};

struct ClientColumn {
  std::string_view name;  ///< In `sort=`.
  ClientSort sort;
  std::string_view heading;

  [[nodiscard]] bool is_counter() const { return sort >= ClientSort::kReceivedBytes; }
};
/// In the order of the columns of the page.
inline constexpr std::array<ClientColumn, 8> kClientColumns = {
    {{"conn", ClientSort::kConn, "conn#"},
     {"key", ClientSort::kKey, "node key"},
     {"ip", ClientSort::kIp, "remote"},
     {"connected", ClientSort::kConnected, "connected"},
     {"rxpkts", ClientSort::kReceivedPackets, "rx pkts"},
     {"rx", ClientSort::kReceivedBytes, "rx bytes"},
     {"txpkts", ClientSort::kSentPackets, "tx pkts"},
     {"tx", ClientSort::kSentBytes, "tx bytes"}}};

/// What a client is sorted by; of the members the one that the order needs is set.
struct ClientPlace {
  crypto::NodePublic key{};
  IpBytes ip{};
  std::uint64_t number = 0;  ///< Port, nanoseconds since 1970, or count.

  friend auto operator<=>(const ClientPlace&, const ClientPlace&) = default;
};

/// A request for clients, understood.
struct ClientQuery {
  static constexpr std::size_t kLimitDefault = 100;
  static constexpr std::size_t kLimitMax = 1000;

  // At most one of these; without any the index is meant.
  bool all = false;
  std::optional<IpBytes> ip{};
  std::optional<IpPrefix> cidr{};
  std::string cidr_text{};
  std::optional<crypto::NodePublic> key{};

  std::vector<std::string> apps{};
  bool has_apps = false;
  ClientSort sort = ClientSort::kKey;
  bool descending = false;
  std::size_t limit = kLimitDefault;
  bool json = false;

  // The page begins behind this one.
  std::optional<ClientPlace> after{};
  std::optional<std::uint64_t> after_conn{};

  /// Reads the part of an address behind `?`. `status` says what time it is, for `after=30m`. The
  /// error says what is wrong, for the answer.
  [[nodiscard]] static std::expected<ClientQuery, std::string> parse(std::string_view text,
                                                                     const RelayStatus& status);

  [[nodiscard]] bool has_filter() const { return all || ip || cidr || key; }
  [[nodiscard]] bool matches(const ClientStatus& client) const;
  /// The clients that are asked for, in words.
  [[nodiscard]] std::string description() const;
  /// A relative address for the same clients in another order or from another place on. Its parts
  /// are in the order of the alphabet.
  [[nodiscard]] std::string link(std::string_view order, std::string_view behind = "",
                                 std::string_view behind_conn = "") const;
};

/// One page of the clients that a query asks for.
struct ClientPage {
  struct Entry {
    ClientPlace place;
    relay::ClientId conn;
    const ClientStatus* client;  ///< In the status that it was made of.
  };
  std::vector<Entry> entries{};
  std::size_t connections = 0;  ///< That match, wherever the page begins.
  std::size_t keys = 0;
  std::size_t remaining = 0;  ///< Behind this page.

  [[nodiscard]] static ClientPage make(const ClientQuery& query, const RelayStatus& status);
  /// A relative address for the page behind this one, which `query` asked for; empty when it is the
  /// last.
  [[nodiscard]] std::string next_link(const ClientQuery& query) const;
};

[[nodiscard]] std::int64_t unix_nanoseconds(WallTime time);
[[nodiscard]] WallTime connected_at(const RelayStatus& status, const ClientStatus& client);

}  // namespace detour::admin
