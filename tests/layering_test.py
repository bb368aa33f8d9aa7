#!/usr/bin/env python3
"""Holds src/ to its layers: who may include whom, and how includes are written.

Run it directly, or through ctest as `layering`. The rules are in docs/architecture.md ("Layers").
The first test reads this source tree; the others feed made-up trees to the same checks, so that a
check which finds nothing any more is found out.
"""

import pathlib
import re
import tempfile
import textwrap
import unittest

# Folder -> folders it may use directly; what those use may be used too. Lowest first: a folder only
# names folders above its own line, so the table cannot hold a cycle.
ARROWS = {
    "base": [],
    "crypto": ["base"],
    "derp": ["base", "crypto"],
    "stun": ["base"],
    "http": ["base"],
    "metrics": ["base"],
    "net": ["base", "metrics"],
    "relay": ["derp", "metrics"],
    "client": ["derp", "http", "net"],
    "load": ["client", "stun"],
    "admin": ["http", "relay"],
    "acme": ["http", "net"],
    "admission": ["base", "crypto", "metrics"],
    "config": ["base", "crypto"],
    "doctor": ["client", "acme", "admission", "stun", "http", "config"],
    "server": ["relay", "net", "derp", "stun", "http", "metrics", "client", "admin", "acme", "admission", "config"],
    "cli": ["server", "admin", "client", "load", "config", "doctor"],
}

# Folders that decide and leave the doing to others: no socket, file, thread, or log of their own.
PURE = {"derp", "stun", "http", "metrics", "relay", "admin"}
DOES_THINGS = re.compile(
    r"(sys/(socket|epoll|uio|un|stat|eventfd|timerfd|select|wait)\.h|poll\.h|unistd\.h|fcntl\.h|netdb\.h|"
    r"thread|fstream|iostream|filesystem|pthread\.h|openssl/ssl\.h|openssl/bio\.h|curl/.*|spdlog/.*)$"
)

THIRD_PARTY = re.compile(r"(openssl|sodium|sodium\.h|fmt|spdlog|nlohmann|boost|CLI|curl|wslay|yaml-cpp|intel-ipsec-mb\.h)(/|$)")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def reachable(folder):
    """The folders that `folder` may use, its own included."""
    seen = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        if here not in seen:
            seen.add(here)
            waiting += ARROWS[here]
    return seen


def read_includes(path):
    """The includes of a file in order: (text, whether in quotes)."""
    text = path.read_text(encoding="utf-8")
    # Comments go first, but not the // inside an include's own text.
    text = COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
    return [(m.group(1) or m.group(2), m.group(1) is not None) for m in INCLUDE.finditer(text)]


def check_file(src, path, includes):
    """The faults of one file as sentences."""
    name = path.relative_to(src).as_posix()
    folder = name.split("/")[0]
    allowed = reachable(folder)
    for text, quoted in includes:
        if not quoted:
            if (src / text).is_file():
                yield f"{name}: write <{text}> with quotes, it is ours"
            if folder in PURE and DOES_THINGS.match(text):
                yield f"{name}: {folder}/ decides and does no I/O, so it does not include <{text}>"
            if folder == "base" and THIRD_PARTY.match(text) and not text.startswith("fmt/"):
                yield f"{name}: base/ uses the standard library and fmt only, not <{text}>"
            continue
        if not (src / text).is_file() or ".." in text.split("/"):
            yield f'{name}: "{text}" is no file below src/; includes start at src/'
            continue
        target = text.split("/")[0]
        if target not in allowed:
            yield f'{name}: {folder}/ may not use {target}/ ("{text}")'

    header = path.with_suffix(".h")
    if path.suffix == ".cc" and header.is_file():
        own = header.relative_to(src).as_posix()
        if not includes or includes[0] != (own, True):
            yield f'{name}: include "{own}" first, so that it is known to stand alone'


def find_cycle(edges):
    """One cycle among `edges` (file -> files it includes), as a list, or None."""
    done, trail = set(), []

    def visit(file):
        if file in trail:
            return trail[trail.index(file) :] + [file]
        if file in done:
            return None
        trail.append(file)
        for other in edges.get(file, ()):
            cycle = visit(other)
            if cycle:
                return cycle
        trail.pop()
        done.add(file)
        return None

    for file in sorted(edges):
        cycle = visit(file)
        if cycle:
            return cycle
    return None


def linked_folders(cmake_lists):
    """The folders whose libraries a folder's CMakeLists.txt names."""
    text = re.sub(r"#[^\n]*", "", cmake_lists.read_text(encoding="utf-8"))
    return set(re.findall(r"\bdetour::(\w+)", text))


