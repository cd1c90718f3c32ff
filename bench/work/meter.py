# SPDX-License-Identifier: Apache-2.0
"""What the Python workloads share: they do one operation after the other, leak
1 MiB a second beside it, and say ten times a second what they have done, one
JSON object a line: "from" and "to" are the monotonic clock, "ops" the operations
between them, "leaked" all bytes leaked so far. SIGTERM ends them; where
tracemalloc was on they then say which line grew most.
"""
import json
import os
import signal
import sys
import time
import tracemalloc

REPORT_S = 0.1
LEAKED_PER_S = 1 << 20

_ended = []


def _say(**words):
    print(json.dumps(words), flush=True)


def _lines():
    return tracemalloc.take_snapshot().filter_traces(
        [tracemalloc.Filter(False, tracemalloc.__file__)])


def run(operation, leak):
    """operation() does one; leak() returns the bytes it let go of for good."""
    signal.signal(signal.SIGTERM, lambda *_: _ended.append(True))
    operation()
    before = _lines() if tracemalloc.is_tracing() else None
    _say(ready=True, pid=os.getpid())
    start = began = time.monotonic()
    leaked = ops = 0
    while not _ended:
        operation()
        ops += 1
        now = time.monotonic()
        if leaked < (now - start) * LEAKED_PER_S:
            leaked += leak()
        if now - began >= REPORT_S:
            _say(**{"from": began, "to": now, "ops": ops, "leaked": leaked})
            began, ops = now, 0
    if before:
        grown = _lines().compare_to(before, "lineno")[:3]
        _say(grown=["%s:%d" % (os.path.basename(s.traceback[0].filename),
                               s.traceback[0].lineno) for s in grown])
    sys.stdout.flush()
    # Without the interpreter's own tidying, which takes long under a tracer,
    # except where a tracer has to write its file.
    if not os.environ.get("BENCH_TIDY"):
        os._exit(0)
