#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

/// Variables in the form in which derper publishes them, and the two texts made of them.
///
/// A key may begin with `counter_` or `gauge_`: that is its type in Prometheus, where the prefix is
/// left out of the name. Without it, integers and integer maps of one label follow the rules noted
/// at each kind.
namespace detour::metrics {

struct Variable;

/// A number that is counted. A counter unless its key says otherwise.
struct Integer {
  std::uint64_t value;
};
/// A number that is computed when asked for. Untyped unless its key says otherwise.
struct Computed {
  double value;
};
/// One label, sorted by its value. Untyped unless the key says otherwise.
struct LabelMap {
  std::string_view label;
  std::vector<std::pair<std::string_view, std::uint64_t>> samples;
};
/// Several labels, written out (`reason="x",kind="y"`), in order. Always a counter. The JSON holds
/// no more than the words "MultiLabelMap", as in the reference.
struct MultiLabelMap {
  std::vector<std::pair<std::string, std::uint64_t>> samples;
};
/// Counts per bucket (not cumulative), one more than there are bounds, and the sum of all values.
struct HistogramValues {
  std::span<const std::uint64_t> bounds;
  std::vector<std::uint64_t> buckets;
  std::uint64_t sum;
};
/// A text that is also exported as a label: `name{version="1.2",binary="x"} 1`. The JSON holds the
/// first one alone.
struct Info {
  std::vector<std::pair<std::string_view, std::string>> labels;
};
/// A text that only the JSON has.
struct Text {
  std::string value;
};
/// Variables below a common name, sorted by key.
struct Group {
  std::vector<Variable> members;
};

struct Variable {
  std::string key;
  std::variant<Integer, Computed, LabelMap, MultiLabelMap, HistogramValues, Info, Text, Group>
      value;
  std::string_view help = "";  ///< Printed as `# HELP` when there is one.
};

/// Prometheus text: the top level sorted by name without type prefix, groups by key.
[[nodiscard]] std::string write_prometheus(std::vector<Variable> variables);

/// A JSON object of all variables, sorted by key.
[[nodiscard]] std::string write_json(std::vector<Variable> variables);

/// Whole numbers without a point, others with as many digits as tell them apart.
[[nodiscard]] std::string format_number(double value);

}  // namespace detour::metrics
