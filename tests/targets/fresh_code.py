# SPDX-License-Identifier: Apache-2.0
"""fresh_code.py LOG [RATE]: runs a piece of code that was just compiled, RATE
times a second, and forgets it: the next one lies where it lay. Each appends an
object to a module-level list, by turns in the third line and in the eleventh."""
import sys

from targetlib import LeakLog, paced, ready

KEPT = []
LINES = (3, 11)


def run(line):
    exec(compile("\n" * (line - 1) + "KEPT.append(bytes(400))", "fresh", "exec"))


def main():
    log = LeakLog(sys.argv[1])
    rate = float(sys.argv[2]) if len(sys.argv) > 2 else 400.0
    for line in LINES * 50:
        run(line)
    ready(lines=LINES, rate=rate)
    for i, _ in enumerate(paced(rate)):
        log.begin()
        run(LINES[i % len(LINES)])
        log.add(sys.getsizeof(KEPT[-1]), 0)


if __name__ == "__main__":
    main()
