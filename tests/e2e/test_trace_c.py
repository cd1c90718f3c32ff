# SPDX-License-Identifier: Apache-2.0
"""heaptap trace on C, C++ and Rust: the leaking function, its line, and exact
figures."""
import json
import os
import re
import shutil
import subprocess
import time

import pytest

from heaptap import (ENGINES, EXIT_DONE, SOURCES, Clean, LeakLog, Running, Target, built,
                     check_clean, has_tool, leak_line, run, run_json, wait_for, wait_traced, window)


def trace(target, seconds=3, *args, engine="probe"):
    return run_json("trace", target.pid, "-d", "%ss" % seconds, *ENGINES[engine], *args,
                    timeout=seconds + 30)


def check_shape(answer, seconds, engine):
    assert answer["engine"] == engine
    assert answer["exact"] is True
    assert answer["ended_by"] == "duration", answer["ended_by"]
    assert seconds * 0.95 <= answer["duration_s"] <= seconds + 1, answer["duration_s"]
    assert answer["entry_points"] and all(e["how"] or e["reason"] for e in answer["entry_points"])
    assert answer["totals"]["lost_samples"] == 0, answer["totals"]
    growths = [s["growth_bytes"] for s in answer["sites"]]
    assert growths == sorted(growths, reverse=True)


def check_site(site, target, answer, function, source, line, netted_exactly=True):
    """The site is the leak, and its figures are the target's."""
    least, most = LeakLog(target.log).bounds(*window(answer))
    assert least[0] > 20, "too few leaks seen to tell anything: %s" % (least,)
    assert function in site["function"], site
    assert os.path.basename(site["file"]) == source and site["line"] == line, site
    assert least[0] <= site["live_blocks"] <= most[0], (site, least, most)
    assert least[1] <= site["live_bytes"] <= most[1], (site, least, most)
    assert site["growth_bytes"] <= most[1], (site, least, most)
    if netted_exactly:
        assert site["growth_bytes"] >= least[1], (site, least, most)
    return least, most


@pytest.mark.parametrize("threads", [1, 8])
def test_own_size_class(threads, tmp_path, engine):
    with Target(built("leak"), tmp_path / "log", "--threads", str(threads),
                "--rate", "50") as target:
        target.log = tmp_path / "log"
        with Clean(target.pid):
            answer = trace(target, 4, engine=engine)
        check_shape(answer, 4, engine)
        check_site(answer["sites"][0], target, answer, "leak_site", "leak.c", leak_line("leak.c"))
        for site in answer["sites"][1:]:
            assert site["growth_bytes"] < 2 * 2000, site
        stack = [f["function"] for f in answer["sites"][0]["stack"]]
        assert stack[:2] == ["leak_site", "work"] or "leak_site" in stack, stack
        assert target.finish()["blocks"] > 0


@pytest.mark.parametrize("threads", [1, 8])
def test_shared_size_class(threads, tmp_path, engine):
    """Never above the truth, and still first: the healthy sites free blocks of
    their own long before the end."""
    with Target(built("leak"), tmp_path / "log", "--share", "--threads", str(threads),
                "--rate", "50", "--ring", "4" if threads > 1 else "32") as target:
        target.log = tmp_path / "log"
        with Clean(target.pid):
            answer = trace(target, 4, engine=engine)
        check_shape(answer, 4, engine)
        least, most = check_site(answer["sites"][0], target, answer, "leak_site", "leak.c",
                                 leak_line("leak.c"), netted_exactly=False)
        assert answer["sites"][0]["growth_bytes"] > 0
        # all sites of one class: together no more than the class grew
        total = sum(s["growth_bytes"] for s in answer["sites"] if s["function"] == "leak_site"
                    or s["function"].startswith("healthy"))
        assert total <= most[1] * 1.01 + 2000, (total, least, most)


