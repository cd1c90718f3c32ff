# SPDX-License-Identifier: Apache-2.0
"""threads_py.py: threads parked in a lock, a read, a sleep, a C function that
calls back, a generator and a comprehension. Says for each thread (native id)
the frames it stands in, innermost first, as the interpreter itself sees them.
The main thread waits for the end of standard input."""
import functools
import os
import sys
import threading
import time

from targetlib import ready

FOREVER = 100000
LOCK = threading.Lock()
PIPE = os.pipe()


def in_lock():
    LOCK.acquire()


def in_read():
    os.read(PIPE[0], 1)


def in_sleep():
    time.sleep(FOREVER)


def deep(depth):
    if depth:
        return deep(depth - 1)
    return time.sleep(FOREVER)


def in_recursion():
    deep(20)


def callback(left, right):
    time.sleep(FOREVER)


def in_c_call():
    functools.reduce(callback, [1, 2, 3])


def generator():
    yield 1
    time.sleep(FOREVER)
    yield 2


def in_generator():
    for _ in generator():
        pass


def in_comprehension():
    return [time.sleep(FOREVER) for _ in range(2)]


def in_lambda():
    return sorted([2, 1], key=lambda item: time.sleep(FOREVER))


class Thing(object):
    def __repr__(self):
        time.sleep(FOREVER)
        return ""


def in_method():
    return "%r" % Thing()


BODIES = [in_lock, in_read, in_sleep, in_recursion, in_c_call, in_generator,
          in_comprehension, in_lambda, in_method]


def stack_of(frame):
    frames = []
    while frame is not None:
        frames.append([frame.f_code.co_name, frame.f_code.co_filename, frame.f_lineno])
        frame = frame.f_back
    return frames


def waits_in_kernel(thread):
    if not os.path.exists("/proc/self/task"):
        return True
    with open("/proc/self/task/%d/stat" % thread.native_id) as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"


def wait_until_parked(threads):
    """Until two looks, a moment apart, see the same."""
    before = None
    while True:
        frames = sys._current_frames()
        now = [(frames[t.ident].f_code.co_name, frames[t.ident].f_lasti)
               for t in threads if t.ident in frames]
        if now == before and len(now) == len(threads) and all(map(waits_in_kernel, threads)):
            return
        before = now
        time.sleep(0.2)


def main():
    LOCK.acquire()
    threads = [threading.Thread(target=body, name=body.__name__) for body in BODIES]
    for thread in threads:
        thread.daemon = True
        thread.start()
    wait_until_parked(threads)
    frames = sys._current_frames()
    stacks = dict((str(t.native_id), stack_of(frames[t.ident])) for t in threads)
    del frames
    ready(stacks=stacks, main=threading.main_thread().native_id)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
