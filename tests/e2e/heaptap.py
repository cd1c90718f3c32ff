# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: running heaptap, starting targets, looking
at a process from the outside.

Environment: HEAPTAP (the binary, default build/heaptap), HEAPTAP_TEST_TARGETS
(the built targets, default beside the binary), HEAPTAP_TEST_SID (a Debian tree
with newer Pythons), HEAPTAP_TEST_FULL (long versions of the tests).
"""
import contextlib
import errno
import ctypes
import datetime
import functools
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ROOT / "tests" / "targets"
HEAPTAP = pathlib.Path(os.environ.get("HEAPTAP", ROOT / "build" / "heaptap")).resolve()
TARGETS = pathlib.Path(os.environ.get(
    "HEAPTAP_TEST_TARGETS", HEAPTAP.parent / "tests" / "targets")).resolve()
SID = os.environ.get("HEAPTAP_TEST_SID")
FULL = bool(os.environ.get("HEAPTAP_TEST_FULL"))

EXIT_DONE, EXIT_LIMIT, EXIT_USAGE, EXIT_PROCESS, EXIT_UNSUPPORTED, EXIT_FILE = range(6)

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _as_from_a_shell():
    """Also where the tests themselves run below nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    _die_with_parent()


# ---------------------------------------------------------------- heaptap

class Result:
    """What one run of heaptap gave."""

    def __init__(self, code, out, err, seconds):
        self.code, self.out, self.err, self.seconds = code, out, err, seconds

    @functools.cached_property
    def json(self):
        try:
            return json.loads(self.out)
        except ValueError as error:
            raise AssertionError("no JSON (%s) in %r; stderr: %s" % (error, self.out, self.err))

    def __repr__(self):
        return "exit %s after %.2f s\nstdout: %s\nstderr: %s" % (
            self.code, self.seconds, self.out[-4000:], self.err[-4000:])