def check_tree(src):
    """Every fault of a source tree as a sentence."""
    faults = []
    edges = {}
    for folder in sorted(p for p in src.iterdir() if p.is_dir()):
        files = sorted(p for p in folder.rglob("*") if p.suffix in {".h", ".cc"})
        if folder.name not in ARROWS:
            if files:
                faults.append(f"{folder.name}/: not in the table of layers; give it a place there")
            continue
        for path in files:
            includes = read_includes(path)
            edges[path.relative_to(src).as_posix()] = [text for text, quoted in includes if quoted]
            faults += check_file(src, path, includes)
        cmake_lists = folder / "CMakeLists.txt"
        if cmake_lists.is_file():
            for other in sorted(linked_folders(cmake_lists) - reachable(folder.name)):
                faults.append(f"{folder.name}/CMakeLists.txt: {folder.name}/ may not link {other}/")
    cycle = find_cycle(edges)
    if cycle:
        faults.append("includes go in a circle: " + " -> ".join(cycle))
    return faults


class ThisTree(unittest.TestCase):
    def test_the_sources_keep_to_their_layers(self):
        src = pathlib.Path(__file__).resolve().parent.parent / "src"
        faults = check_tree(src)
        self.assertEqual([], faults, "\n" + "\n".join(faults))

    def test_the_table_names_only_lower_folders(self):
        above = set()
        for folder, uses in ARROWS.items():
            self.assertLessEqual(set(uses), above, folder)
            above.add(folder)


class MadeUpTrees(unittest.TestCase):
    def faults(self, files):
        with tempfile.TemporaryDirectory() as directory:
            src = pathlib.Path(directory)
            for name, text in files.items():
                path = src / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(textwrap.dedent(text), encoding="utf-8")
            return check_tree(src)

    def assert_fault(self, pattern, files):
        faults = self.faults(files)
        self.assertEqual(1, len(faults), faults)
        self.assertRegex(faults[0], pattern)

    def test_a_tree_that_keeps_the_rules_has_no_fault(self):
        self.assertEqual(
            [],
            self.faults(
                {
                    "base/bytes.h": "#include <cstdint>\n",
                    "derp/frame.h": '// #include "cli/main.h"\n#include "base/bytes.h"\n',
                    "derp/frame.cc": '#include "derp/frame.h"\n\n#include <array>\n',
                    "relay/route.h": '#include "base/bytes.h"\n#include "derp/frame.h"\n',
                    "relay/CMakeLists.txt": "detour_library(relay DEPS detour::derp)\n",
                    "cli/main.cc": '#include "relay/route.h"\n',
                }
            ),
        )

    def test_a_lower_layer_does_not_include_an_upper_one(self):
        self.assert_fault(
            r"derp/frame\.h: derp/ may not use relay/",
            {"derp/frame.h": '#include "relay/route.h"\n', "relay/route.h": ""},
        )

    def test_siblings_without_an_arrow_do_not_include_each_other(self):
        self.assert_fault(
            r"stun/stun\.h: stun/ may not use crypto/",
            {"stun/stun.h": '#  include "crypto/keys.h"\n', "crypto/keys.h": ""},
        )

    def test_a_lower_layer_does_not_link_an_upper_one(self):
        self.assert_fault(
            r"http/CMakeLists\.txt: http/ may not link server/",
            {"http/CMakeLists.txt": "detour_library(http DEPS detour::base detour::server)\n"},
        )

    def test_a_source_file_includes_its_own_header_first(self):
        self.assert_fault(
            r'derp/frame\.cc: include "derp/frame\.h" first',
            {"derp/frame.h": "", "derp/frame.cc": '#include <array>\n#include "derp/frame.h"\n'},
        )

    def test_includes_start_at_src(self):
        for text in ("frame.h", "../derp/frame.h", "derp/none.h"):
            with self.subTest(text):
                self.assert_fault(
                    "includes start at src/",
                    {"derp/frame.h": "", "derp/parse.cc": f'#include "{text}"\n'},
                )

    def test_our_headers_are_not_written_with_angle_brackets(self):
        self.assert_fault(
            "with quotes", {"base/bytes.h": "", "derp/frame.h": "#include <base/bytes.h>\n"}
        )

    def test_includes_do_not_go_in_a_circle(self):
        self.assert_fault(
            r"circle: derp/a\.h -> derp/b\.h -> derp/a\.h",
            {"derp/a.h": '#include "derp/b.h"\n', "derp/b.h": '#include "derp/a.h"\n'},
        )

    def test_pure_folders_do_no_io(self):
        for header in ("sys/socket.h", "thread", "openssl/ssl.h", "spdlog/spdlog.h"):
            with self.subTest(header):
                self.assert_fault("does no I/O", {"relay/route.h": f"#include <{header}>\n"})

    def test_base_uses_the_standard_library_and_fmt_only(self):
        self.assertEqual([], self.faults({"base/log.h": "#include <fmt/format.h>\n"}))
        self.assert_fault("standard library", {"base/log.h": "#include <curl/curl.h>\n"})

    def test_a_folder_outside_the_table_is_a_fault(self):
        self.assert_fault("not in the table", {"misc/helpers.h": ""})


if __name__ == "__main__":
    unittest.main()
