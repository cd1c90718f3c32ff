# SPDX-License-Identifier: Apache-2.0
"""healthy_deque.py LOG [RATE [SIZE]]: as cache_leak.py, but each new object
takes the place of the oldest of a thousand. Full before it says ready."""
import collections
import sys

from targetlib import LeakLog, paced, ready

CACHE = collections.deque(maxlen=1000)


def remember(size):
    CACHE.append(bytes(size))  # LEAK


def main():
    log = LeakLog(sys.argv[1])
    rate = float(sys.argv[2]) if len(sys.argv) > 2 else 200.0
    size = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
    for _ in range(2500):
        remember(size)
    ready(function="remember", rate=rate, size=size)
    for _ in paced(rate):
        log.begin()
        remember(size)
        log.add(sys.getsizeof(CACHE[-1]), sys.getsizeof(CACHE))


if __name__ == "__main__":
    main()