def run(*args, timeout=60, code=None, **popen):
    """Runs heaptap to its end. With code: that exit code is asserted."""
    began = time.monotonic()
    done = subprocess.run([HEAPTAP, *map(str, args)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                          text=True, errors="replace", **popen)
    result = note_late(Result(done.returncode, done.stdout, done.stderr,
                              time.monotonic() - began))
    if code is not None:
        assert result.code == code, result
    return result


def run_json(command, *args, **options):
    """Runs a command with --json, asserts success and its schema."""
    result = run(command, *args, "--json", code=options.pop("code", EXIT_DONE), **options)
    assert result.json["schema"] == "heaptap.%s/1" % command, result
    return result.json


def error_of(result, code, *words):
    """Asserts an error with this exit code whose message has all the words, in
    text and as an object; returns the object."""
    assert result.code == code, result
    error = result.json
    assert error["schema"] == "heaptap.error/1", result
    assert error["message"] and isinstance(error["code"], str), result
    text = (error["message"] + " " + (error.get("advice") or "")).lower()
    for word in words:
        assert word.lower() in text, (word, result)
    assert error["message"] in result.err, result
    return error


# To the block: every call is seen by breakpoints, and by probes with --exact.
ENGINES = {"breakpoint": ("--engine", "breakpoint"), "probe": ("--engine", "probe", "--exact")}


# What heaptap said in the present test of an answer that came too late: conftest.py.
late = []


def note_late(result):
    if "came too late" in result.err:
        late.append(result)
    return result


class Running:
    """heaptap in the background."""

    def __init__(self, *args, **popen):
        popen.setdefault("stdin", subprocess.DEVNULL)
        popen.setdefault("stdout", subprocess.PIPE)
        popen.setdefault("stderr", subprocess.PIPE)
        self.process = subprocess.Popen([HEAPTAP, *map(str, args)], text=True,
                                        preexec_fn=_as_from_a_shell, **popen)
        self.pid = self.process.pid
        self.began = time.monotonic()

    def wait_recording(self):
        """Until calls are counted; heaptap was given -v."""
        for line in self.process.stderr:
            if "recording by" in line:
                return
        raise AssertionError("it never began to record")

    def finish(self, timeout=30):
        out, err = self.process.communicate(timeout=timeout)
        return note_late(Result(self.process.returncode, out or "", err or "",
                                time.monotonic() - self.began))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            # Detaching is heaptap's own work: it is asked before it is killed.
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGCONT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()


# ---------------------------------------------------------------- targets

class Target:
    """A program that says {"ready": true, ...} on its first line.

    `facts` is that line; next_line() gives what it says later; finish() closes
    its standard input (or sends SIGTERM) and returns its last line.
    """

    def __init__(self, *argv, ready=True, root=None, env=None, timeout=30, **popen):
        self.root = pathlib.Path(root) if root else None
        argv = [str(a) for a in argv]
        if root:
            argv = ["chroot", str(root), *argv]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, preexec_fn=_die_with_parent, env=env, start_new_session=True, **popen)
        self.pid = self.process.pid
        self.lines = queue.Queue()
        self.errors = []
        self._readers = [threading.Thread(target=self._read_lines, daemon=True),
                         threading.Thread(target=self._read_errors, daemon=True)]
        for thread in self._readers:
            thread.start()
        self.facts = {}
        if ready:
            self.facts = self.next_line(timeout)
            assert self.facts.get("ready"), self.facts

    def _read_lines(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def _read_errors(self):
        for line in self.process.stderr:
            self.errors.append(line)

    def next_line(self, timeout=30):
        try:
            line = self.lines.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError("the target said nothing in %s s" % timeout)
        if line is None:
            self.process.wait(10)
            raise AssertionError("the target ended with %s: %s" % (
                self.process.returncode, "".join(self.errors)))
        return json.loads(line)

    def drain(self):
        """What it said since the last look."""
        said = []
        while True:
            try:
                line = self.lines.get_nowait()
            except queue.Empty:
                return said
            if line is None:
                self.lines.put(None)
                return said
            said.append(json.loads(line))

    def tell(self, text="\n"):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def alive(self):
        return self.process.poll() is None

    def check_alive(self):
        assert self.alive(), "the target ended with %s: %s" % (
            self.process.returncode, "".join(self.errors))

    def finish(self, timeout=30):
        """Ends its standard input; it says a last line and exits with 0."""
        self.process.stdin.close()
        last = self.next_line(timeout)
        while not last.get("done"):
            last = self.next_line(timeout)
        assert self.process.wait(timeout) == 0, "".join(self.errors)
        return last

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # with all that it forked: they hold its pipes
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        for thread in self._readers:
            thread.join(5)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                stream.close()


def built(name):
    """A program of tests/targets; the tests fail where it was not built."""
    path = TARGETS / name
    assert path.exists(), "%s is not built; HEAPTAP_TEST_TARGETS names its folder" % path
    return path


def _preloaded(command, **popen):
    env = dict(os.environ, LD_PRELOAD=str(built("kill_at.so")), **popen.pop("env"))
    return subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, timeout=60, **popen)


def count_steps(command):
    """How many calls of ptrace, and on another process's memory, a command makes."""
    read, write = os.pipe()
    _preloaded(command, env={"KILL_COUNT_FD": str(write)}, pass_fds=[write], check=True)
    os.close(write)
    with os.fdopen(read) as told:
        return int(told.read())


def kill_at_step(command, step):
    """Its exit code: -SIGKILL where it got as far as that call."""
    return _preloaded(command, env={"KILL_AT": str(step)}).returncode


def leak_line(source):
    """The line marked LEAK in a target's source."""
    return marked_line(source, "LEAK")


def marked_line(source, mark):
    for number, line in enumerate((SOURCES / source).read_text().splitlines(), 1):
        if line.rstrip().endswith("# " + mark) or "/* %s */" % mark in line \
                or line.rstrip().endswith("// " + mark):
            return number
    raise AssertionError("%s marks no line %s" % (source, mark))