def test_verdict_of_a_leak(tmp_path):
    """Half a megabyte and more a second for ten seconds is a leak."""
    with Target(built("leak"), tmp_path / "log", "--size", "20000", "--rate", "50") as target:
        target.log = tmp_path / "log"
        answer = trace(target, 10)
        assert answer["verdict"]["state"] == "leak", answer["verdict"]
        truth = LeakLog(target.log).between(*window(answer))[1] / answer["duration_s"]
        assert abs(answer["verdict"]["growth_bytes_per_s"] - truth) < truth * 0.3
        site = answer["sites"][0]
        assert abs(site["growth_bytes_per_s"] - truth) < truth * 0.05
        times = [row["t_s"] for row in answer["timeline"]]
        assert times == sorted(times) and len(times) >= 60, len(times)
        live = [row["live_bytes"] for row in answer["timeline"]]
        assert live[-1] > live[len(live) // 2] > live[0], live


def test_healthy_program_is_not_called_a_leak(tmp_path):
    with Target(built("leak"), tmp_path / "log", "--leak-off", "--rate", "50") as target:
        answer = trace(target, 5)
        assert answer["verdict"]["state"] != "leak", answer["verdict"]
        assert answer["totals"]["allocated_blocks"] > 1000
        for site in answer["sites"]:
            assert site["growth_bytes"] <= 2 * 2000, site


def test_stripped(tmp_path):
    """Without symbols: the module and the offset of the call."""
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-s", "-o", str(stripped), str(built("leak"))], check=True)
    with Target(stripped, tmp_path / "log") as target:
        target.log = tmp_path / "log"
        answer = trace(target, 3)
        least, most = LeakLog(target.log).bounds(*window(answer))
        site = answer["sites"][0]
        assert least[0] <= site["live_blocks"] <= most[0], (site, least, most)
        assert site["stack"][0]["module"].endswith("stripped"), site["stack"]
        text = run("trace", target.pid, "-d", "2s", code=EXIT_DONE).out
        assert "stripped+0x" in text, text


def test_cxx_exceptions(tmp_path, engine):
    with Target(built("leak_cxx"), tmp_path / "log") as target:
        target.log = tmp_path / "log"
        with Clean(target.pid):
            answer = trace(target, 4, engine=engine)
        check_shape(answer, 4, engine)
        site = answer["sites"][0]
        check_site(site, target, answer, "insert", "leak_cxx.cc", leak_line("leak_cxx.cc"))
        frame = next(f for f in site["stack"] if f["function"] and "insert" in f["function"])
        assert "shop::cache::insert" in frame["function"], "demangled: %s" % frame
        assert frame["language"] == "c++"
        for other in answer["sites"][1:]:
            assert other["growth_bytes"] <= 8192, other
        last = target.finish()
        assert last["thrown"] == last["expected"] > 0, last


def rustc():
    return has_tool("rustc") or shutil.which("rustc", path=os.path.expanduser("~/.cargo/bin"))


def test_rust(tmp_path, engine):
    if not rustc():
        pytest.skip("rustc is not installed")
    program = tmp_path / "leak_rust"
    subprocess.run([rustc(), "-g", "-C", "opt-level=2", "-o", str(program),
                    str(SOURCES / "leak_rust.rs")], check=True, timeout=300)
    with Target(program, tmp_path / "log") as target:
        target.log = tmp_path / "log"
        with Clean(target.pid):
            answer = trace(target, 4, engine=engine)
        site = answer["sites"][0]
        least, most = LeakLog(target.log).bounds(*window(answer))
        assert least[0] <= site["live_blocks"] <= most[0], (site, least, most)
        assert least[1] <= site["growth_bytes"] <= most[1], (site, least, most)
        frame = next(f for f in site["stack"]
                     if f["file"] and f["file"].endswith("leak_rust.rs"))
        assert "leak_site" in frame["function"] and frame["language"] == "rust", frame
        assert frame["line"] == leak_line("leak_rust.rs"), frame


def test_dlopen(tmp_path):
    """A module that comes during the trace."""
    with Target(built("dlopen_leak"), tmp_path / "log", built("leak_plugin.so")) as target:
        target.log = tmp_path / "log"
        with Running("trace", "-v", target.pid, "-d", "5s", "--json") as running:
            running.wait_recording()
            target.tell()
            assert target.next_line()["loaded"]
            result = running.finish()
        assert result.code == EXIT_DONE, result
        check_clean(target.pid)
        answer = result.json
        site = next(s for s in answer["sites"] if "plugin_leak" in s["function"])
        check_site(site, target, answer, "plugin_leak", "leak_plugin.c",
                   leak_line("leak_plugin.c"))


def test_longjmp(tmp_path, engine):
    with Target(built("longjmp"), tmp_path / "log") as target:
        target.log = tmp_path / "log"
        with Clean(target.pid):
            answer = trace(target, 3, engine=engine)
        check_site(answer["sites"][0], target, answer, "leak_site", "longjmp.c",
                   leak_line("longjmp.c"))
        last = target.finish()
        assert last["jumped"] == last["expected"] > 0, last


def test_longjmp_out_of_an_entry_point(tmp_path, engine):
    """An entry point by name that is left by longjmp every third time."""
    with Target(built("longjmp"), tmp_path / "log") as target:
        target.log = tmp_path / "log"
        with Clean(target.pid):
            answer = trace(target, 3, "--symbol", "malloc=jump_alloc", engine=engine)
        assert any(e["symbol"] == "jump_alloc" and e["calls"] > 0
                   for e in answer["entry_points"]), answer["entry_points"]
        last = target.finish()
        assert last["jumped"] == last["expected"] > 0, last


def test_recursion(tmp_path, engine):
    with Target(built("recursion"), tmp_path / "log") as target:
        target.log = tmp_path / "log"
        with Clean(target.pid):
            answer = trace(target, 3, engine=engine)
        site = answer["sites"][0]
        least, most = LeakLog(target.log).bounds(*window(answer))
        assert least[0] <= site["live_blocks"] <= most[0], (site, least, most)
        names = [f["function"] for f in site["stack"]]
        assert names.count("rec_alloc") == 9 and names.count("leak_site") == 21, names
        # counted once, at the outermost of nine nested entries
        answer = trace(target, 3, "--symbol", "malloc=rec_alloc", engine=engine)
        least, most = LeakLog(target.log).bounds(*window(answer))
        site = answer["sites"][0]
        assert least[0] <= site["live_blocks"] <= most[0], (site, least, most)
        assert least[1] <= site["live_bytes"] <= most[1], (site, least, most)
        assert site["function"] == "leak_site" and site["line"] == leak_line("recursion.c"), site


def test_no_call_is_said_loudly(stuck):
    with Clean(stuck.pid):
        answer = trace(stuck, 4)
    assert all(e["calls"] == 0 for e in answer["entry_points"] if e["how"])
    assert answer["totals"]["allocated_blocks"] == 0 and answer["sites"] == []
    assert answer["verdict"]["state"] not in ("flat", "leak"), answer["verdict"]
    text = run("trace", stuck.pid, "-d", "1s", code=EXIT_DONE)
    assert re.search(r"\b0 (allocator )?calls", text.out) and "libc" in text.out, text
    assert "flat" not in text.out.lower(), text


def test_text(leak):
    result = run("trace", leak.pid, "-d", "2s", code=EXIT_DONE)
    assert "leak.c:%d" % leak_line("leak.c") in result.out, result
    assert str(leak.pid) in result.out.splitlines()[0], result


def test_limit(leak):
    assert len(trace(leak, 2, "--limit", "3")["sites"]) == 3


def test_exit_of_the_target(tmp_path):
    """The target ends by itself: its recording is the answer."""
    with Target(built("leak"), tmp_path / "log") as target:
        target.log = tmp_path / "log"
        with Running("trace", "-v", target.pid, "-d", "30s", "--json") as running:
            running.wait_recording()
            wait_for(lambda: len(LeakLog(target.log).rows) > 60, what="60 leaks")
            assert target.finish()["done"]
            result = running.finish(10)
        assert result.code == EXIT_DONE, result
        assert result.json["ended_by"] == "exit"
        assert result.json["sites"][0]["function"] == "leak_site"


def test_kill_of_the_target(leak):
    with Running("trace", "-v", leak.pid, "-d", "30s", "--json") as running:
        running.wait_recording()
        leak.process.kill()
        result = running.finish(10)
    assert result.code == EXIT_DONE, result
    assert result.json["ended_by"] == "exit"


def test_exec_of_the_target():
    """After an exec there is nothing of the recorded program left."""
    script = 'echo "{\\"ready\\": true}"; read line; exec sleep 30'
    with Target("/bin/sh", "-c", script) as target:
        with Running("trace", "-v", target.pid, "-d", "20s", "--json") as running:
            running.wait_recording()
            target.tell()
            result = running.finish(15)
        assert result.code == EXIT_DONE, result
        assert result.json["ended_by"] == "exec", result
        check_clean(target.pid)


# ---------------------------------------------------------------- trace -- CMD

def test_command(tmp_path):
    """Its output is its own; the answer goes to -o; its code is told."""
    answer_file, log = tmp_path / "answer.json", tmp_path / "log"
    script = '(sleep 2) | %s %s; exit 7' % (built("leak"), log)
    result = run("trace", "--json", "-o", answer_file, "--", "sh", "-c", script, timeout=60)
    assert result.code == EXIT_DONE, result
    assert '"ready": true' in result.out, "the command's own output: %s" % result
    answer = json.loads(answer_file.read_text())
    assert answer["schema"] == "heaptap.trace/1"
    assert answer["ended_by"] == "exit" and answer["child_exit_code"] == 7


def test_command_from_its_first_allocation(tmp_path):
    """Everything the program leaked is seen: what stuck leaks before ready."""
    answer_file = tmp_path / "answer.json"
    with Running("trace", "-v", "--json", "-o", answer_file, "--", built("stuck"), "500",
                 "64") as running:
        line = running.process.stdout.readline()
        assert '"ready": true' in line, line
        began = time.monotonic()
        child = json.loads(line)["pid"]
        os.kill(child, 15)
        running.process.wait(15)
        assert time.monotonic() - began < 10
    answer = json.loads(answer_file.read_text())
    site = answer["sites"][0]
    assert site["function"] == "leak_site" and site["line"] == leak_line("stuck.c"), site
    assert site["live_blocks"] == 500 and site["live_bytes"] == 500 * 64, site
    assert answer["child_exit_code"] in (143, 15, -15), answer["child_exit_code"]


def test_command_that_ends_at_once(tmp_path, engine):
    """It is held until all is armed, and not a moment longer."""
    answer_file = tmp_path / "answer.json"
    for _ in range(5):
        run("trace", "--engine", engine, "--json", "-o", answer_file, "--", "true", code=EXIT_DONE)
        answer = json.loads(answer_file.read_text())
        assert answer["ended_by"] == "exit" and answer["child_exit_code"] == 0, answer
        assert answer["engine"] == engine and answer["entry_points"], answer


def test_command_not_found():
    result = run("trace", "--", "/nonexistent/program")
    assert result.code == 3, result
    assert "/nonexistent/program" in result.err, result


def test_command_text_goes_to_stderr():
    result = run("trace", "--", "sh", "-c", "echo mine; sleep 0.5")
    assert result.code == EXIT_DONE, result
    assert result.out == "mine\n", result
    assert "heaptap trace" in result.err, result


def test_tracer_is_seen(leak):
    """While it records the process has a tracer, afterwards none."""
    with Running("trace", leak.pid, "--engine", "breakpoint", "-d", "2s", "--json") as running:
        assert wait_traced(leak.pid) == running.pid
        result = running.finish()
    assert result.code == EXIT_DONE, result
    check_clean(leak.pid)
