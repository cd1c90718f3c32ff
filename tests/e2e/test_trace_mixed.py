# SPDX-License-Identifier: Apache-2.0
"""Where no probe fits an entry point it gets a breakpoint beside the others'
probes: together they see every call, once."""
import json
import signal

import pytest

from heaptap import (EXIT_DONE, EXIT_UNSUPPORTED, Clean, Running, Target, built,
                     by_function, check_clean, differences, error_of, foreign_code,
                     patched_text, recorded_work, run, run_json, state, status, tracer, wait_for)

ODD = {"odd_malloc": "malloc", "odd_free": "free", "odd_calloc": "calloc",
       "odd_realloc": "realloc"}
OWN = {"own_malloc": "malloc", "own_free": "free", "own_memalign": "memalign",
       "own_realloc": "realloc"}
REASON = "its own code jumps to its second instruction"


def named(*symbols):
    """--symbol for these; for all that the program has where there are none."""
    every = {**OWN, **ODD}
    return [word for symbol in symbols or [*OWN, *ODD]
            for word in ("--symbol", "%s=%s" % (every[symbol], symbol))]


def rows(answer, *symbols):
    found = {e["symbol"]: e for e in answer["entry_points"]}
    return [found[symbol] for symbol in symbols]


def check_truth(answer, truth):
    assert answer["engine"] == "probe" and answer["exact"] is True, answer
    assert differences(answer, truth) == {}
    # what the C library allocates for a new thread or module is its maker's
    assert set(by_function(answer)) - set(truth) <= {"run_threads", "main"}, by_function(answer)
    assert answer["totals"]["lost_samples"] == 0, answer["totals"]


# ---------------------------------------------------------------- every call

@pytest.fixture(scope="module")
def work():
    return recorded_work("odd", *named())


def test_every_call(work):
    """Blocks of either kind freed by either, moved from one to the other, nested
    both ways, by several threads; nothing of a forked child's."""
    answer, truth = work
    assert len(truth) > 8, truth
    check_truth(answer, truth)


def test_how(work):
    answer, _ = work
    for row in rows(answer, *OWN):
        assert (row["how"], row["reason"]) == ("jump", None), row
    for row in rows(answer, *ODD):
        assert row["how"] == "breakpoint" and row["reason"] == REASON and row["calls"], row


def test_by_breakpoints_alone():
    """The truth is one for the other engine, too."""
    answer, truth = recorded_work("odd", *named(), "--engine", "breakpoint")
    assert answer["engine"] == "breakpoint" and differences(answer, truth) == {}


def test_probes_alone():
    """Who asks for probes gets no breakpoint."""
    answer, _ = recorded_work("odd", *named(), "--engine", "probe")
    for row in rows(answer, *ODD):
        assert row["how"] is None and row["reason"] == REASON, row


def test_beside_glibc():
    """A single function of the program's in place of the C library's. What trace
    does, info says before."""
    with Target(built("odd")) as target:
        told = {e["symbol"]: (e["how"], e["reason"])
                for e in run_json("info", target.pid)["entry_points"]}
    answer, truth = recorded_work("odd")
    assert {e["symbol"]: (e["how"], e["reason"]) for e in rows(answer, "valloc", "malloc")} == \
        {"valloc": ("breakpoint", REASON), "malloc": ("jump", None)} == \
        {name: told[name] for name in ("valloc", "malloc")}
    assert by_function(answer)["by_valloc"] == truth["by_valloc"]
    assert answer["exact"] is True and answer["totals"]["lost_samples"] == 0, answer["totals"]


def test_text_says_why():
    with Target(built("odd")) as target:
        result = run("trace", target.pid, "-d", "500ms", code=EXIT_DONE)
        assert "valloc (by a breakpoint: %s)" % REASON in result.out, result
        check_clean(target.pid)


def test_sampled():
    """A breakpoint sees every call, also where the probes sample."""
    with Target(built("odd")) as target:
        with Clean(target.pid):
            with Running("trace", target.pid, "-v", "-d", "60s", "--json", "--sample", "512",
                         *named()) as running:
                running.wait_recording()
                target.tell("work\n")
                truth = target.next_line(60)["sites"]
                running.process.terminate()
                answer = running.finish().json
    seen = by_function(answer)
    assert answer["exact"] is False and seen["by_own_malloc"] != truth["by_own_malloc"], seen
    for name in ("by_odd_malloc", "by_odd_calloc"):
        assert seen[name] == truth[name], (name, seen[name], truth[name])


# ---------------------------------------------------------------- the program's life

def test_module_that_comes_late():
    """Whose function needs the first breakpoint of all, or one more."""
    for symbols in (list(OWN), [*OWN, *ODD]):
        with Target(built("odd"), built("odd_plugin.so")) as target:
            with Clean(target.pid):
                with Running("trace", target.pid, "-d", "60s", "--json", "-v", "--exact",
                             "--limit", "1000", *named(*symbols)) as running:
                    running.wait_recording()
                    target.tell("load\n")
                    assert target.next_line()["loaded"]
                    wait_for(lambda: any("odd_plugin" in p[0] for p in patched_text(target.pid)),
                             20, "the breakpoint")
                    target.tell("work\n")
                    truth = target.next_line(60)["sites"]
                    running.process.terminate()
                    result = running.finish()
            row = next(e for e in result.json["entry_points"] if "odd_plugin" in e["module"])
            assert (row["symbol"], row["how"], row["calls"]) == ("malloc", "breakpoint", 30), row
            if len(symbols) > len(OWN):
                check_truth(result.json, truth)
            assert target.finish()["child"] == 0


