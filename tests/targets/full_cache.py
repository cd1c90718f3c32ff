# SPDX-License-Identifier: Apache-2.0
"""full_cache.py LOG KIND COUNT SIZE: a deque, or an OrderedDict that drops what
was used longest ago, with COUNT objects of SIZE bytes, full before it says ready
and for ever on the move from then on. Every few milliseconds a line of LOG:
the time, and how many bytes have gone through so far."""
import collections
import os
import sys
import time

from targetlib import ready

CACHE = collections.OrderedDict()
DEQUE = collections.deque()


def through_deque(number, size, count):
    if len(DEQUE) == count:
        DEQUE.popleft()
    DEQUE.append(bytes(size))  # DEQUE


def through_cache(number, size, count):
    # one in three is found
    if number % 3 == 0 and CACHE:
        CACHE.move_to_end(next(iter(CACHE)))
        return
    if len(CACHE) == count:
        CACHE.popitem(last=False)
    CACHE[number] = bytes(size)  # CACHE


def main():
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    put = {"deque": through_deque, "cache": through_cache}[sys.argv[2]]
    count, size = int(sys.argv[3]), int(sys.argv[4])
    number = 0
    # a dict's table has its last size after it was made anew some times
    while len(DEQUE) + len(CACHE) < count or number < 30 * count:
        number += 1
        put(number, size, count)
    one = sys.getsizeof(bytes(size))
    ready(count=count, bytes=one)
    through = 0
    while True:
        for _ in range(200):
            number += 1
            put(number, size, count)
        through += one * (200 if DEQUE else 133)
        os.write(log, b"%.9f %d\n" % (time.time(), through))
        time.sleep(0.002)


if __name__ == "__main__":
    main()
