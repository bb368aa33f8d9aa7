#!/usr/bin/env python3
"""Runs clang-tidy over the sources of src/, leaving out those that were clean when last looked at.

  .ci/tidy.py BUILD-FOLDER     a folder with compile_commands.json

A result is known again by what went into it: the clang-tidy program, the configuration, the compile
command, and the content of the source and of every header it read. Only clean results are kept, as
small files in $DETOUR_TIDY_CACHE, else in the user's cache folder; other clones find them too. What
was not used for thirty days is removed.
"""

import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIDY = "clang-tidy-19"
COMPILER = "clang++-19"
KEEP_SECONDS = 30 * 24 * 3600
# Clean results kept for one source and command: branches that are switched between.
VARIANTS_MAX = 8
SECONDS_MAX = 900


def cache_folder():
    given = os.environ.get("DETOUR_TIDY_CACHE")
    if given:
        return pathlib.Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "detour-tidy"


@functools.cache
def content_hash(path):
    """The hash of a file, or None if it cannot be read."""
    try:
        return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
    except OSError:
        return None


def portable(text):
    return text.replace(str(ROOT), "@")


def absolute(text):
    return text.replace("@", str(ROOT), 1) if text.startswith("@") else text


def sources(build):
    """The compile command of each source of src/, by its path."""
    commands = json.loads((build / "compile_commands.json").read_text())
    found = {}
    for entry in commands:
        path = pathlib.Path(entry["directory"], entry["file"])
        if path.is_relative_to(ROOT / "src"):
            found[path] = entry
    return found


def command_of(entry):
    return shlex.split(entry["command"]) if "command" in entry else entry["arguments"]


def headers_of(entry):
    """Every file that the source reads, from the compiler."""
    words = command_of(entry)
    if "-o" in words:
        at = words.index("-o")
        words = words[:at] + words[at + 2:]
    words = [COMPILER, *(word for word in words[1:] if word not in ("-c", "-MD")), "-M"]
    made = subprocess.run(words, cwd=entry["directory"], capture_output=True, text=True,
                          timeout=SECONDS_MAX, check=True)
    rule = made.stdout.replace("\\\n", " ").split(":", 1)[1]
    # The only escape that the compiler writes here is the one before a space.
    names = re.findall(r"(?:\\ |\S)+", rule)
    return sorted({os.path.normpath(os.path.join(entry["directory"], name.replace("\\ ", " ")))
                   for name in names})


class Cache:
    def __init__(self, folder, salt):
        self.folder = folder
        self.salt = salt
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.json"):
            if time.time() - old.stat().st_mtime > KEEP_SECONDS:
                old.unlink(missing_ok=True)

    def _file(self, path, entry):
        text = "\0".join([self.salt, portable(str(path)), *map(portable, command_of(entry))])
        return self.folder / (hashlib.sha256(text.encode()).hexdigest() + ".json")

    def _variants(self, file):
        try:
            return json.loads(file.read_text())
        except (OSError, ValueError):
            return []

    def knows(self, path, entry):
        file = self._file(path, entry)
        for read in self._variants(file):
            if all(content_hash(absolute(name)) == digest for name, digest in read.items()):
                os.utime(file)
                return True
        return False

    def keep(self, path, entry):
        file = self._file(path, entry)
        read = {portable(name): content_hash(name) for name in headers_of(entry)}
        variants = [read, *(other for other in self._variants(file) if other != read)]
        new = file.with_suffix(f".{os.getpid()}.new")
        new.write_text(json.dumps(variants[:VARIANTS_MAX]))
        new.replace(file)


def check(build, cache, path, entry):
    """What clang-tidy says of a source, or None if it is clean."""
    done = subprocess.run([TIDY, "-quiet", "-p", str(build), str(path)], capture_output=True,
                          text=True, timeout=SECONDS_MAX, check=False)
    if done.returncode == 0 and not done.stdout.strip():
        cache.keep(path, entry)
        return None
    # Of what it writes there, only the reason why it could not run is news.
    noise = re.compile(r"\d+ warnings?( and \d+ errors?)? (generated|treated as errors)")
    errors = [line for line in done.stderr.splitlines(keepends=True) if not noise.search(line)]
    return done.stdout + "".join(errors)


def main(build):
    version = subprocess.run([TIDY, "--version"], capture_output=True, text=True, check=True).stdout
    # What this script asks for is part of the question, too.
    salt = "\0".join([version, (ROOT / ".clang-tidy").read_text(), content_hash(__file__)])
    cache = Cache(cache_folder(), salt)
    found = sources(build)
    if not found:
        sys.exit(f"tidy: {build}/compile_commands.json names no source of src/")
    todo = {path: entry for path, entry in found.items() if not cache.knows(path, entry)}
    print(f"tidy: {len(found)} sources, {len(found) - len(todo)} known to be clean", flush=True)
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for said in pool.map(lambda item: check(build, cache, *item), todo.items()):
            if said is not None:
                bad += 1
                print(said, end="", flush=True)
    print(f"tidy: {bad} of {len(found)} sources have findings")
    return 1 if bad else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))
