#include "admission/allow_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace detour::admission {
namespace {

constexpr std::string_view kWhiteSpace = " \t\r\v\f";
constexpr int kFaultsNamedMax = 5;

std::string_view first_word(std::string_view line) {
  line = line.substr(0, line.find('#'));
  const std::size_t begin = line.find_first_not_of(kWhiteSpace);
  if (begin == std::string_view::npos) return {};
  line.remove_prefix(begin);
  return line.substr(0, line.find_first_of(kWhiteSpace));
}

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kWhiteSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kWhiteSpace) + 1 - begin);
}

/// What stands behind the key of a line: the name in front of a comment, or else the comment.
std::string name_in(std::string_view line, std::string_view key) {
  std::string clean(line.substr(line.find(key) + key.size()));
  // Names end up on terminals.
  std::ranges::replace_if(
      clean, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  const std::string_view rest = clean;
  std::string_view name = trimmed(rest.substr(0, rest.find('#')));
  if (name.empty() && rest.find('#') != std::string_view::npos)
    name = trimmed(rest.substr(rest.find('#') + 1));
  if (name.size() > kNodeNameMax) {
    std::size_t size = kNodeNameMax;
    // Not in the middle of a character of UTF-8.
    while (size != 0 && (static_cast<unsigned char>(name[size]) & 0xc0U) == 0x80U) --size;
    name = trimmed(name.substr(0, size));
  }
  return std::string(name);
}

std::string_view what_is_wrong(std::string_view word) {
  if (word.starts_with("privkey:"))
    return "is a private key, which belongs to its node alone; make a new one there";
  if (word.starts_with("nodekey:")) return "has a node key that is not nodekey: and 64 hex digits";
  if (word.starts_with("mkey:") || word.starts_with("discokey:"))
    return "has a key of another kind; the node key begins with nodekey:";
  return "does not begin with a node key (nodekey: and 64 hex digits)";
}

}  // namespace

std::size_t HashKey::operator()(const crypto::NodePublic& key) const {
  // Keys are random but for those of whoever may write the file.
  std::size_t hash;
  std::memcpy(&hash, key.bytes().data(), sizeof hash);
  return hash;
}

std::expected<AllowList, std::string> AllowList::parse(const std::string& path,
                                                       std::string_view content) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (content.starts_with(kByteOrderMark)) content.remove_prefix(kByteOrderMark.size());

  AllowList list;
  NodeNames names;
  std::string faults;
  int faults_count = 0;
  for (int number = 1; !content.empty(); ++number) {
    const std::string_view line = content.substr(0, content.find('\n'));
    content.remove_prefix(std::min(content.size(), line.size() + 1));
    const std::string_view word = first_word(line);
    if (word.empty()) continue;
    const auto key = crypto::NodePublic::parse(word);
    if (key && !key->is_zero()) {
      list.keys_.insert(*key);
      if (auto name = name_in(line, word); !name.empty()) names[*key] = std::move(name);
      continue;
    }
    if (++faults_count > kFaultsNamedMax) continue;
    if (!faults.empty()) faults += "; ";
    faults += fmt::format("line {} {}", number,
                          key ? "has the key of zeros, which is nobody's" : what_is_wrong(word));
  }
  if (faults_count == 0) {
    list.names_ = std::make_shared<const NodeNames>(std::move(names));
    return list;
  }
  if (faults_count > kFaultsNamedMax)
    faults += fmt::format("; {} more lines are wrong", faults_count - kFaultsNamedMax);
  return std::unexpected(fmt::format(
      "allow file {}: {}; write one node key a line, as `tailscale status --json` gives it in "
      "PublicKey, and mark comments with #",
      path, faults));
}

}  // namespace detour::admission
