# SPDX-License-Identifier: Apache-2.0
"""threads_load.py: threads that allocate, compute and hand over to each other;
says at the end of standard input how many rounds were made and how many came
out wrong."""
import queue
import sys
import threading

from targetlib import ready, say

STOP = threading.Event()


def work(number):
    table = {}
    for n in range(200):
        table["key %d" % n] = [n, str(n * number), (n, number)]
    return sum(len(text) + first for first, text, _ in table.values())


def worker(number, right, inbox, outbox, wrong):
    while not STOP.is_set():
        token = inbox.get()
        if work(number) != right:
            wrong.append(number)
        outbox.put(token + 1)
        STOP.wait(0.002)


def main():
    count = 4
    queues = [queue.Queue() for _ in range(count)]
    wrong = []
    threads = []
    for n in range(count):
        threads.append(threading.Thread(
            target=worker, daemon=True,
            args=(n, work(n), queues[n], queues[(n + 1) % count], wrong)))
    for box in queues:
        box.put(0)
    for thread in threads:
        thread.start()
    ready(threads=count)
    sys.stdin.read()
    STOP.set()
    for box in queues:
        box.put(0)
    for thread in threads:
        thread.join(10)
    alive = sum(thread.is_alive() for thread in threads)
    tokens = 0
    for box in queues:
        while not box.empty():
            tokens = max(tokens, box.get())
    say(done=True, rounds=tokens, wrong=len(wrong), alive=alive)


if __name__ == "__main__":
    main()
