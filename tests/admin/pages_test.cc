#include "admin/pages.h"

#include <gtest/gtest.h>

namespace detour::admin {
namespace {

using namespace std::chrono_literals;

TEST(FormatDuration, WritesDurationsAsGoDoes) {
  EXPECT_EQ(format_duration(0s), "0s");
  EXPECT_EQ(format_duration(59s), "59s");
  EXPECT_EQ(format_duration(60s), "1m0s");
  EXPECT_EQ(format_duration(995s), "16m35s");
  EXPECT_EQ(format_duration(3600s), "1h0m0s");
  EXPECT_EQ(format_duration(100h + 1s), "100h0m1s");
}

TEST(EscapeHtml, ReplacesWhatMeansSomething) {
  EXPECT_EQ(escape_html(R"(<a href="x">'&'</a>)"),
            "&lt;a href=&#34;x&#34;&gt;&#39;&amp;&#39;&lt;/a&gt;");
  EXPECT_EQ(escape_html("plain"), "plain");
}

TEST(RenderHomePage, SaysWhatThisIs) {
  const auto page = render_home_page(/*derp_enabled=*/true, /*link_debug=*/false);
  EXPECT_TRUE(page.contains("<h1>DERP</h1>"));
  EXPECT_FALSE(page.contains("disabled"));
  EXPECT_FALSE(page.contains("/debug/"));
  EXPECT_TRUE(render_home_page(/*derp_enabled=*/false, /*link_debug=*/false).contains("disabled"));
  EXPECT_TRUE(render_home_page(/*derp_enabled=*/true, /*link_debug=*/true).contains("/debug/"));
}

TEST(RenderDebugIndex, TellsTheFactsEscaped) {
  const auto page = render_debug_index({.uptime = 61s,
                                        .version = "0.1.0",
                                        .machine = "<vm>",
                                        .hostname = "derp1.example.com",
                                        .has_mesh_key = true});
  for (const auto text : {"1m1s", "0.1.0", "&lt;vm&gt;", "derp1.example.com",
                          "<b>Mesh key:</b> true", "/debug/vars", "/debug/varz"}) {
    EXPECT_TRUE(page.contains(text)) << text;
  }
  const auto plain = render_debug_index(
      {.uptime = 0s, .version = "", .machine = "", .hostname = "", .has_mesh_key = false});
  EXPECT_FALSE(plain.contains("TLS hostname"));
  EXPECT_TRUE(plain.contains("<b>Mesh key:</b> false"));
}

}  // namespace
}  // namespace detour::admin