class LeakLog:
    """The log of a leaking target: what it leaked, and when. A row is (after,
    blocks, bytes, container, before): the times around the leak, and what was
    leaked up to then."""

    def __init__(self, path):
        self.rows = []
        for line in pathlib.Path(path).read_text().splitlines():
            after, blocks, size, container, before = line.split()
            self.rows.append((float(after), int(blocks), int(size), int(container),
                              float(before)))

    def _sum(self, inside):
        """(blocks, bytes) of the rows that are inside; bytes with the growth of
        the container."""
        blocks = size = 0
        last = (0, 0, 0, self.rows[0][3] if self.rows else 0)
        for row in self.rows:
            if inside(row[4], row[0]):
                blocks += row[1] - last[1]
                size += row[2] - last[2] + row[3] - last[3]
            last = row
        return blocks, size

    def between(self, start, end):
        """(blocks, bytes) leaked between two times."""
        return self._sum(lambda before, after: start <= after <= end)

    def bounds(self, start, end, slack=0.0015):
        """((blocks, bytes) at least, (blocks, bytes) at most): `start` and `end`
        are known to the millisecond only, and a leak may have been under way."""
        return (self._sum(lambda before, after: before >= start + slack and after <= end - slack),
                self._sum(lambda before, after: after >= start - slack and before <= end + slack))


def window(trace):
    """The wall-clock seconds between which a trace saw everything."""
    start = iso_seconds(trace["start"])
    return start, start + trace["duration_s"]


# ---------------------------------------------------------------- truths

FIGURES = ("allocated_blocks", "allocated_bytes", "freed_bytes", "live_blocks", "live_bytes")


def recorded_work(program, *options, arguments=()):
    """A program that says what it did (targets/truth.h) does it while it is
    recorded, to the block: (answer, its truth, by function). On a busy machine
    probes may wait too long for an answer, and stay out: in one of three tries."""
    for _ in range(3):
        result, truth = _recorded_work(program, options, arguments)
        if "came too late" not in result.err:
            break
    return result.json, truth["sites"]


def _recorded_work(program, options, arguments):
    with Target(built(program), *arguments) as target:
        with Clean(target.pid):
            with Running("trace", target.pid, "-v", "-d", "60s", "--json", "--exact", "--limit",
                         "1000", *options) as running:
                running.wait_recording()
                target.tell("work\n")
                truth = target.next_line(60)
                assert truth["worked"], truth
                running.process.terminate()
                result = running.finish()
        assert result.code == EXIT_DONE, result
        target.finish()
    return result, truth


def by_function(answer):
    sums = {}
    for site in answer["sites"]:
        row = sums.setdefault(site["function"], dict.fromkeys(FIGURES, 0))
        for key in FIGURES:
            row[key] += site[key]
    return sums


def differences(answer, truth, but=()):
    seen = by_function(answer)
    return {name: {"seen": seen.get(name), "truth": row} for name, row in truth.items()
            if name not in but and seen.get(name) != row}


def iso_seconds(text):
    when = datetime.datetime.strptime(text.replace("Z", "+0000"), "%Y-%m-%dT%H:%M:%S.%f%z")
    return when.timestamp()


# ---------------------------------------------------------------- Python

