# SPDX-License-Identifier: Apache-2.0
"""Other tracers come and go while probes record: ptrace is free meanwhile."""
import subprocess

from heaptap import (EXIT_DONE, EXIT_PROCESS, LeakLog, Running, Target, built, check_clean,
                     leak_line, mappings, need_tool, run, run_json, tracer, wait_for)


class Gdb:
    """gdb, attached, with a breakpoint on malloc that is passed every time."""

    def __init__(self, pid):
        self.pid = pid
        self.process = subprocess.Popen(
            [need_tool("gdb"), "-q", "-nx", "-p", str(pid), "-ex", "break malloc",
             "-ex", "ignore 1 1000000000", "-ex", "continue &"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def __enter__(self):
        wait_for(lambda: tracer(self.pid), 20, "gdb")
        return self

    def leave(self):
        """A gdb that is told to go while the program runs leaves its breakpoint there."""
        self.process.stdin.write("interrupt\n")
        self.process.stdin.flush()
        assert any("SIGINT" in line for line in self.process.stdout), "gdb did not stop it"
        self.process.communicate("delete\ndetach\nquit\n", timeout=20)
        wait_for(lambda: not tracer(self.pid), 10, "gdb to let go")

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def leaks_on(target):
    before = len(LeakLog(target.log).rows)
    wait_for(lambda: len(LeakLog(target.log).rows) > before + 5, 10, "five more leaks")


def ours(pid):
    return [row for row in mappings(pid) if "heaptap-probes" in row[4]]


def test_strace_comes_and_goes(leak):
    strace = need_tool("strace")
    with Running("trace", "-v", "-d", "60s", "--json", leak.pid) as running:
        running.wait_recording()
        with subprocess.Popen([strace, "-f", "-p", str(leak.pid), "-o", "/dev/null"],
                              stderr=subprocess.DEVNULL) as process:
            wait_for(lambda: tracer(leak.pid), 10, "strace")
            process.terminate()
        wait_for(lambda: not tracer(leak.pid), 10, "strace to let go")
        leaks_on(leak)
        running.process.terminate()
        result = running.finish()
    assert result.code == EXIT_DONE, result
    assert result.json["sites"][0]["function"] == "leak_site", result.json["sites"][0]
    check_clean(leak.pid)
    assert ours(leak.pid) == []


def test_gdb_comes_and_goes(leak):
    with Running("trace", "-v", "-d", "60s", "--json", leak.pid) as running:
        running.wait_recording()
        with Gdb(leak.pid) as gdb:
            gdb.leave()
        leaks_on(leak)
        running.process.terminate()
        result = running.finish()
    assert result.code == EXIT_DONE, result
    assert result.json["sites"][0]["line"] == leak_line("leak.c"), result.json["sites"][0]
    check_clean(leak.pid)
    assert ours(leak.pid) == []


def test_the_end_while_gdb_is_there():
    """Nothing can be taken out: the answer is given, gdb is named, and the
    program goes on; clean finishes the work."""
    with Target(built("storm_threads")) as target:
        with Running("trace", "-v", "-d", "60s", "--json", target.pid) as running:
            running.wait_recording()
            with Gdb(target.pid) as gdb:
                running.process.terminate()
                result = running.finish()
                assert result.code == EXIT_PROCESS, result
                assert result.json["totals"]["allocated_blocks"] > 0, result.json["totals"]
                assert "gdb" in result.err and "heaptap clean %d" % target.pid in result.err, result
                assert ours(target.pid)
                assert run("clean", target.pid, "--json").code == EXIT_PROCESS
                gdb.leave()
        answer = run_json("clean", target.pid)
        assert answer["found"] and answer["removed"], answer
        check_clean(target.pid)
        assert ours(target.pid) == []
        last = target.finish()
    assert last["wrong"] == 0 and last["rounds"] > 0, last


def test_a_second_heaptap(leak):
    """It is told who is there; stack looks on."""
    with Running("trace", "-v", "-d", "60s", "--json", leak.pid) as running:
        running.wait_recording()
        assert run("stack", leak.pid).code == EXIT_DONE
        result = run("trace", "-d", "1s", leak.pid, code=EXIT_PROCESS)
        assert "already recorded by heaptap %d" % running.pid in result.err, result
        running.process.terminate()
        assert running.finish().code == EXIT_DONE
    check_clean(leak.pid)
