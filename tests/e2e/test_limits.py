# SPDX-License-Identifier: Apache-2.0
"""Probes in programs that have limits: of memory, files, descriptors, processors.
Placed, or breakpoints in their place, or refused; always said, and the program
computes what it would have and has nothing of heaptap's in it afterwards."""
import ctypes
import os
import pathlib
import resource
import signal
import subprocess

import pytest

from heaptap import (EXIT_DONE, EXIT_PROCESS, EXIT_UNSUPPORTED, Running, Target, built, check_clean,
                     error_of, mappings, need_root, no_probes, patched_text, run, run_json, state,
                     status, text_problems, wait_for)

pytestmark = no_probes

CHOSEN, ASKED = ("--engine", "auto"), ("--engine", "probe")
both = pytest.mark.parametrize("options", [CHOSEN, ASKED], ids=["auto", "probe"])

PROBES_BYTES = 5775360 # the region
# What of a thread's time a wait for an answer takes at most, with room for a
# machine that is busy.
HELD_S = 0.2

CAP_SYS_ADMIN, CAP_CHECKPOINT_RESTORE, PR_CAPBSET_DROP = 21, 40, 24


def limited(*args):
    return Target(built("limits"), *args)


def ours(pid):
    """Mappings of heaptap's in a process, by name or as code of no file."""
    return [row for row in mappings(pid) if "heaptap-probes" in row[4]]


def placed(pid):
    wait_for(lambda: patched_text(pid), 20, "the probes")
    wait_for(lambda: status(pid)["TracerPid"].strip() == "0", 20, "ptrace to be let go")


class Untouched:
    """A process comes out of the block with the mappings that it had, but for its
    own heaps, with its text and its descriptors."""

    def __init__(self, target):
        self.target = target

    def _look(self):
        pid = self.target.pid
        return (sorted({(row[2], row[4]) for row in mappings(pid)}),
                sorted(os.listdir("/proc/%d/fd" % pid)))

    def __enter__(self):
        assert text_problems(self.target.pid) == []
        self.before = self._look()

    def __exit__(self, kind, *_):
        if kind is not None:
            return
        check_clean(self.target.pid)
        assert ours(self.target.pid) == []
        assert self._look() == self.before
        goes_on(self.target)


def rounds(target):
    target.tell()
    answer = target.next_line()
    assert answer["wrong"] == 0, answer
    return answer["rounds"]


def goes_on(target):
    before = rounds(target)
    wait_for(lambda: rounds(target) > before + 100, 20, "the target to go on")


def check_right(target, digest=None):
    last = target.finish()
    assert last["wrong"] == 0 and last["rounds"] > 0, last
    if digest is not None:
        assert last["digest"] == digest, last
    return last


@pytest.fixture(scope="module")
def digest():
    """What comes out without heaptap."""
    with limited() as target:
        return target.finish()["digest"]


def recorded(target, *options, **popen):
    """The result of a recording that ended at its time; with -v."""
    with Untouched(target):
        result = run("trace", "-v", "--json", "-d", "500ms", *options, target.pid, code=EXIT_DONE,
                     **popen)
    assert result.json["ended_by"] == "duration", result
    assert result.json["totals"]["allocated_blocks"] > 0, result
    return result


def by_probes(target, *options, **popen):
    result = recorded(target, *options, **popen)
    assert result.json["engine"] == "probe", result
    assert "recording by probes" in result.err, result
    assert [point for point in result.json["entry_points"] if point["how"] == "jump"], result
    return result


def by_breakpoints(target, *words, **popen):
    result = recorded(target, *CHOSEN, **popen)
    assert result.json["engine"] == "breakpoint", result
    reason = [line for line in result.err.splitlines() if "by breakpoints: " in line]
    for word in words:
        assert len(reason) == 1 and word in reason[0], result


def refused(target, code, *words, **popen):
    with Untouched(target):
        result = run("trace", "--json", "-d", "500ms", *ASKED, target.pid, **popen)
        error_of(result, code, *words)