class Interpreter:
    def __init__(self, path, version, root=None):
        self.path, self.version, self.root = str(path), version, root
        self.name = "%s%s" % (".".join(map(str, version)),
                              "-sid" if root else "-debian" if str(path).startswith("/usr")
                              else "")

    def place(self, folder):
        """A folder for this interpreter's scripts, as seen from here and from
        inside; scripts are copied where the root is another."""
        if not self.root:
            return SOURCES, pathlib.Path(folder), str(folder)
        inside = pathlib.Path("tmp") / ("heaptap-%d" % os.getpid())
        outside = pathlib.Path(self.root) / inside
        outside.mkdir(exist_ok=True)
        for script in SOURCES.glob("*.py"):
            shutil.copy(script, outside)
        return pathlib.Path("/") / inside, outside, "/" + str(inside)

    def start(self, script, folder, *args, log=None, **options):
        """Starts a script of tests/targets. log: the name of its log, the first
        argument; the target's `log` is its path as seen from here."""
        scripts, outside, inside = self.place(folder)
        argv = [self.path, str(scripts / script)]
        if log:
            log = "%s-%d-%d" % (log, os.getpid(), time.monotonic_ns())
            argv.append("%s/%s" % (inside, log))
        env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", LC_ALL="C.UTF-8")
        for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONMALLOC", "PYTHONTRACEMALLOC"):
            env.pop(name, None)
        target = Target(*argv, *args, root=self.root, env=env, **options)
        target.script = str(scripts / script)
        target.log = outside / log if log else None
        return target

    def __repr__(self):
        return self.name


def _version(*argv):
    code = "import sys; print(sys.implementation.name, *sys.version_info[:3])"
    try:
        out = subprocess.run([*map(str, argv), "-c", code], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True, timeout=20).stdout.split()
        return tuple(map(int, out[1:4])) if out and out[0] == "cpython" else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


@functools.lru_cache(maxsize=None)
def all_interpreters():
    """Every CPython here, of any version."""
    found, seen = [], set()
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", "/root/.pyenv"))
    paths = sorted(pyenv.glob("versions/*/bin/python")) + sorted(
        p for p in pathlib.Path("/usr/bin").glob("python3.[0-9]*")
        if p.name.replace("python3.", "").isdigit())
    for path in paths:
        version = _version(path)
        if version and os.path.realpath(path) not in seen:
            seen.add(os.path.realpath(path))
            found.append(Interpreter(path, version))
    if SID and os.geteuid() == 0:
        for path in sorted(pathlib.Path(SID).glob("usr/bin/python3.[0-9]*")):
            inside = "/" + str(path.relative_to(SID))
            version = _version("chroot", SID, inside)
            if version:
                found.append(Interpreter(inside, version, root=SID))
    return sorted(found, key=lambda i: (i.version, i.name))


def interpreters(oldest=(3, 8), newest=(3, 15)):
    """pytest parameters: every CPython that heaptap reads, and a skip for each
    minor version that is not here."""
    params = [pytest.param(i, id=i.name) for i in all_interpreters()
              if oldest <= i.version[:2] <= newest]
    here = {i.version[:2] for i in all_interpreters()}
    for minor in range(oldest[1], newest[1] + 1):
        if (3, minor) not in here:
            where = "" if SID else " (HEAPTAP_TEST_SID names no Debian tree)"
            params.append(pytest.param(None, id="3.%d" % minor, marks=pytest.mark.skip(
                reason="no CPython 3.%d here%s" % (minor, where if minor > 13 else ""))))
    return params


def some_interpreter():
    """One that most tests use: what runs the tests if it is supported."""
    for interpreter in all_interpreters():
        if interpreter.version[:2] == (3, 11) and not interpreter.root:
            return interpreter
    fitting = [i for i in all_interpreters() if i.version >= (3, 8) and not i.root]
    assert fitting, "no CPython from 3.8 on here: %s" % sys.version
    return fitting[0]


def few_interpreters():
    """pytest parameters: the oldest, the newest and the one that most tests use, for
    what every version has been seen to do with the other engine."""
    here = [i for i in all_interpreters() if (3, 8) <= i.version[:2] <= (3, 15)]
    few = {i.name: i for i in (*here[:1], some_interpreter(), *here[-1:])}
    return [pytest.param(i, id=name) for name, i in few.items()]


def by_engine():
    """pytest parameters (interpreter, engine): probes in every CPython, breakpoints in
    a few."""
    return [pytest.param(*p.values, "probe", id="%s-probe" % p.id, marks=p.marks)
            for p in interpreters()] + [
        pytest.param(*p.values, "breakpoint", id="%s-breakpoint" % p.id)
        for p in few_interpreters()]


