#include "load/report.h"

#include <fmt/format.h>

#include <cstdio>

namespace detour::load {

namespace {

double percent(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

void print_lines(const Report& report, const std::string& prefix) {
  for (const auto& [name, value] : report.items()) {
    if (value.is_object()) {
      print_lines(value, prefix + name + ".");
    } else if (value.is_number_float()) {
      fmt::print("{:<36} {:.3f}\n", prefix + name, value.get<double>());
    } else {
      fmt::print("{:<36} {}\n", prefix + name,
                 value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
}

}  // namespace

Report latency_report(const Histogram& histogram) {
  Report report;
  report["count"] = histogram.count();
  report["p50"] = micros_of(histogram.quantile_ns(0.50));
  report["p90"] = micros_of(histogram.quantile_ns(0.90));
  report["p99"] = micros_of(histogram.quantile_ns(0.99));
  report["p999"] = micros_of(histogram.quantile_ns(0.999));
  report["max"] = micros_of(histogram.max_ns());
  return report;
}

Usage::Usage(const ServerProcess& server)
    : server_(server),
      wall_start_(now_ns()),
      server_start_(server.cpu_ns()),
      own_start_(own_cpu_ns()) {}

void Usage::stop() {
  wall_ns_ = now_ns() - wall_start_;
  server_ns_ = server_.cpu_ns() - server_start_;
  own_ns_ = own_cpu_ns() - own_start_;
  resident_bytes_ = server_.resident_bytes();
}

void Usage::add_to(Report* report) const {
  (*report)["seconds"] = seconds();
  (*report)["generator_cpu_percent"] = percent(own_ns_, wall_ns_);
  if (!server_.is_watched()) return;
  (*report)["server_cpu_s"] = server_cpu_seconds();
  (*report)["server_cpu_percent"] = percent(server_ns_, wall_ns_);
  (*report)["server_rss_mib"] = static_cast<double>(resident_bytes_) / (1024.0 * 1024.0);
}

void print(const Report& report, bool as_json) {
  if (as_json) {
    fmt::print("{}\n", report.dump(2));
  } else {
    print_lines(report, "");
  }
  std::fflush(stdout);
}

}  // namespace detour::load
