# SPDX-License-Identifier: Apache-2.0
"""ext_leak.py LOG DIR: calls an extension module (in DIR) that loses a block,
100 times a second."""
import sys

from targetlib import LeakLog, paced, ready

sys.path.insert(0, sys.argv[2])
import _leakext  # noqa: E402


def call_extension(size):
    _leakext.leak(size)  # LEAK


def main():
    log = LeakLog(sys.argv[1])
    ready(function="leak_site", size=1000)
    for _ in paced(100.0):
        log.begin()
        call_extension(1000)
        log.add(1000, 0)


if __name__ == "__main__":
    main()
