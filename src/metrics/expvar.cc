#include "metrics/expvar.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

namespace detour::metrics {
namespace {

using nlohmann::ordered_json;

struct ExportedName {
  std::string_view name;
  std::string_view type;  ///< Empty when the key does not say.
};

[[nodiscard]] ExportedName split_key(std::string_view key) {
  for (const std::string_view type : {"counter", "gauge"}) {
    if (key.starts_with(type) && key.substr(type.size()).starts_with('_')) {
      return {.name = key.substr(type.size() + 1), .type = type};
    }
  }
  return {.name = key, .type = {}};
}

[[nodiscard]] std::string escape_label(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\' || c == '"') escaped += '\\';
    if (c == '\n') {
      escaped += "\\n";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

/// Counts below or at each bound, the last one being all of them.
[[nodiscard]] std::vector<std::uint64_t> cumulated(const std::vector<std::uint64_t>& buckets) {
  std::vector<std::uint64_t> sums(buckets.size());
  std::partial_sum(buckets.begin(), buckets.end(), sums.begin());
  return sums;
}

/// The label `le` of bucket `i`.
[[nodiscard]] std::string bound_text(const HistogramValues& histogram, std::size_t i) {
  return i < histogram.bounds.size() ? std::to_string(histogram.bounds[i]) : "+Inf";
}

/// Appends one variable to a Prometheus text; one call per kind of value.
class PrometheusWriter {
 public:
  void write(const Variable& variable, std::string_view group) {
    const auto [name, type] = split_key(variable.key);
    const std::string full_name =
        group.empty() ? std::string(name) : fmt::format("{}_{}", group, name);
    const Head head{.name = full_name, .type = type, .help = variable.help};
    std::visit([&](const auto& value) { write_value(head, value); }, variable.value);
  }

  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  struct Head {
    std::string_view name;
    std::string_view type;
    std::string_view help;
  };

  void write_head(const Head& head, std::string_view type) {
    if (!head.help.empty()) fmt::format_to(end(), "# HELP {} {}\n", head.name, head.help);
    if (!type.empty()) fmt::format_to(end(), "# TYPE {} {}\n", head.name, type);
  }
  void write_value(const Head& head, const Integer& integer) {
    write_head(head, head.type.empty() ? "counter" : head.type);
    fmt::format_to(end(), "{} {}\n", head.name, integer.value);
  }
  void write_value(const Head& head, const Computed& computed) {
    write_head(head, head.type);
    fmt::format_to(end(), "{} {}\n", head.name, format_number(computed.value));
  }
  void write_value(const Head& head, const LabelMap& map) {
    write_head(head, head.type);
    for (const auto& [label_value, value] : map.samples) {
      fmt::format_to(end(), "{}{{{}=\"{}\"}} {}\n", head.name, map.label, label_value, value);
    }
  }
  void write_value(const Head& head, const MultiLabelMap& map) {
    // TYPE before HELP here, as in the reference.
    fmt::format_to(end(), "# TYPE {} counter\n", head.name);
    fmt::format_to(end(), "# HELP {} {}\n", head.name, head.help);
    for (const auto& [labels, value] : map.samples) {
      fmt::format_to(end(), "{}{{{}}} {}\n", head.name, labels, value);
    }
  }
  void write_value(const Head& head, const HistogramValues& histogram) {
    write_head(head, "histogram");
    const auto counts = cumulated(histogram.buckets);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      fmt::format_to(end(), "{}_bucket{{le=\"{}\"}} {}\n", head.name, bound_text(histogram, i),
                     counts[i]);
    }
    fmt::format_to(end(), "{}_sum {}\n", head.name, histogram.sum);
    fmt::format_to(end(), "{}_count {}\n", head.name, counts.back());
  }
  void write_value(const Head& head, const Info& info) {
    std::string labels;
    for (const auto& [label, value] : info.labels) {
      if (!labels.empty()) labels += ',';
      fmt::format_to(std::back_inserter(labels), "{}=\"{}\"", label, escape_label(value));
    }
    fmt::format_to(end(), "{}{{{}}} 1\n", head.name, labels);
  }
  void write_value(const Head& /*head*/, const Text& /*text*/) {}
  void write_value(const Head& head, const Group& group) {
    for (const Variable& member : group.members) write(member, head.name);
  }

  [[nodiscard]] std::back_insert_iterator<std::string> end() { return std::back_inserter(out_); }

  std::string out_;
};

[[nodiscard]] ordered_json json_number(double value) {
  if (value == std::floor(value)) return static_cast<std::int64_t>(value);
  return value;
}

[[nodiscard]] ordered_json to_json(const Variable& variable);

struct JsonValue {
  ordered_json operator()(const Integer& integer) const { return integer.value; }
  ordered_json operator()(const Computed& computed) const { return json_number(computed.value); }
  ordered_json operator()(const LabelMap& map) const {
    auto object = ordered_json::object();
    for (const auto& [label_value, value] : map.samples) object[std::string(label_value)] = value;
    return object;
  }
  ordered_json operator()(const MultiLabelMap& /*map*/) const { return "MultiLabelMap"; }
  ordered_json operator()(const HistogramValues& histogram) const {
    auto object = ordered_json::object();
    const auto counts = cumulated(histogram.buckets);
    for (std::size_t i = 0; i < counts.size(); ++i) object[bound_text(histogram, i)] = counts[i];
    object["sum"] = histogram.sum;
    object["count"] = counts.back();
    return object;
  }
  ordered_json operator()(const Info& info) const { return info.labels.front().second; }
  ordered_json operator()(const Text& text) const { return text.value; }
  ordered_json operator()(const Group& group) const {
    auto object = ordered_json::object();
    for (const Variable& member : group.members) object[member.key] = to_json(member);
    return object;
  }
};

ordered_json to_json(const Variable& variable) {
  return std::visit(JsonValue{}, variable.value);
}

void sort_groups(std::vector<Variable>& variables) {
  for (Variable& variable : variables) {
    if (auto* group = std::get_if<Group>(&variable.value)) {
      std::ranges::sort(group->members, {}, &Variable::key);
    }
  }
}

}  // namespace

std::string format_number(double value) {
  return fmt::format("{}", value);
}

std::string write_prometheus(std::vector<Variable> variables) {
  sort_groups(variables);
  std::ranges::sort(variables, {},
                    [](const Variable& variable) { return split_key(variable.key).name; });
  PrometheusWriter writer;
  for (const Variable& variable : variables) writer.write(variable, /*group=*/"");
  return writer.take();
}

std::string write_json(std::vector<Variable> variables) {
  sort_groups(variables);
  std::ranges::sort(variables, {}, &Variable::key);
  std::string out = "{\n";
  for (const Variable& variable : variables) {
    if (out.size() > 2) out += ",\n";
    const auto replace = ordered_json::error_handler_t::replace;
    out += ordered_json(variable.key).dump() + ": " +
           to_json(variable).dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false, replace);
  }
  return out + "\n}\n";
}

}  // namespace detour::metrics
