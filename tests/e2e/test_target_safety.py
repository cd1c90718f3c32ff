# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to heaptap, the target runs on with its own text."""
import os
import signal
import subprocess
import time

import pytest

from heaptap import (ENGINES, EXIT_DONE, EXIT_FILE, EXIT_PROCESS, HEAPTAP, Clean, LeakLog,
                     Running, Target, built, check_clean, error_of, has_tool, mappings,
                     patched_text, run, run_json, some_interpreter, state, tracer,
                     wait_for)


def armed(pid):
    wait_for(lambda: patched_text(pid), 10, "the breakpoints")


def goes_on(target):
    """The target leaks on, and its text is the file's."""
    check_clean(target.pid)
    before = len(LeakLog(target.log).rows)
    wait_for(lambda: len(LeakLog(target.log).rows) > before + 5, 10, "five more leaks")
    assert target.alive()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_its_answer(leak, signum, engine):
    with Running("trace", *ENGINES[engine], leak.pid, "-d", "60s", "--json") as running:
        armed(leak.pid)
        wait_for(lambda: len(LeakLog(leak.log).rows) > 60, what="60 leaks")
        running.process.send_signal(signum)
        result = running.finish(10)
    assert result.code == EXIT_DONE, result
    assert result.json["ended_by"] == "signal"
    assert result.json["sites"][0]["function"] == "leak_site"
    goes_on(leak)


def test_sigquit_detaches(leak, engine):
    with Running("trace", *ENGINES[engine], leak.pid, "-d", "60s", "--json") as running:
        armed(leak.pid)
        running.process.send_signal(signal.SIGQUIT)
        running.finish(10)
    goes_on(leak)


def test_a_second_ctrl_c_skips_the_answer_not_the_detach(leak, engine):
    with Running("trace", *ENGINES[engine], leak.pid, "-d", "60s", "--json") as running:
        armed(leak.pid)
        for _ in range(5):
            try:
                running.process.send_signal(signal.SIGINT)
            except ProcessLookupError:
                break
        result = running.finish(10)
    assert result.code in (EXIT_DONE, 130), result
    goes_on(leak)


def test_many_signals_at_random_moments(leak, engine):
    """From before the attach to after the detach."""
    for delay in (0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3):
        with Running("trace", *ENGINES[engine], leak.pid, "-d", "60s", "--json") as running:
            deadline = time.monotonic() + delay
            while time.monotonic() < deadline:
                time.sleep(0.001)
            running.process.send_signal(signal.SIGTERM)
            result = running.finish(10)
        assert result.code in (EXIT_DONE, EXIT_PROCESS, -signal.SIGTERM), result
        check_clean(leak.pid)
    goes_on(leak)


def test_ctrl_z_and_fg(leak, engine):
    """Stopped, nothing of it is in the target; continued, it records on."""
    with Running("trace", *ENGINES[engine], leak.pid, "-d", "60s", "--json") as running:
        armed(leak.pid)
        running.process.send_signal(signal.SIGTSTP)
        wait_for(lambda: state(running.pid) == "T", 10, "the stop")
        assert patched_text(leak.pid) == []
        before = len(LeakLog(leak.log).rows)
        wait_for(lambda: len(LeakLog(leak.log).rows) > before + 20, 10, "the target")
        running.process.send_signal(signal.SIGCONT)
        armed(leak.pid)
        before = len(LeakLog(leak.log).rows)
        wait_for(lambda: len(LeakLog(leak.log).rows) > before + 20, 10, "the target")
        running.process.send_signal(signal.SIGINT)
        result = running.finish(10)
    assert result.code == EXIT_DONE, result
    assert result.json["sites"][0]["function"] == "leak_site"
    goes_on(leak)


