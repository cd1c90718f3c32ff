# SPDX-License-Identifier: Apache-2.0
"""cache_leak.py LOG [RATE [SIZE]]: appends an object to a module-level list,
RATE times a second, and never takes one out."""
import sys

from targetlib import LeakLog, paced, ready

CACHE = []


def remember(size):
    CACHE.append(bytes(size))  # LEAK


def main():
    log = LeakLog(sys.argv[1])
    rate = float(sys.argv[2]) if len(sys.argv) > 2 else 200.0
    size = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
    for _ in range(100):
        remember(size)
    # Room for some more: the list's array is not moved in the very moment in which
    # heaptap looks for the blocks that exist.
    CACHE.extend([None] * 70)
    del CACHE[100:]
    ready(function="remember", rate=rate, size=size)
    for _ in paced(rate):
        log.begin()
        remember(size)
        log.add(sys.getsizeof(CACHE[-1]), sys.getsizeof(CACHE))


if __name__ == "__main__":
    main()
