#!/usr/bin/env python3
"""Reads `go test -json` on standard input and says it shortly.

One line per package, the full output of every test that failed, and the counts. The only argument
names a file that receives "PASSED FAILED". A test counts when it has no subtests, so a table counts
by its rows. Skipped tests are listed and count as failed: a run that leaves something out must not
look like one that proved it. Two reasons are only listed: "left out with -short", and "not for derper"
when the tests run against it, for what it does not have.
"""

import collections
import json
import os
import sys


def main(counts_path):
    against_derper = os.environ.get("INTEROP_RELAY") == "derper"
    output = collections.defaultdict(list)
    results = {}
    parents = set()
    broken_packages = []
    build_output = []

    for line in sys.stdin:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            print(line, end="")
            continue
        action, package, test = event.get("Action"), event.get("Package", ""), event.get("Test", "")
        if action == "build-output":
            build_output.append(event.get("Output", ""))
        elif action == "output":
            output[package, test].append(event.get("Output", ""))
        elif action == "run" and "/" in test:
            for end in (i for i, c in enumerate(test) if c == "/"):
                parents.add((package, test[:end]))
        elif action in ("pass", "fail", "skip") and test:
            results[package, test] = action
            if action == "fail":
                print("".join(output[package, test]), end="")
        elif action in ("pass", "fail", "skip"):
            seconds = event.get("Elapsed", 0)
            if action == "fail":
                tests_failed = any(p == package and r == "fail" for (p, _), r in results.items())
                if not tests_failed:
                    broken_packages.append(package)
                    print("".join(output[package, ""]), end="")
            no_tests = not any(p == package for p, _ in results)
            if not (action != "fail" and no_tests):
                print(f"{'ok  ' if action != 'fail' else 'FAIL'} {package}  {seconds:.1f} s", flush=True)

    print("".join(build_output), end="")

    leaves = {k: r for k, r in results.items() if k not in parents}
    # A parent may fail by itself, after its subtests have passed.
    for key in parents:
        if results.get(key) == "fail" and not any(
            r == "fail" and k[0] == key[0] and k[1].startswith(key[1] + "/") for k, r in leaves.items()
        ):
            leaves[key] = "fail"
    passed = sum(r == "pass" for r in leaves.values())
    failed = sum(r == "fail" for r in leaves.values()) + len(broken_packages)
    skipped = [k for k, r in leaves.items() if r == "skip"]
    started = {k for k in output if k[1]} - set(results)
    for package, test in sorted(started):
        if (package, test) not in parents:
            print(f"FAIL {package} {test}: did not end")
            failed += 1
    for package, test in sorted(skipped):
        reason = "".join(output[package, test])
        if "left out with -short" in reason or (against_derper and "not for derper: " in reason):
            print(f"left out: {package} {test}")
        else:
            print(f"FAIL {package} {test}: skipped\n{reason}", end="")
            failed += 1
    print(f"Go: {passed} tests passed, {failed} failed")
    with open(counts_path, "w", encoding="utf-8") as counts:
        counts.write(f"{passed} {failed}\n")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
