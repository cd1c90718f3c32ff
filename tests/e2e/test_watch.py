# SPDX-License-Identifier: Apache-2.0
"""heaptap watch: memory over time, without ptrace."""
import csv
import io
import os
import signal
import subprocess

import pytest

from heaptap import (EXIT_DONE, EXIT_PROCESS, Running, Target, built, error_of, has_tool, run,
                     run_json, some_interpreter, status)


def rss_bytes(pid):
    return int(status(pid)["VmRSS"].split()[0]) * 1024


def test_one_process(stuck):
    answer = run_json("watch", stuck.pid, "-d", "1s", "--interval", "100ms")
    assert len(answer["processes"]) == 1
    entry = answer["processes"][0]
    assert entry["process"]["pid"] == stuck.pid and entry["error"] is None
    timeline = entry["timeline"]
    assert 8 <= len(timeline) <= 12, [row["t_s"] for row in timeline]
    times = [row["t_s"] for row in timeline]
    assert times == sorted(times) and 0.8 <= times[-1] <= 1.3
    last = timeline[-1]
    assert abs(last["rss_bytes"] - rss_bytes(stuck.pid)) <= 128 * 1024
    assert last["swap_bytes"] is not None and last["fds"] == len(
        os.listdir("/proc/%d/fd" % stuck.pid))
    sampled = [row for row in timeline if row["pss_bytes"] is not None]
    assert sampled, timeline
    for row in sampled:
        assert row["uss_bytes"] <= row["pss_bytes"] <= row["rss_bytes"] + 128 * 1024


def test_no_ptrace(stuck):
    """Works while another traces the process, and does not stop it."""
    strace = has_tool("strace")
    if not strace:
        pytest.skip("strace is not installed")
    done = subprocess.run([strace, "-f", "-e", "trace=ptrace", "-o", "/dev/stderr",
                           *map(str, run_argv("watch", stuck.pid, "-d", "0.5"))],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done
    assert "ptrace(" not in done.stderr


def run_argv(*args):
    from heaptap import HEAPTAP
    return [HEAPTAP, *args]


def test_climbing(tmp_path):
    """A megabyte and more a second for three seconds: a leak."""
    with Target(built("leak"), tmp_path / "log", "--size", "60000", "--rate", "100") as target:
        # The pages of a malloc that nobody wrote to are not resident; leak.c
        # writes 8 bytes of each block, so a page in 15 is: still > 1 MiB/3 s.
        answer = run_json("watch", target.pid, "-d", "6s")
        verdict = answer["processes"][0]["verdict"]
    assert verdict["state"] == "leak", verdict
    assert verdict["signal"] == "rss"
    assert verdict["growth_bytes_per_s"] > 100000
    assert verdict["limit_bytes"] is None or verdict["time_to_limit_s"] > 0
    assert verdict["reason"]


def test_flat(stuck):
    verdict = run_json("watch", stuck.pid, "-d", "4s")["processes"][0]["verdict"]
    assert verdict["state"] == "flat", verdict


def test_too_few_points_is_no_verdict(stuck):
    answer = run_json("watch", stuck.pid, "-d", "1s", "--interval", "200ms")
    verdict = answer["processes"][0]["verdict"]
    assert verdict["state"] == "unknown" and verdict["reason"], verdict


def test_several_and_one_goes_away(stuck):
    with Target(built("stuck")) as other, Target(built("stuck")) as third:
        with Running("watch", stuck.pid, other.pid, third.pid, "-d", "2s", "--interval", "50ms",
                     "--json") as watch:
            other.process.kill()
            other.process.wait()
            result = watch.finish()
    assert result.code == EXIT_DONE, result
    entries = {e["process"]["pid"]: e for e in result.json["processes"]}
    assert entries[other.pid]["error"], result
    assert entries[stuck.pid]["error"] is None and entries[third.pid]["error"] is None
    assert len(entries[stuck.pid]["timeline"]) > 20


def test_none_there():
    child = subprocess.Popen(["true"])
    child.wait()
    error_of(run("watch", child.pid, "-d", "1s", "--json"), EXIT_PROCESS, str(child.pid))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_its_answer(stuck, signum):
    with Running("watch", stuck.pid, "--interval", "50ms", "--json") as watch:
        wait_until_sleeping(watch.pid)
        watch.process.send_signal(signum)
        result = watch.finish(10)
    assert result.code == EXIT_DONE, result
    assert result.json["processes"][0]["timeline"], result


def wait_until_sleeping(pid):
    """Until heaptap has its signal handlers and waits for the next sample."""
    from heaptap import wait_for
    caught = 1 << (signal.SIGINT - 1)
    wait_for(lambda: int(status(pid).get("SigCgt", "0"), 16) & caught
             or int(status(pid).get("SigBlk", "0"), 16) & caught, what="heaptap's handlers")


def test_csv(stuck):
    result = run("watch", stuck.pid, "-d", "1s", "--interval", "100ms", "--csv", code=EXIT_DONE)
    rows = list(csv.reader(io.StringIO(result.out)))
    assert "rss_bytes" in rows[0] and "t_s" in rows[0], rows[0]
    column = rows[0].index("rss_bytes")
    assert len(rows) >= 9 and all(int(row[column]) > 0 for row in rows[1:]), rows


def test_text_draws(stuck):
    result = run("watch", stuck.pid, "-d", "1s", "--interval", "50ms", code=EXIT_DONE)
    assert str(stuck.pid) in result.out and "RSS" in result.out, result


def test_python_is_named(tmp_path):
    with some_interpreter().start("cache_leak.py", tmp_path, log="log") as target:
        entry = run_json("watch", target.pid, "-d", "0.5")["processes"][0]
        assert entry["process"]["python"] == ".".join(map(str, target.facts["version"]))


def test_stopped_process(stuck):
    os.kill(stuck.pid, signal.SIGSTOP)
    entry = run_json("watch", stuck.pid, "-d", "0.5")["processes"][0]
    os.kill(stuck.pid, signal.SIGCONT)
    assert entry["error"] is None and entry["timeline"]
