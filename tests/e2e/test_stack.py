# SPDX-License-Identifier: Apache-2.0
"""heaptap stack: every thread, Python and native frames mixed."""
import os
import pathlib
import re
import signal
import subprocess

import pytest

from heaptap import (EXIT_DONE, Clean, Target, built, check_clean, interpreters, leak_line,
                     marked_line, need_root, need_tool, run, some_interpreter, state,
                     status, wait_for, wait_paused)

WITHIN_S = 2.0


def stack(pid, *args):
    result = run("stack", pid, "--json", *args, code=EXIT_DONE)
    assert result.json["schema"] == "heaptap.stack/1"
    assert result.seconds < WITHIN_S, result
    return result.json


def thread_of(answer, tid):
    return next(t for t in answer["threads"] if t["tid"] == tid)


def functions(thread):
    return [frame["function"] for frame in thread["stack"]]


def test_native_frames_and_lines(stuck):
    with Clean(stuck.pid):
        answer = stack(stuck.pid)
    assert answer["pause_s"] is not None and answer["pause_s"] < 1
    thread = thread_of(answer, stuck.pid)
    names = functions(thread)
    at = names.index("wait_here")
    assert names[at + 1:at + 5] == ["outer"] * 4 and "main" in names[at + 5:], names
    frame = thread["stack"][at]
    assert os.path.basename(frame["file"]) == "stuck.c"
    assert frame["line"] == marked_line("stuck.c", "WAIT"), frame
    assert frame["language"] == "c" and frame["module"].endswith("stuck")
    assert thread["state"] == "S" or "sleep" in thread["state"], thread["state"]


def gdb_functions(pid, gdb):
    """{tid: [function, ...]} by gdb, names as written in the program."""
    out = subprocess.run(
        [gdb, "-q", "-nx", "-batch", "-p", str(pid), "-ex", "set width 0",
         "-ex", "set print frame-arguments none", "-ex", "thread apply all backtrace"],
        capture_output=True, text=True, timeout=120).stdout
    threads, frames = {}, None
    for line in out.splitlines():
        head = re.match(r"Thread \d+ \((?:Thread 0x\w+ \()?LWP (\d+)\)?"
                        r"|Thread \d+ \(process (\d+)\)", line)
        if head:
            frames = threads.setdefault(int(head.group(1) or head.group(2)), [])
            continue
        frame = re.match(r"#\d+\s+(?:0x\w+ in )?(.+?) \(", line)
        if frame and frames is not None:
            frames.append(frame.group(1))
    return threads


def plain(name):
    """One function has several names in the C library, and gdb and the
    demangler write parameters and clones their own way."""
    name = re.sub(r"\(.*\)|\[.*\]|@.*", "", name or "??")
    name = re.sub(r"\.(part|constprop|isra|cold|lto_priv)(\.\d+)?.*", "", name)
    for prefix in ("__GI___", "__GI_", "__libc_", "___", "__"):
        if name.startswith(prefix):
            name = name[len(prefix):]
    return name.strip("_ ")


def to_main(names):
    """Of a backtrace: what the program itself called, down to main."""
    return names[:names.index("main") + 1] if "main" in names else names


def same_as_gdb(pid, gdb, tid, minimum):
    """The frames down to main have the same names in gdb's backtrace; the
    innermost ones, of the C library, have several names each."""
    ours = to_main([plain(name) for name in functions(thread_of(stack(pid, "--native"), tid))])
    theirs = to_main([plain(name) for name in gdb_functions(pid, gdb)[tid]])
    assert len(ours) >= minimum and len(ours) == len(theirs), (ours, theirs)
    assert ours[-minimum:] == theirs[-minimum:]


def test_equals_gdb_c(stuck):
    gdb = need_tool("gdb")
    same_as_gdb(stuck.pid, gdb, stuck.pid, 6)
    check_clean(stuck.pid)


def test_equals_gdb_python(tmp_path):
    gdb = need_tool("gdb")
    interpreter = some_interpreter()
    with interpreter.start("threads_py.py", tmp_path) as target:
        theirs = gdb_functions(target.pid, gdb)
        answer = stack(target.pid, "--native")
        compared = 0
        for tid, frames in theirs.items():
            ours = [plain(name) for name in functions(thread_of(answer, tid))]
            frames = [plain(name) for name in frames]
            start = 1 + max((i for i, n in enumerate(frames[:6])
                             if any(word in n for word in ("syscall", "nanosleep", "read", "futex"))),
                            default=0)
            middle = [n for n in frames[start:] if n.startswith("Py") or "Eval" in n]
            if len(middle) < 3:
                continue
            assert [n for n in ours if n in set(middle)] == middle, (tid, ours, frames)
            compared += 1
        assert compared >= 5, theirs