def test_head(leak, engine):
    """heaptap trace PID | head -1"""
    with subprocess.Popen([HEAPTAP, "trace", *ENGINES[engine], str(leak.pid), "-d", "1s"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as producer:
        head = subprocess.run(["head", "-1"], stdin=producer.stdout, capture_output=True,
                              text=True, timeout=30)
        producer.stdout.close()
        producer.wait(30)
    assert str(leak.pid) in head.stdout, head
    goes_on(leak)


def test_closed_pipe(leak, engine):
    """Nobody reads at all."""
    reader, writer = os.pipe()
    os.close(reader)
    with Running("trace", *ENGINES[engine], leak.pid, "-d", "1s", stdout=writer) as running:
        os.close(writer)
        running.process.wait(30)
    goes_on(leak)


def full_pipe():
    """(reader, writer) of a pipe without room."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    return reader, writer


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_pipe_that_nobody_reads(leak, stream, engine):
    """heaptap may wait for the reader, the target does not."""
    reader, writer = full_pipe()
    args = ["trace", *ENGINES[engine], leak.pid, "-d", "1s", "--json"]
    args += ["-v"] if stream == "stderr" else []
    try:
        with Running(*args, **{stream: writer}) as running:
            armed(leak.pid)
            wait_for(lambda: not patched_text(leak.pid), 15, "the detach")
            goes_on(leak)
            os.close(reader)
            reader = -1
            running.process.wait(15)
    finally:
        os.close(writer)
        if reader >= 0:
            os.close(reader)


def test_unwritable_output(leak, engine):
    result = run("trace", *ENGINES[engine], leak.pid, "-d", "30s", "-o", "/proc/nothing/answer")
    assert result.code == EXIT_FILE and result.seconds < 2, result
    goes_on(leak)


def test_output_that_becomes_unwritable(leak, tmp_path, engine):
    """The file's folder goes away during the trace."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with Running("trace", *ENGINES[engine], leak.pid, "-d", "60s", "--json", "-o",
                 folder / "answer") as running:
        armed(leak.pid)
        for entry in folder.iterdir():
            entry.unlink()
        folder.rmdir()
        running.process.send_signal(signal.SIGINT)
        result = running.finish(10)
    assert result.code in (EXIT_DONE, EXIT_FILE), result
    goes_on(leak)


def test_heaptap_is_stopped(leak, engine):
    """SIGSTOP cannot be caught; a target with breakpoints waits for the
    tracer, and goes on unharmed when it is continued."""
    with Running("trace", *ENGINES[engine], leak.pid, "-d", "60s", "--json") as running:
        armed(leak.pid)
        running.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: state(running.pid) == "T")
        running.process.send_signal(signal.SIGCONT)
        before = len(LeakLog(leak.log).rows)
        wait_for(lambda: len(LeakLog(leak.log).rows) > before + 5, 10, "the target")
        running.process.send_signal(signal.SIGTERM)
        assert running.finish(10).code == EXIT_DONE
    goes_on(leak)


def test_two_at_once(leak, engine):
    """A second heaptap is told who is there; the first records on."""
    with Running("trace", *ENGINES[engine], leak.pid, "-d", "3s", "--json") as first:
        armed(leak.pid)
        second = run("trace", *ENGINES[engine], leak.pid, "-d", "1s", "--json")
        error_of(second, EXIT_PROCESS, str(first.pid))
        looking = run("stack", leak.pid, "--json")
        if engine == "breakpoint":
            error_of(looking, EXIT_PROCESS, str(first.pid))
        else:
            assert looking.code == EXIT_DONE, looking
        result = first.finish()
    assert result.code == EXIT_DONE, result
    assert result.json["ended_by"] == "duration"
    goes_on(leak)


def test_target_is_stopped_during_the_trace(leak, engine):
    """A group stop stays one; SIGCONT lets it leak on under the trace."""
    with Running("trace", *ENGINES[engine], leak.pid, "-d", "60s", "--json") as running:
        armed(leak.pid)
        os.kill(leak.pid, signal.SIGSTOP)
        wait_for(lambda: state(leak.pid) in "Tt")
        before = len(LeakLog(leak.log).rows)
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            assert len(LeakLog(leak.log).rows) <= before + 1, "it ran while it was stopped"
            time.sleep(0.02)
        os.kill(leak.pid, signal.SIGCONT)
        wait_for(lambda: len(LeakLog(leak.log).rows) > before + 20, 10, "the target")
        running.process.send_signal(signal.SIGINT)
        assert running.finish(10).code == EXIT_DONE
    goes_on(leak)


def test_detach_from_a_stopped_target_leaves_it_stopped(leak, engine):
    with Running("trace", *ENGINES[engine], leak.pid, "-d", "60s", "--json") as running:
        armed(leak.pid)
        os.kill(leak.pid, signal.SIGSTOP)
        wait_for(lambda: state(leak.pid) in "Tt")
        running.process.send_signal(signal.SIGINT)
        assert running.finish(10).code == EXIT_DONE
    wait_for(lambda: state(leak.pid) == "T", 5, "the stop")
    assert patched_text(leak.pid) == []
    os.kill(leak.pid, signal.SIGCONT)
    goes_on(leak)