# ---------------------------------------------------------------- processes

def status(pid):
    """/proc/PID/status as a dict, {} where the process is gone."""
    try:
        text = pathlib.Path("/proc/%d/status" % pid).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def state(pid):
    return status(pid).get("State", "X")[0]


def wait_for(condition, timeout=10, what="the condition"):
    """Polls until the condition holds; returns what it returned."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "%s did not come in %s s" % (what, timeout)
        time.sleep(0.01)


def tracer(pid):
    """The PID of the process that traces this one (TracerPid names a thread of
    it), 0 where there is none."""
    thread = int(status(pid).get("TracerPid", "0"))
    return int(status(thread).get("Tgid", "0")) if thread else 0


def wait_traced(pid, timeout=10):
    """The PID of the tracer, once there is one."""
    return wait_for(lambda: tracer(pid), timeout, "a tracer of %d" % pid)


def patched_text(pid):
    """[(file, offset, found, expected)] of the bytes in the executable file
    mappings of a process that differ from the mapped file's."""
    differences = []
    with open("/proc/%d/mem" % pid, "rb", buffering=0) as memory:
        for start, end, perms, offset, path in mappings(pid):
            if "x" not in perms or not path.startswith("/"):
                continue
            try:
                with open("/proc/%d/map_files/%x-%x" % (pid, start, end), "rb") as mapped:
                    mapped.seek(offset)
                    expected = mapped.read(end - start)
                memory.seek(start)
                found = memory.read(end - start)
            except OSError as error:
                # unmapped meanwhile, by the program
                if error.errno in (errno.ENOENT, errno.EIO):
                    continue
                raise
            if found[:len(expected)] != expected:
                for i, (a, b) in enumerate(zip(found, expected)):
                    if a != b:
                        differences.append((path, offset + i, hex(a), hex(b)))
    return differences


def mappings(pid):
    """(start, end, perms, offset, path) of a process."""
    rows = []
    for line in pathlib.Path("/proc/%d/maps" % pid).read_text().splitlines():
        fields = line.split(None, 5)
        start, end = (int(x, 16) for x in fields[0].split("-"))
        rows.append((start, end, fields[1], int(fields[2], 16),
                     fields[5] if len(fields) > 5 else ""))
    return rows


def foreign_code(pid):
    """Executable mappings that belong to no file and not to the kernel."""
    return [row for row in mappings(pid) if "x" in row[2]
            and not row[4].startswith("/") and row[4] not in ("[vdso]", "[vsyscall]")]


def text_problems(pid):
    """What a detach may not leave behind: [] is good."""
    return patched_text(pid) + foreign_code(pid)


class Clean:
    """Asserts that a process comes out of the block as it went in: alive, no
    tracer, text equal to the files, no code of others, no mapping more."""

    def __init__(self, pid):
        self.pid = pid

    def __enter__(self):
        assert text_problems(self.pid) == []
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            check_clean(self.pid)


def check_clean(pid):
    wait_for(lambda: status(pid).get("TracerPid", "0").strip() == "0", 5, "the detach")
    assert state(pid) in "SRD", status(pid)
    assert text_problems(pid) == []


PAUSE = "34"


def wait_paused(target):
    """Until a program that only waits has come to its pause(): it says ready
    before that."""
    file = pathlib.Path("/proc/%d/syscall" % target.pid)
    if file.exists():
        wait_for(lambda: file.read_text().split()[0] == PAUSE, what="pause()")
    else:
        wait_for(lambda: state(target.pid) == "S", what="pause()")
    return target


def has_tool(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")


def need_tool(name):
    path = has_tool(name)
    if not path:
        pytest.skip("%s is not installed" % name)
    return path


def need_root():
    if os.geteuid() != 0:
        pytest.skip("needs root")