@pytest.mark.parametrize("interpreter", interpreters())
def test_python_threads(interpreter, tmp_path):
    """Function, file and line of every thread equal what the interpreter says."""
    with interpreter.start("threads_py.py", tmp_path) as target:
        with Clean(target.pid):
            answer = stack(target.pid, "--python")
            mixed = stack(target.pid)
        assert len(target.facts["stacks"]) == 9
        for tid, truth in target.facts["stacks"].items():
            thread = thread_of(answer, int(tid))
            ours = [[f["function"].split(".")[-1], f["file"], f["line"]] for f in thread["stack"]
                    if f["language"] == "python"]
            theirs = [[name.split(".")[-1], os.path.abspath(file), line]
                      for name, file, line in truth]
            ours = [[name, os.path.abspath(file), line] for name, file, line in ours]
            assert ours == theirs, "thread %s" % tid
            # the same frames, in the same order, between native ones
            both = thread_of(mixed, int(tid))["stack"]
            assert [f["line"] for f in both if f["language"] == "python"] == [
                line for _, _, line in truth]
            assert any(f["language"] != "python" for f in both)
        main = thread_of(answer, target.facts["main"])
        names = [f["function"] for f in main["stack"] if f["language"] == "python"]
        assert names[-2:] == ["main", "<module>"], names


@pytest.mark.parametrize("interpreter", interpreters())
def test_holds_gil(interpreter, tmp_path):
    """Of a process whose threads all wait, none holds the lock."""
    with interpreter.start("threads_py.py", tmp_path) as target:
        assert not any(t["holds_gil"] for t in stack(target.pid)["threads"])


def test_native_and_python_only(tmp_path):
    with some_interpreter().start("threads_py.py", tmp_path) as target:
        native = stack(target.pid, "--native")
        python = stack(target.pid, "--python")
    assert all(f["language"] != "python" for t in native["threads"] for f in t["stack"])
    assert all(f["language"] == "python" for t in python["threads"] for f in t["stack"])


def test_c_function_between_python_frames(tmp_path):
    """Where C calls back into Python, its frames stand between them."""
    with some_interpreter().start("threads_py.py", tmp_path) as target:
        answer = stack(target.pid)
        thread = next(t for t in answer["threads"]
                      if "callback" in functions(t) and "in_c_call" in functions(t))
        names = functions(thread)
        between = thread["stack"][names.index("callback") + 1:names.index("in_c_call")]
        assert between and all(f["language"] != "python" for f in between), names


def test_demangled_cxx(tmp_path):
    with Target(built("leak_cxx"), tmp_path / "log") as target:
        frames = stack(target.pid)["threads"][0]["stack"]
        main = next(f for f in frames if f["function"] == "main")
        assert main["language"] == "c++", main


@pytest.mark.parametrize("body", ["lock", "read"])
def test_waiting(body, tmp_path):
    name = {"lock": "sem_wait", "read": "read_pipe"}[body]
    with Target(built("syscalls"), name, "30") as target:
        wait_for(lambda: state(target.pid) == "S")
        with Clean(target.pid):
            thread = thread_of(stack(target.pid), target.pid)
        wchan = pathlib.Path("/proc/%d/wchan" % target.pid).read_text()
        if wchan != "0":
            assert thread["wchan"] == wchan
        assert "main" in functions(thread)
        assert target.process.poll() is None


def test_stopped_process_stays_stopped(stuck):
    os.kill(stuck.pid, signal.SIGSTOP)
    wait_for(lambda: state(stuck.pid) == "T")
    thread = thread_of(stack(stuck.pid), stuck.pid)
    assert "wait_here" in functions(thread)
    assert "stop" in thread["state"].lower() or thread["state"] == "T", thread["state"]
    assert wait_for(lambda: state(stuck.pid) == "T", 2), "the stop was lost"
    os.kill(stuck.pid, signal.SIGCONT)
    wait_for(lambda: state(stuck.pid) == "S")
    check_clean(stuck.pid)


