#include "config/rate_config.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <span>

#include "base/files.h"

namespace detour::config {
namespace {

constexpr std::size_t kFileSizeMax = 64 * 1024;
constexpr std::string_view kExample =
    R"({"PerClientRateLimitBytesPerSec": 1250000, "PerClientRateBurstBytes": 2500000})";

bool equal_in_any_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::ranges::equal(a, b, [&](char x, char y) { return lower(x) == lower(y); });
}

/// Keeps the fields in the order of the text, duplicates included.
class Fields final : public nlohmann::json_sax<nlohmann::json> {
 public:
  struct Field {
    std::string_view name;
    std::uint64_t value = 0;
    std::string wrong_type{};  ///< What is there instead of a whole number.
  };

  explicit Fields(std::span<Field> wanted) : wanted_(wanted) {}
  [[nodiscard]] bool is_object() const { return is_object_; }

  bool null() override {
    if (depth_ == 0) is_object_ = true;  // Go takes it for an empty one.
    return true;
  }
  bool boolean(bool value) override { return wrong(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return wrong(fmt::format("{}", value)); }
  bool number_unsigned(number_unsigned_t value) override {
    if (Field* field = current()) *field = {.name = field->name, .value = value};
    return true;
  }
  bool number_float(number_float_t /*value*/, const string_t& text) override { return wrong(text); }
  bool string(string_t& value) override { return wrong(fmt::format("{:?}", value)); }
  bool binary(binary_t& /*value*/) override { return false; }
  bool start_object(std::size_t /*elements*/) override {
    if (depth_ == 0) is_object_ = true;
    return wrong("an object") && descend();
  }
  bool key(string_t& name) override {
    if (depth_ == 1) name_ = name;
    return true;
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(std::size_t /*elements*/) override { return wrong("a list") && descend(); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(std::size_t /*position*/, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*cause*/) override {
    return false;
  }

 private:
  static constexpr int kDepthMax = 100;

  Field* current() {
    if (depth_ != 1) return nullptr;
    const auto it = std::ranges::find_if(
        wanted_, [this](const Field& field) { return equal_in_any_case(field.name, name_); });
    return it == wanted_.end() ? nullptr : &*it;
  }
  bool wrong(std::string_view what) {
    if (Field* field = current()) field->wrong_type = what;
    return true;
  }
  bool descend() { return ++depth_ <= kDepthMax; }

  std::span<Field> wanted_;
  std::string name_;
  int depth_ = 0;
  bool is_object_ = false;
};

}  // namespace

std::expected<RateConfig, std::string> parse_rate_config(const std::string& path,
                                                         std::string_view content) {
  Fields::Field wanted[] = {{.name = "PerClientRateLimitBytesPerSec"},
                            {.name = "PerClientRateBurstBytes"}};
  Fields fields(wanted);
  if (!nlohmann::json::sax_parse(content.begin(), content.end(), &fields))
    return std::unexpected(
        fmt::format("rate config {}: is not valid JSON; write for example {}", path, kExample));
  if (!fields.is_object())
    return std::unexpected(
        fmt::format("rate config {}: is not a JSON object; write for example {}", path, kExample));
  for (const auto& field : wanted) {
    if (!field.wrong_type.empty())
      return std::unexpected(
          fmt::format("rate config {}: {} is {}, and a whole number of bytes from 0 on is needed; "
                      "write for example {}",
                      path, field.name, field.wrong_type, kExample));
  }
  return RateConfig{.per_client_bytes_per_second = wanted[0].value,
                    .per_client_burst_bytes = wanted[1].value};
}

std::expected<RateConfig, std::string> load_rate_config(const std::string& path) {
  const auto content = read_file(path, kFileSizeMax);
  if (!content) return std::unexpected("rate config " + content.error().message);
  return parse_rate_config(path, *content);
}

}  // namespace detour::config
