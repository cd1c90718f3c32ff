# SPDX-License-Identifier: Apache-2.0
"""storm_py.py [threads|fork]

Threads that come, compute and go, or children that are forked and say by their
exit status whether they computed right. At the end: what went wrong, and how
long the main thread was held at most, without what it waited for a processor
or for the interpreter's lock."""
import json
import os
import select
import sys
import threading
import time

RIGHT = 7


def compute():
    table = {}
    for i in range(200):
        table["key%d" % i] = [i, str(i) * 3, {"n": i}]
    text = json.dumps(table, sort_keys=True)
    back = json.loads(text)
    return sum(len(k) + v[0] + v[2]["n"] for k, v in back.items()) + len(text)


class Storm:
    def __init__(self):
        self.right = compute()
        self.rounds = self.wrong = 0
        self.gap = 0.0

    def check(self):
        self.rounds += 1
        if compute() != self.right:
            self.wrong += 1


def delay():
    """What this thread has waited for a processor; unknown in a root without /proc."""
    try:
        with open("/proc/thread-self/schedstat") as file:
            return int(file.read().split()[1]) * 1e-9
    except FileNotFoundError:
        return 0.0


def threads(storm):
    made = [threading.Thread(target=storm.check) for _ in range(8)]
    for thread in made:
        thread.start()
    for thread in made:
        thread.join()


def fork(storm):
    pid = os.fork()
    if not pid:
        os._exit(RIGHT if compute() == storm.right else 1)
    _, status = os.waitpid(pid, 0)
    if not os.WIFEXITED(status) or os.WEXITSTATUS(status) != RIGHT:
        storm.wrong += 1
    storm.rounds += 1


def hold(storm):
    """One pass by itself, timed: the longest counts."""
    waited, began = delay(), time.monotonic()
    storm.check()
    storm.gap = max(storm.gap, time.monotonic() - began - (delay() - waited))


def main():
    storm = Storm()
    todo = {"threads": threads, "fork": fork}[sys.argv[1]]
    print(json.dumps({"ready": True, "pid": os.getpid()}), flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        todo(storm)
        hold(storm)
    print(json.dumps({"done": True, "digest": storm.right, "rounds": storm.rounds,
                      "wrong": storm.wrong, "gap_s": storm.gap}), flush=True)


main()
