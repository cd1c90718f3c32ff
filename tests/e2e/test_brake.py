# SPDX-License-Identifier: Apache-2.0
"""A target that allocates without pause: heaptap gets out, says why, and the
target is back at its speed."""
import statistics
import time

import pytest

from heaptap import (EXIT_DONE, check_clean, few_interpreters, run, run_json,
                     some_interpreter)


def speeds(target, count, after):
    """`count` speeds that were measured wholly after a time."""
    found = []
    while len(found) < count:
        line = target.next_line(30)
        if line["t"] - 0.5 > after:
            found.append(line["ops_per_s"])
    return statistics.median(found)


def braked(target):
    """One trace that the brake ends; how long heaptap was in the target."""
    result = run("trace", "--engine", "breakpoint", target.pid, "-d", "30s", "--json")
    assert result.code == EXIT_DONE, result
    assert result.json["ended_by"] == "brake", result
    assert result.json["verdict"]["state"] != "leak", result.json["verdict"]
    check_clean(target.pid)
    return result.json["duration_s"]


@pytest.mark.parametrize("interpreter", few_interpreters())
def test_json_loop(interpreter, tmp_path):
    """Out within two seconds; on a busy machine, in one of three tries."""
    with interpreter.start("json_loop.py", tmp_path) as target:
        before = speeds(target, 3, time.time())
        durations = []
        while not durations or (min(durations) >= 2 and len(durations) < 3):
            durations.append(braked(target))
        assert min(durations) < 2, durations
        left, after = time.time(), []
        while not after or (max(after) < before * 0.8 and len(after) < 30):
            after.append(speeds(target, 1, left))
        assert max(after) >= before * 0.8, (before, after)


def test_text_says_why(tmp_path):
    with some_interpreter().start("json_loop.py", tmp_path) as target:
        result = run("trace", "--engine", "breakpoint", target.pid, "-d", "30s")
        assert result.code == EXIT_DONE, result
        assert "stops" in (result.out + result.err).lower(), result


def test_exact_overrides(tmp_path):
    with some_interpreter().start("json_loop.py", tmp_path) as target:
        result = run("trace", "--engine", "breakpoint", target.pid, "-d", "3s", "--exact", "--json")
        assert result.code == EXIT_DONE, result
        assert result.json["ended_by"] == "duration", result
        check_clean(target.pid)


def test_probes_need_no_brake(tmp_path):
    with some_interpreter().start("json_loop.py", tmp_path) as target:
        answer = run_json("trace", target.pid, "-d", "4s")
        assert answer["ended_by"] == "duration" and answer["engine"] == "probe", answer
        assert answer["totals"]["allocated_blocks"] > 100000, answer["totals"]
        check_clean(target.pid)
