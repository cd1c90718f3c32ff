# SPDX-License-Identifier: Apache-2.0
"""What the Python targets share. Runs on every CPython from 3.6 on, with the
standard library alone."""
import json
import os
import signal
import sys
import time


class LeakLog(object):
    """A line a leak: time after it, blocks so far, bytes so far, the size of the
    container at that time, and the time before it."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.blocks = 0
        self.bytes = 0
        self.before = time.time()

    def begin(self):
        """Called right before a leak."""
        self.before = time.time()

    def add(self, size, container):
        self.blocks += 1
        self.bytes += size
        line = "%.9f %d %d %d %.9f\n" % (time.time(), self.blocks, self.bytes, container,
                                          self.before)
        os.write(self.fd, line.encode("ascii"))


def say(**what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def ready(**what):
    say(ready=True, pid=os.getpid(), version=list(sys.version_info[:3]), **what)


def paced(rate):
    """Yields `rate` times a second until SIGTERM, which raises SystemExit."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    period = 1.0 / rate
    due = time.monotonic()
    while True:
        due += period
        left = due - time.monotonic()
        if left > 0:
            time.sleep(left)
        yield