def test_uninterruptible(tmp_path):
    """A vfork parent cannot be stopped: said so, within a second or so, and it
    goes on afterwards."""
    with Target(built("vfork_parent")) as target:
        wait_for(lambda: state(target.pid) == "D", what="the vfork")
        result = run("stack", target.pid, "--json", code=EXIT_DONE)
        assert result.seconds < WITHIN_S, result
        thread = thread_of(result.json, target.pid)
        assert thread["state"] == "D" or "uninterruptible" in thread["state"], thread
        text = run("stack", target.pid, code=EXIT_DONE)
        assert str(target.pid) in text.out + text.err
        assert target.finish()["child"] == 5


def freezer(name):
    """A frozen cgroup of version 1 or 2, or a skip."""
    need_root()
    v1 = pathlib.Path("/sys/fs/cgroup/freezer")
    v2 = pathlib.Path("/sys/fs/cgroup/unified")
    if not v2.is_dir():
        v2 = pathlib.Path("/sys/fs/cgroup")
    for base, control in ((v1, "freezer.state"), (v2, "cgroup.freeze")):
        group = base / name
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / control).exists():
            return group, control
        group.rmdir()
    pytest.skip("no cgroup freezer here")


def test_frozen_cgroup(stuck):
    group, control = freezer("heaptap-test-%d" % os.getpid())
    frozen, thawed = ("FROZEN", "THAWED") if control == "freezer.state" else ("1", "0")
    home = None
    try:
        (group / "cgroup.procs").write_text(str(stuck.pid))
        home = group.parent / "cgroup.procs"
        (group / control).write_text(frozen)
        result = run("stack", stuck.pid, "--json", code=EXIT_DONE)
        assert result.seconds < WITHIN_S, result
        assert thread_of(result.json, stuck.pid)["state"], result
    finally:
        (group / control).write_text(thawed)
        if home:
            home.write_text(str(stuck.pid))
        wait_for(lambda: not (group / "cgroup.procs").read_text().strip())
        group.rmdir()
    check_clean(stuck.pid)


def test_deleted_executable(tmp_path):
    program = tmp_path / "gone"
    program.write_bytes(built("stuck").read_bytes())
    program.chmod(0o755)
    with Target(program) as target:
        program.unlink()
        program.write_bytes(b"something else entirely" * 1000)
        wait_paused(target)
        thread = thread_of(stack(target.pid), target.pid)
        frame = next(f for f in thread["stack"] if f["function"] == "wait_here")
        assert frame["line"] == marked_line("stuck.c", "WAIT")


def test_another_root(tmp_path):
    need_root()
    inside = [p.values[0] for p in interpreters() if p.values[0] and p.values[0].root]
    if not inside:
        pytest.skip("HEAPTAP_TEST_SID names no Debian tree")
    with inside[-1].start("threads_py.py", tmp_path) as target:
        answer = stack(target.pid)
        tid = int(next(iter(target.facts["stacks"])))
        frames = thread_of(answer, tid)["stack"]
        # down to the C library of that root, whose own functions have no names
        assert "libc.so.6" in frames[-1]["module"], frames[-1]
        python = [f["function"] for f in frames if f["language"] == "python"]
        assert python[-1].endswith("_bootstrap"), python


def test_stripped_names_module(tmp_path):
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-s", "-o", str(stripped), str(built("stuck"))], check=True)
    with Target(stripped) as target:
        wait_paused(target)
        frames = thread_of(stack(target.pid), target.pid)["stack"]
        own = [f for f in frames if f["module"] and f["module"].endswith("stripped")]
        assert len(own) >= 6, frames


def test_stopped_by_nothing_for_long(tmp_path):
    """Five looks at eight busy threads: each is whole and nothing is left."""
    with Target(built("leak"), tmp_path / "log", "--threads", "8", "--rate", "400") as target:
        with Clean(target.pid):
            for _ in range(5):
                answer = stack(target.pid)
                assert len(answer["threads"]) == 9
                assert all(t["stack"] for t in answer["threads"])
        assert target.finish()["blocks"] > 0


def test_text(tmp_path):
    with some_interpreter().start("threads_py.py", tmp_path) as target:
        result = run("stack", target.pid, code=EXIT_DONE)
        for word in ("in_lock", "in_generator", "threads_py.py", str(target.pid)):
            assert word in result.out, result


def test_leak_line_is_marked():
    """The marks that the tests rely on are there."""
    for source in ("leak.c", "leak_cxx.cc", "leak_rust.rs", "cache_leak.py", "ext_leak.py"):
        assert leak_line(source) > 1
    assert status(os.getpid())["Pid"].strip() == str(os.getpid())
