# SPDX-License-Identifier: Apache-2.0
"""holders.py KIND [COUNT]: keeps COUNT records in one of the classic ways, says
what a programmer would call what keeps them, and waits for a line; at the line
it lets go of them, and says how many bytes of blocks that gave back."""
import ctypes
import functools
import gc
import os
import re
import sys
import tempfile
import threading

from targetlib import ready, say

COUNT = int(sys.argv[2]) if len(sys.argv) > 2 else 20000


class Record(object):
    def __init__(self, number):
        self.number = number
        self.text = "record %d " % number + "x" * 80


def records():
    return (Record(i) for i in range(COUNT))


# ---------------------------------------------------------------- what the allocators hold

class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]


def chunk_bytes():
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Mallinfo2
    info = libc.mallinfo2()
    return info.uordblks + info.hblkhd


def pool_bytes():
    """Of the blocks that pymalloc has handed out; it prints them to descriptor 2."""
    with tempfile.TemporaryFile() as told:
        sys.stderr.flush()
        saved = os.dup(2)
        os.dup2(told.fileno(), 2)
        try:
            sys._debugmallocstats()
        finally:
            os.dup2(saved, 2)
            os.close(saved)
        told.seek(0)
        text = told.read().decode()
    return int(re.search(r"# bytes in allocated blocks\s+=\s+([\d,]+)", text).group(1)
               .replace(",", ""))


# ---------------------------------------------------------------- the ways to keep them

SEEN = []
RESULTS = {}
NAMES = set()
NUMBERS = []
ERRORS = []
LOCAL = threading.local()


class Pool(object):
    instances = []


class Node(object):
    def __init__(self, other):
        self.other = other
        self.text = "x" * 100


@functools.lru_cache(maxsize=None)
def lookup(key):
    return Record(key)


def on_batch(batch, seen=[]):
    seen.append(batch)


def make_handler():
    rows = []

    def handle(row):
        rows.append(row)
    return handle, rows


def endless():
    kept = []
    for record in records():
        kept.append(record)
    yield len(kept)
    yield len(kept)


def fail(record):
    raise ValueError(record)


def keep_list():
    SEEN.extend(records())
    return SEEN.clear, {"name": "__main__.SEEN", "kind": "list", "items": COUNT}


def keep_dict():
    RESULTS.update((record.text, record) for record in records())
    return RESULTS.clear, {"name": "__main__.RESULTS", "kind": "dict", "items": COUNT}


def keep_set():
    NAMES.update(records())
    return NAMES.clear, {"name": "__main__.NAMES", "kind": "set", "items": COUNT}


def keep_numbers():
    """What lies at a page's start looks like the head of a block that glibc has mapped,
    {0 or 1, whole pages and the flag 2}; and one block that it has."""
    NUMBERS.append(bytes(bytearray(400 << 10)))
    NUMBERS.extend((i % 16 + 1) * 4096 + 2 for i in range(COUNT))
    return NUMBERS.clear, {"name": "__main__.NUMBERS", "kind": "list", "items": COUNT + 1}


def keep_lru():
    for i in range(COUNT):
        lookup(i)
    return lookup.cache_clear, {"name": "__main__.lookup", "kind": "lru_cache", "items": COUNT}


def keep_default():
    for record in records():
        on_batch(record)
    return on_batch.__defaults__[0].clear, {
        "name": "__main__.on_batch.__defaults__[0]", "kind": "list", "items": COUNT}


def keep_closure():
    global HANDLE
    HANDLE, rows = make_handler()
    for record in records():
        HANDLE(record)
    return rows.clear, {
        "name_has": ["make_handler", "handle.__closure__", "rows"], "kind": "list", "items": COUNT}


def keep_registry():
    Pool.instances.extend(records())
    return Pool.instances.clear, {
        "name": "__main__.Pool.instances", "kind": "list", "items": COUNT}


def keep_local():
    LOCAL.rows = list(records())
    return LOCAL.rows.clear, {"name": "__main__.LOCAL.rows", "kind": "list", "items": COUNT}


def keep_generator():
    global GENERATOR
    GENERATOR = endless()
    next(GENERATOR)
    return GENERATOR.close, {"name_has": ["kept"], "kind": "list", "items": COUNT}


def keep_errors():
    for record in records():
        try:
            fail(record)
        except ValueError as error:
            ERRORS.append(error)
    return ERRORS.clear, {"name": "__main__.ERRORS", "kind": "list", "items": COUNT}


def keep_cycles():
    gc.disable()
    for _ in range(COUNT):
        one = Node(None)
        one.other = Node(one)
    return gc.collect, {"cycle": "__main__.Node", "items": 2 * COUNT}


def main():
    let_go, truth = globals()["keep_" + sys.argv[1]]()
    if sys.argv[1] != "cycles":
        gc.collect()
    ready(**truth)
    sys.stdin.readline()
    chunk_bytes(), pool_bytes()
    before = chunk_bytes() + pool_bytes()
    let_go()
    gc.collect()
    say(done=True, freed=before - chunk_bytes() - pool_bytes())


main()
