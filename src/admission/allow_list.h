#pragma once

#include <cstddef>
#include <expected>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "crypto/keys.h"

/// Who may log in: the sources that say so, and what follows from their answers.
namespace detour::admission {

/// The largest allow file: about a hundred thousand nodes.
inline constexpr std::size_t kAllowFileSizeMax = std::size_t{8} << 20;

struct HashKey {
  std::size_t operator()(const crypto::NodePublic& key) const;
};

/// How long a name in an allow file may be; what is behind is left out.
inline constexpr std::size_t kNodeNameMax = 64;

/// What an allow file calls its nodes.
using NodeNames = std::unordered_map<crypto::NodePublic, std::string, HashKey>;

/// The node keys of an allow file.
class AllowList {
 public:
  AllowList() = default;

  /// One node key a line, `nodekey:` and 64 hex digits, and behind it whatever helps people, such
  /// as the node's name. `#` begins a comment; empty lines do no harm.
  /// Where nothing but a comment stands behind a key, that is taken for the name.
  ///
  /// Fails when any line is something else, so that a slip of the pen never locks people out by
  /// halves. The text names `path`, the first bad lines by number, and what to write instead; never
  /// the content of a line, which may be a secret in the wrong place.
  [[nodiscard]] static std::expected<AllowList, std::string> parse(const std::string& path,
                                                                   std::string_view content);

  [[nodiscard]] bool contains(const crypto::NodePublic& key) const { return keys_.contains(key); }
  [[nodiscard]] std::size_t size() const { return keys_.size(); }
  /// Of the keys that have one. Shared, since whoever shows it works on other threads.
  [[nodiscard]] const std::shared_ptr<const NodeNames>& names() const { return names_; }

 private:
  std::unordered_set<crypto::NodePublic, HashKey> keys_;
  std::shared_ptr<const NodeNames> names_ = std::make_shared<NodeNames>();
};

}  // namespace detour::admission
