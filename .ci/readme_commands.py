#!/usr/bin/env python3
"""Runs the commands that README.md shows, so that they stay true.

Fenced blocks count by their info string:
  sh                run as one script from the root of the repository; has to end with status 0
  sh serves         has to be still running after a moment, and to end with status 0 on SIGTERM
  sh elsewhere      not run here: proved by another step of .ci/run, or needs the reader's own machine
Everything else is text. Needs build/release/detour. Ends with the counts.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```sh *([a-z]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TIME_MAX_S = 120
SERVES_FOR_S = 3


def start(script):
    environment = dict(os.environ, PATH=f"{ROOT}/build/release:{os.environ['PATH']}")
    return subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(kind, script):
    """Whether the block did what it should, and what it printed."""
    # The shell makes way for the last command, so that the signal reaches it.
    process = start(f"exec {script.strip()}" if kind == "serves" else script)
    try:
        if kind == "serves":
            time.sleep(SERVES_FOR_S)
            if process.poll() is not None:
                return False, process.communicate()[0]
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=10)
        else:
            output, _ = process.communicate(timeout=TIME_MAX_S)
        return process.returncode == 0, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return False, process.communicate()[0] + "\n(did not end in time)"


def main():
    passed = failed = 0
    for kind, script in BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8")):
        if kind == "elsewhere":
            continue
        if kind not in ("", "serves"):
            print(f"README.md: unknown kind of block: sh {kind}")
            failed += 1
            continue
        good, output = run(kind, script)
        print(f"{'ok  ' if good else 'FAIL'} {script.strip()}")
        if good:
            passed += 1
        else:
            failed += 1
            print(output)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
