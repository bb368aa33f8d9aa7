#pragma once

#include <cstddef>
#include <expected>
#include <string>
#include <string_view>
#include <unordered_set>

#include "crypto/keys.h"

/// Who may log in: the sources that say so, and what follows from their answers.
namespace detour::admission {

/// The largest allow file: about a hundred thousand nodes.
inline constexpr std::size_t kAllowFileSizeMax = std::size_t{8} << 20;

struct HashKey {
  std::size_t operator()(const crypto::NodePublic& key) const;
};

/// The node keys of an allow file.
class AllowList {
 public:
  AllowList() = default;

  /// One node key a line, `nodekey:` and 64 hex digits, and behind it whatever helps people, such
  /// as the node's name. `#` begins a comment; empty lines do no harm.
  ///
  /// Fails when any line is something else, so that a slip of the pen never locks people out by
  /// halves. The text names `path`, the first bad lines by number, and what to write instead; never
  /// the content of a line, which may be a secret in the wrong place.
  [[nodiscard]] static std::expected<AllowList, std::string> parse(const std::string& path,
                                                                   std::string_view content);

  [[nodiscard]] bool contains(const crypto::NodePublic& key) const { return keys_.contains(key); }
  [[nodiscard]] std::size_t size() const { return keys_.size(); }

 private:
  std::unordered_set<crypto::NodePublic, HashKey> keys_;
};

}  // namespace detour::admission