def test_command(tmp_path):
    answer_file = tmp_path / "answer.json"
    with Running("trace", "-v", "--json", "--exact", "--limit", "1000", "-o", answer_file,
                 *named(), "--", built("odd"), stdin=-1) as running:
        assert "ready" in running.process.stdout.readline()
        running.process.stdin.write("work\n")
        running.process.stdin.flush()
        truth = json.loads(running.process.stdout.readline())["sites"]
        running.process.stdin.close()
        assert '"done": true, "child": 0' in running.process.stdout.read()
        assert running.process.wait(20) == EXIT_DONE, running.process.stderr.read()
    answer = json.loads(answer_file.read_text())
    assert answer["ended_by"] == "exit" and answer["child_exit_code"] == 0, answer["ended_by"]
    check_truth(answer, truth)


def test_end_of_the_program():
    for end in ("kill", "exec"):
        with Target(built("odd")) as target:
            with Running("trace", "-v", target.pid, "-d", "30s", "--json", *named()) as running:
                running.wait_recording()
                target.process.kill() if end == "kill" else target.tell("exec\n")
                result = running.finish(15)
            assert result.code == EXIT_DONE, result
            assert result.json["ended_by"] == {"kill": "exit"}.get(end, end), result
            if end == "exec":
                check_clean(target.pid)


def test_ctrl_z():
    """Stopped, nothing of it is in the target; continued, it records on."""
    with Target(built("odd")) as target:
        with Running("trace", target.pid, "-d", "60s", "--json", "--exact", "--limit", "1000", "-v",
                     *named()) as running:
            running.wait_recording()
            running.process.send_signal(signal.SIGTSTP)
            wait_for(lambda: state(running.pid) == "T", 10, "the stop")
            check_clean(target.pid)
            running.process.send_signal(signal.SIGCONT)
            running.wait_recording()
            target.tell("work\n")
            truth = target.next_line(60)["sites"]
            running.process.terminate()
            result = running.finish()
        assert result.code == EXIT_DONE, result
        assert "came too late" not in result.err, result
        check_truth(result.json, truth)
        check_clean(target.pid)


def test_killed():
    """The breakpoints stay, and are the only thing that clean leaves."""
    with Target(built("odd")) as target:
        with Running("trace", "-v", target.pid, "-d", "60s", "--json", *named(*OWN, "odd_calloc"),
                     ) as running:
            running.wait_recording()
            running.process.kill()
            running.process.wait(10)
        wait_for(lambda: status(target.pid)["TracerPid"].strip() == "0", 5, "the kernel")
        assert run_json("clean", target.pid)["removed"]
        assert foreign_code(target.pid) == []
        assert {p[2] for p in patched_text(target.pid)} == {"0xcc"}
        target.check_alive()


# ---------------------------------------------------------------- where it may not be

def test_sigtrap():
    """A program that blocks SIGTRAP keeps it. What only allocates is not seen then;
    what takes blocks back would make all of them look leaked."""
    with Target(built("odd"), "--block-sigtrap") as target:
        answer = run_json("trace", target.pid, "-d", "500ms", "--exact")
        row = rows(answer, "valloc")[0]
        assert answer["engine"] == "probe" and answer["exact"] is False, answer
        assert row["how"] is None and "SIGTRAP" in row["reason"] and REASON in row["reason"], row
        assert rows(answer, "malloc")[0]["how"] == "jump", answer["entry_points"]
        check_clean(target.pid)
        result = run("trace", target.pid, "-d", "500ms", "--json", *named(*OWN, "odd_free"))
        error_of(result, EXIT_UNSUPPORTED, "SIGTRAP")
        check_clean(target.pid)
    answer, truth = recorded_work("odd", *named(), "--unsafe", arguments=["--block-sigtrap"])
    check_truth(answer, truth)


def test_brake():
    """Its breakpoints' stops take too much: the probes go on without them."""
    with Target(built("odd"), "--storm", "odd_malloc") as target:
        with Running("trace", "-v", target.pid, "-d", "60s", "--json",
                     *named("own_malloc", "own_free", "odd_malloc")) as running:
            running.wait_recording()
            wait_for(lambda: tracer(target.pid) == running.pid, 10, "the tracer")
            wait_for(lambda: not tracer(target.pid), 30, "the brake")
            assert any("odd" in p[0] for p in patched_text(target.pid)), "the probes are out"
            target.drain()
            target.next_line()
            running.process.terminate()
            result = running.finish()
        assert result.code == EXIT_DONE, result
        answer, row = result.json, rows(result.json, "odd_malloc")[0]
        assert answer["ended_by"] == "signal" and answer["exact"] is False, answer
        assert row["how"] is None and row["calls"] and "was taken out after" in row["reason"], row
        assert "calls of odd_malloc are not seen" in result.err, result
        assert rows(answer, "own_free")[0]["how"] == "jump", answer["entry_points"]
        check_clean(target.pid)
        target.finish()


def test_brake_of_a_free():
    with Target(built("odd"), "--storm", "odd_free") as target:
        result = run("trace", target.pid, "-d", "60s", "--json",
                     *named("own_malloc", "own_free", "odd_free"), code=EXIT_DONE)
        assert result.json["ended_by"] == "brake", result
        assert result.json["verdict"]["state"] != "leak", result.json["verdict"]
        check_clean(target.pid)
        target.finish()


def test_exact_overrides_the_brake():
    with Target(built("odd"), "--storm", "odd_malloc") as target:
        answer = run_json("trace", target.pid, "-d", "3s", "--exact",
                          *named("own_malloc", "own_free", "odd_malloc"))
        assert answer["ended_by"] == "duration" and answer["exact"] is True, answer
        row = rows(answer, "odd_malloc")[0]
        assert row["how"] == "breakpoint" and row["calls"] > 1000, row
        assert answer["totals"]["live_blocks"] <= 1, answer["totals"]
        check_clean(target.pid)
        target.finish()