def test_attach_to_a_stopped_target(leak, engine):
    os.kill(leak.pid, signal.SIGSTOP)
    wait_for(lambda: state(leak.pid) == "T")
    answer = run_json("trace", *ENGINES[engine], leak.pid, "-d", "1s")
    assert answer["totals"]["allocated_blocks"] == 0
    assert answer["verdict"]["state"] not in ("flat", "leak")
    wait_for(lambda: state(leak.pid) == "T", 5, "the stop")
    os.kill(leak.pid, signal.SIGCONT)
    goes_on(leak)


def test_signals_of_the_target(engine):
    """A thousand a second arrive, and none hurts its computation."""
    with Target(built("signals"), "1000") as target:
        with Clean(target.pid):
            run_json("trace", *ENGINES[engine], target.pid, "-d", "2s")
            for _ in range(3):
                run_json("stack", target.pid)
        last = target.finish()
    assert last["wrong"] == 0 and last["rounds"] > 10, last
    seen = last["ticks"] + last["overruns"]
    assert abs(seen - last["expected"]) <= max(20, last["expected"] * 0.02), last


@pytest.mark.parametrize("storm", [False, True], ids=["steady", "storm"])
def test_children(storm, engine):
    """Forks, vforks, execs and threads come out right under a trace, and no
    child is left with a breakpoint in it."""
    with Target(built("forker"), *(["--storm"] if storm else [])) as target:
        with Clean(target.pid):
            answer = run_json("trace", *ENGINES[engine], target.pid, "-d", "3s")
            run_json("stack", target.pid)
        assert answer["totals"]["allocated_blocks"] > 0
        last = target.finish()
    assert last["bad"] == 0 and last["rounds"] > 10, last


def test_children_are_not_traced(engine):
    """A child that was forked under the trace is nobody's tracee. Its text is clean of
    breakpoints; probes that it inherits do nothing in it, and can be taken out."""
    script = ('import os, sys, time\n'
              'print(\'{"ready": true}\', flush=True)\n'
              'sys.stdin.readline()\n'
              'pid = os.fork()\n'
              'if not pid:\n'
              '    time.sleep(1000)\n'
              'print(\'{"child": %d}\' % pid, flush=True)\n'
              'sys.stdin.read()\n')
    with Target(some_interpreter().path, "-c", script) as target:
        with Running("trace", *ENGINES[engine], "-v", target.pid, "-d", "60s",
                     "--json") as running:
            running.wait_recording()
            target.tell()
            child = target.next_line()["child"]
            wait_for(lambda: not tracer(child), what="a child without a tracer")
            if engine == "probe":
                assert patched_text(child)
                assert run_json("clean", child)["removed"]
            check_clean(child)
            running.process.send_signal(signal.SIGINT)
            assert running.finish(10).code == EXIT_DONE
            check_clean(child)
        check_clean(target.pid)


def test_gdb_can_attach_afterwards(leak, engine):
    gdb = has_tool("gdb")
    if not gdb:
        pytest.skip("gdb is not installed")
    run_json("trace", *ENGINES[engine], leak.pid, "-d", "1s")
    out = subprocess.run([gdb, "-q", "-nx", "-batch", "-p", str(leak.pid), "-ex", "bt"],
                         capture_output=True, text=True, timeout=60).stdout
    assert "main" in out, out
    goes_on(leak)


def test_file_descriptors_are_not_left(leak, engine):
    before = sorted(os.listdir("/proc/%d/fd" % leak.pid))
    run_json("trace", *ENGINES[engine], leak.pid, "-d", "1s")
    assert sorted(os.listdir("/proc/%d/fd" % leak.pid)) == before


def test_mappings_are_not_left(tmp_path, engine):
    """Of a Python target too, whose tables point at stubs meanwhile."""
    with some_interpreter().start("cache_leak.py", tmp_path, log="log") as target:
        before = {row[4] for row in mappings(target.pid)}
        executable = sum("x" in row[2] for row in mappings(target.pid))
        run_json("trace", *ENGINES[engine], target.pid, "-d", "1s")
        check_clean(target.pid)
        assert {row[4] for row in mappings(target.pid)} == before
        assert sum("x" in row[2] for row in mappings(target.pid)) == executable
