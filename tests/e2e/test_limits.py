# SPDX-License-Identifier: Apache-2.0
"""Probes in programs that have limits: of memory, files, descriptors, processor time.
Placed, or breakpoints in their place, or refused; always said, and the program
computes what it would have and has nothing of heaptap's in it afterwards."""
import contextlib
import ctypes
import os
import pathlib
import resource
import signal
import subprocess

import pytest

from heaptap import (EXIT_DONE, EXIT_PROCESS, EXIT_UNSUPPORTED, Running, Target, built, check_clean,
                     error_of, mappings, need_root, patched_text, run, run_json, state,
                     status, text_problems, wait_for)

CHOSEN, ASKED = ("--engine", "auto"), ("--engine", "probe")
both = pytest.mark.parametrize("options", [CHOSEN, ASKED], ids=["auto", "probe"])

PROBES_BYTES = 5808128  # the region
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
        files = [os.readlink(entry) for entry in pathlib.Path("/proc/%d/fd" % pid).iterdir()]
        # Each of its threads opens one when it begins.
        return (sorted({(row[2], row[4]) for row in mappings(pid)}),
                sorted(name for name in files if not name.endswith("/schedstat")))

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
    reason = [line for line in result.err.splitlines() if "by breakpoints, which stop" in line]
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


# ---------------------------------------------------------------- cgroups

