# SPDX-License-Identifier: Apache-2.0
"""A target that allocates without pause: heaptap gets out, says why, and the
target is back at its speed."""
import statistics
import time

import pytest

from heaptap import EXIT_DONE, check_clean, interpreters, run, some_interpreter


def speeds(target, count, after):
    """`count` speeds that were measured wholly after a time."""
    found = []
    while len(found) < count:
        line = target.next_line(30)
        if line["t"] - 0.5 > after:
            found.append(line["ops_per_s"])
    return statistics.median(found)


@pytest.mark.parametrize("interpreter", interpreters())
def test_json_loop(interpreter, tmp_path):
    with interpreter.start("json_loop.py", tmp_path) as target:
        before = speeds(target, 3, time.time())
        result = run("trace", target.pid, "-d", "30s", "--json")
        assert result.code == EXIT_DONE, result
        answer = result.json
        assert answer["ended_by"] == "brake", result
        # out within two seconds; starting up and answering come on top
        assert answer["duration_s"] < 2 and result.seconds < 8, result
        assert answer["verdict"]["state"] == "unknown", answer["verdict"]
        check_clean(target.pid)
        after = speeds(target, 3, time.time())
        assert after > before * 0.75, (before, after)


def test_text_says_why(tmp_path):
    with some_interpreter().start("json_loop.py", tmp_path) as target:
        result = run("trace", target.pid, "-d", "30s")
        assert result.code == EXIT_DONE, result
        assert "stops" in (result.out + result.err).lower(), result


def test_exact_overrides(tmp_path):
    with some_interpreter().start("json_loop.py", tmp_path) as target:
        result = run("trace", target.pid, "-d", "3s", "--exact", "--json")
        assert result.code == EXIT_DONE, result
        assert result.json["ended_by"] == "duration", result
        check_clean(target.pid)
