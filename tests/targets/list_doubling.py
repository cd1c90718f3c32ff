# SPDX-License-Identifier: Apache-2.0
"""list_doubling.py LOG: a list of many slots doubles them once a second, ten
times; growth is new minus old."""
import sys

from targetlib import LeakLog, paced, ready

TABLE = [None] * 50000


def double():
    global TABLE
    TABLE *= 2  # LEAK


def main():
    log = LeakLog(sys.argv[1])
    log.add(0, sys.getsizeof(TABLE))
    ready(function="double", slots=len(TABLE))
    for step, _ in enumerate(paced(1.0)):
        if step < 10:
            log.begin()
            double()
            log.add(0, sys.getsizeof(TABLE))


if __name__ == "__main__":
    main()