class Cgroup:
    """A group of version 1 of its own, in the hierarchy of a controller."""

    def __init__(self, controller, folder):
        need_root()
        self.mounted = None
        root = self._mounted(controller) or self._mount(controller, folder)
        self.root, self.path = root, root / ("heaptap-test-%d" % os.getpid())
        self.path.mkdir(exist_ok=True)

    @staticmethod
    def _mounted(controller):
        for line in pathlib.Path("/proc/mounts").read_text().splitlines():
            _, where, kind, options = line.split()[:4]
            if kind == "cgroup" and controller in options.split(","):
                return pathlib.Path(where)
        return None

    def _mount(self, controller, folder):
        where = folder / controller
        where.mkdir()
        if subprocess.run(["mount", "-t", "cgroup", "-o", controller, "none", where],
                          stderr=subprocess.DEVNULL).returncode:
            pytest.skip("no cgroup of version 1 with the controller %s can be had" % controller)
        self.mounted = where
        return where

    def write(self, name, value):
        (self.path / name).write_text(str(value))

    def read(self, name):
        return (self.path / name).read_text().strip()

    def take(self, pid):
        self.write("cgroup.procs", pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        def empty():
            for pid in self.read("cgroup.procs").split():
                try:
                    (self.root / "cgroup.procs").write_text(pid)
                except ProcessLookupError:
                    pass
            try:
                self.path.rmdir()
            except OSError:
                return False
            return True
        wait_for(empty, 10, "the end of the cgroup")
        if self.mounted:
            subprocess.run(["umount", self.mounted], check=True)


class Freezer(Cgroup):
    def __init__(self, folder):
        super().__init__("freezer", folder)

    @contextlib.contextmanager
    def frozen(self):
        """Around what is left by an assertion too: not even SIGKILL ends a frozen
        process."""
        try:
            self.write("freezer.state", "FROZEN")
            wait_for(lambda: self.read("freezer.state") == "FROZEN", 10, "the frost")
            yield
        finally:
            self.write("freezer.state", "THAWED")


@pytest.fixture
def freezer(tmp_path):
    with Freezer(tmp_path) as group:
        yield group


@contextlib.contextmanager
def recording_in(freezer, options):
    """A recording that is under way, of a program in that cgroup."""
    with limited("--threads", "2") as target:
        freezer.take(target.pid)
        with Running("trace", "-v", "--json", "-d", "60s", *options, target.pid) as running:
            running.wait_recording()
            goes_on(target)
            yield target, running


@both
def test_frozen_before(options, freezer, digest):
    """It runs, and does not stop: refused, whatever was asked for."""
    with limited() as target:
        freezer.take(target.pid)
        with freezer.frozen():
            result = run("trace", "--json", "-d", "500ms", *options, target.pid)
            error_of(result, EXIT_PROCESS, "did not stop", "frozen", "thaw")
            assert status(target.pid)["TracerPid"].strip() == "0"
            assert text_problems(target.pid) == []
        goes_on(target)
        check_right(target, digest)


@both
def test_frozen_for_a_while(options, freezer, digest):
    with recording_in(freezer, options) as (target, running):
        for _ in range(3):
            goes_on(target)
            with freezer.frozen():
                assert running.process.poll() is None
        goes_on(target)
        running.process.terminate()
        result = running.finish()
        assert result.code == EXIT_DONE, result
        assert result.json["ended_by"] == "signal" and result.json["engine"] == "probe", result
        check_clean(target.pid)
        assert ours(target.pid) == []
        check_right(target, digest)


@both
def test_frozen_at_the_end(options, freezer, digest):
    """What cannot be taken out passes calls on, and clean takes it out later."""
    with recording_in(freezer, options) as (target, running):
        with freezer.frozen():
            running.process.terminate()
            result = running.finish()
            assert result.code == EXIT_PROCESS, result
            assert result.json["totals"]["allocated_blocks"] > 0, result
            assert "did not stop" in result.err or "inside a probe" in result.err, result
            assert "heaptap clean %d" % target.pid in result.err, result
            assert ours(target.pid)
            early = run("clean", target.pid, "--json")
            assert early.code == EXIT_PROCESS, early
        goes_on(target)
        answer = run_json("clean", target.pid)
        assert answer["found"] and answer["removed"], answer
        check_clean(target.pid)
        assert ours(target.pid) == []
        goes_on(target)
        check_right(target, digest)


QUOTA_US, PERIOD_US = 20000, 100000


@pytest.mark.parametrize("where", ["alone", "together"])
@both
def test_a_quota_of_processor_time(options, where, tmp_path, digest):
    """A fifth of one; heaptap outside, or from the same fifth."""
    with Cgroup("cpu", tmp_path) as group, limited("--threads", "4") as target:
        group.write("cpu.cfs_period_us", PERIOD_US)
        group.write("cpu.cfs_quota_us", QUOTA_US)
        group.take(target.pid)
        popen = {"preexec_fn": lambda: group.take(os.getpid())} if where == "together" else {}
        with Untouched(target):
            result = run("trace", "-v", "--json", "-d", "2s", *options, target.pid, **popen)
        assert result.code == EXIT_DONE, result
        assert result.json["ended_by"] in ("duration", "probe_cost"), result
        assert result.json["totals"]["allocated_blocks"] > 0, result
        throttled = dict(line.split() for line in group.read("cpu.stat").splitlines())
        assert int(throttled["nr_throttled"]) > 0, throttled
        check_right(target, digest)


# ---------------------------------------------------------------- stops

@both
def test_heaptap_is_stopped_for_long(options, digest):
    """A thread waits for one answer, and no other is asked for: it makes more of
    its rounds while heaptap stands than it could wait for in that time. Then the
    recording goes on and says what it did to the program."""
    with limited("--threads", "2") as target:
        with Running("trace", "-v", "--json", "-d", "60s", *options, target.pid) as running:
            running.wait_recording()
            goes_on(target)
            running.process.send_signal(signal.SIGSTOP)
            wait_for(lambda: state(running.pid) == "T", 5, "the stop")
            goes_on(target)
            goes_on(target)
            running.process.send_signal(signal.SIGCONT)
            goes_on(target)
            running.process.terminate()
            result = running.finish()
        assert result.code == EXIT_DONE and result.json["ended_by"] == "signal", result
        check_clean(target.pid)
        assert ours(target.pid) == []
        last = check_right(target, digest)
        assert last["gap_s"] < HELD_S, last


@both
def test_the_target_is_stopped_for_long(options, digest):
    with limited("--threads", "2") as target:
        with Running("trace", "-v", "--json", "-d", "60s", *options, target.pid) as running:
            running.wait_recording()
            goes_on(target)
            os.kill(target.pid, signal.SIGSTOP)
            wait_for(lambda: state(target.pid) == "T", 5, "the stop")
            os.kill(target.pid, signal.SIGCONT)
            goes_on(target)
            running.process.terminate()
            result = running.finish()
        assert result.code == EXIT_DONE and result.json["ended_by"] == "signal", result
        check_clean(target.pid)
        assert ours(target.pid) == []
        check_right(target, digest)