# ---------------------------------------------------------------- memory

SPARE = {
    "not a page for probes": 64 << 10,
    "less than the probes": 3 << 20,
    "the probes and no more": PROBES_BYTES + (128 << 10),
    "the program's last half": 2 * PROBES_BYTES - (64 << 10),
}


@pytest.mark.parametrize("name", SPARE)
def test_address_space(name, digest):
    with limited("--as", SPARE[name]) as target:
        by_breakpoints(target, "RLIMIT_AS", "probes take 5.")
        refused(target, EXIT_UNSUPPORTED, "RLIMIT_AS", "probes take 5.", "leave out --engine probe")
        check_right(target, digest)


@both
def test_address_space_that_is_enough(options, digest):
    """The program has as much for itself as the probes take."""
    with limited("--as", 2 * PROBES_BYTES + (256 << 10)) as target:
        by_probes(target, *options)
        check_right(target, digest)


def test_a_limit_of_data(digest):
    """It may grow by less than the probes' counters take."""
    with limited() as target:
        pages = int(pathlib.Path("/proc/%d/statm" % target.pid).read_text().split()[5])
        most = (pages << 12) + (600 << 10)
        resource.prlimit(target.pid, resource.RLIMIT_DATA, (most, most))
        by_breakpoints(target, "RLIMIT_DATA")
        refused(target, EXIT_UNSUPPORTED, "RLIMIT_DATA")
        check_right(target, digest)


# ---------------------------------------------------------------- files

@both
def test_a_file_size_of_nothing(options, digest):
    """It would get SIGXFSZ for a file that it makes larger."""
    with limited("--fsize") as target:
        by_probes(target, *options)
        check_right(target, digest)


def no_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@both
def test_a_file_size_of_nothing_for_heaptap(options, digest):
    with limited("--fsize") as target:
        by_probes(target, *options, preexec_fn=no_file_size)
        check_right(target, digest)


@both
def test_no_descriptor_is_free(options, digest):
    with limited("--fds") as target:
        before = sorted(os.listdir("/proc/%d/fd" % target.pid))
        by_probes(target, *options)
        with Running("trace", "-v", "--json", "-d", "60s", *options, target.pid) as running:
            running.wait_recording()
            assert sorted(os.listdir("/proc/%d/fd" % target.pid)) == before
            goes_on(target)
            running.process.terminate()
            result = running.finish()
        assert result.code == EXIT_DONE and result.json["engine"] == "probe", result
        assert sorted(os.listdir("/proc/%d/fd" % target.pid)) == before
        check_clean(target.pid)
        check_right(target, digest)


def drop_map_files():
    """Of what map_files asks for (fs/proc/base.c, proc_map_files_get_link)."""
    libc = ctypes.CDLL(None)
    for capability in (CAP_SYS_ADMIN, CAP_CHECKPOINT_RESTORE):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def test_no_descriptor_is_free_and_no_other_way(digest):
    need_root()
    with limited("--fds") as target:
        by_breakpoints(target, "no descriptor", "map_files", preexec_fn=drop_map_files)
        refused(target, EXIT_UNSUPPORTED, "no descriptor", "run heaptap as root",
                preexec_fn=drop_map_files)
        check_right(target, digest)


# ---------------------------------------------------------------- code

@both
def test_memory_is_never_writable_and_executable(options, digest):
    """The kernel refuses to make such memory, and to make any executable later."""
    with limited("--mdwe") as target:
        if not target.facts["able"]:
            pytest.skip("this kernel has no PR_SET_MDWE")
        by_probes(target, *options)
        with Running("trace", "-v", "--json", "-d", "60s", *options, target.pid) as running:
            running.wait_recording()
            assert ours(target.pid)
            assert [row for row in mappings(target.pid) if "w" in row[2] and "x" in row[2]] == []
            running.process.terminate()
            assert running.finish().code == EXIT_DONE
        check_clean(target.pid)
        check_right(target, digest)
