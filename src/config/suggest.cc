#include "config/suggest.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

namespace detour::config {
namespace {

/// Longer words are nobody's slip of the finger, and the work below grows with the product.
constexpr std::size_t kWordSizeMax = 64;

std::string letters_of(std::string_view word) {
  std::string letters;
  for (const char c : word)
    if (c != '-' && c != '_') letters += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return letters;
}

/// Typing errors between two words (optimal string alignment).
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> cost(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) cost[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) cost[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

}  // namespace

std::optional<std::string_view> suggest(std::string_view word,
                                        std::span<const std::string_view> known) {
  const std::string letters = letters_of(word);
  if (letters.size() < 2 || letters.size() > kWordSizeMax) return std::nullopt;

  std::optional<std::string_view> best;
  std::size_t best_distance = 0;
  for (const auto candidate : known) {
    const std::string other = letters_of(candidate);
    const std::size_t errors = distance(letters, other);
    if (errors > std::max<std::size_t>(1, other.size() / 3)) continue;
    if (best && errors >= best_distance) continue;
    best = candidate;
    best_distance = errors;
  }
  return best;
}

}  // namespace detour::config
