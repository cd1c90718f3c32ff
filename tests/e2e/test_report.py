# SPDX-License-Identifier: Apache-2.0
"""heaptap report: what holds the memory of a process, under the name that a
programmer would type."""
import os
import pathlib

import pytest

from heaptap import (EXIT_DONE, EXIT_UNSUPPORTED, EXIT_USAGE, Clean, Target, built, error_of,
                     few_interpreters, interpreters, run, run_json)
from test_probe_storms import storm

KINDS = ("list", "dict", "set", "lru", "default", "closure", "registry", "local", "generator",
         "errors", "numbers")

def names(truth, suspect):
    if "name" in truth:
        return suspect["name"] == truth["name"]
    return all(word in suspect["name"] for word in truth["name_has"])


def check(interpreter, kind, folder):
    with interpreter.start("holders.py", folder, kind) as target:
        truth = target.facts
        answer = run_json("report", target.pid)
        target.tell("\n")
        freed = target.next_line()["freed"]
    assert answer["walk"]["complete"], answer["walk"]
    first = answer["suspects"][0]
    assert names(truth, first), (truth, answer["suspects"])
    assert first["kind"] == truth["kind"], first
    assert first["items"] == truth["items"], first
    assert abs(first["retained_bytes"] - freed) <= 0.05 * freed, (first, freed)


@pytest.mark.parametrize("interpreter", interpreters())
def test_holders(interpreter, tmp_path):
    for kind in KINDS:
        check(interpreter, kind, tmp_path)


@pytest.mark.parametrize("interpreter", few_interpreters())
def test_cycles(interpreter, tmp_path):
    with interpreter.start("holders.py", tmp_path, "cycles") as target:
        truth = target.facts
        lost = run_json("report", target.pid)["unreachable"]
    count = {row["type"]: row["count"] for row in lost["python_types"]}
    # a number on some stack may look like a pointer to one of them
    assert truth["items"] * 0.999 <= count[truth["cycle"]] <= truth["items"], lost


@pytest.mark.parametrize("mode", ["main", "arena", "churn"])
def test_lost_blocks(mode):
    with Target(built("lost"), 200000, 50000, mode) as target:
        answer = run_json("report", target.pid)
        target.finish()
    lost = answer["unreachable"]
    assert answer["walk"]["complete"], answer["walk"]
    assert abs(lost["c_blocks"] - 50000) <= 50, lost
    group = lost["groups"][0]
    assert abs(group["count"] - 50000) <= 50 and "forgotten" in group["preview"], group
    first = answer["suspects"][0]
    assert first["kind"] == "native" and first["name"] == "kept", first


@pytest.mark.parametrize("interpreter", few_interpreters())
def test_refs_and_types(interpreter, tmp_path):
    with interpreter.start("holders.py", tmp_path, "list", "1000") as target:
        refs = run_json("refs", "--type", "Record", "--index", "500", target.pid)
        dot = run("refs", "--type", "__main__.Record", "-o", tmp_path / "refs.dot", target.pid,
                  code=EXIT_DONE)
        error_of(run("refs", "--type", "NoSuchType", target.pid, "--json"),
                 EXIT_UNSUPPORTED, "NoSuchType")
        error_of(run("refs", target.pid, "--json"), EXIT_USAGE, "--type")
        types = run_json("types", "--match", "*Record", target.pid)["types"]
        grown = run_json("types", "--growth", "100ms", "--match", "*Record", target.pid)["types"]
    assert refs["nodes"][0]["type"] == "__main__.Record", refs["nodes"][0]
    labels = [node["label"] for node in refs["nodes"]]
    assert "__main__.SEEN" in labels, labels
    holder = labels.index("__main__.SEEN")
    assert {"from": holder, "to": 0} in [
        {"from": e["from"], "to": e["to"]} for e in refs["edges"]], refs["edges"]
    assert dot.out == "" and (tmp_path / "refs.dot").read_text().startswith("digraph")
    assert [(t["type"], t["count"], t["count_change"]) for t in types] == [
        ("__main__.Record", 1000, None)], types
    assert grown[0]["count_change"] == 0, grown


def test_no_python(stuck):
    error_of(run("types", stuck.pid, "--json"), EXIT_UNSUPPORTED, "CPython")


def test_bare_pid_is_a_report(stuck):
    with_word = run("report", stuck.pid, code=EXIT_DONE).out
    without = run(stuck.pid, code=EXIT_DONE).out
    assert without.splitlines()[0].split(" · ")[0] == with_word.splitlines()[0].split(" · ")[0]


def children(pid):
    return [path.read_text() for path in pathlib.Path("/proc/%d/task" % pid).glob("*/children")
            if path.read_text()]


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def test_nothing_is_left():
    """A program of many threads that allocates all the time and checks itself."""
    with storm("threads") as target:
        # once it has come up
        run("report", target.pid, code=EXIT_DONE)
        least = min(descriptors(target.pid) for _ in range(20))
        with Clean(target.pid):
            for _ in range(10):
                answer = run_json("report", target.pid)
                assert answer["walk"]["complete"], answer["walk"]
                table = dict(answer["memory"])
                rows = sum(table[name] for name in (
                    "python_live_bytes", "python_free_bytes", "c_live_bytes", "c_free_bytes",
                    "code_bytes", "stack_bytes", "other_bytes"))
                assert rows == table["rss_bytes"], table
        assert not children(target.pid)
        # it opens and closes some of its own
        assert min(descriptors(target.pid) for _ in range(20)) == least
        last = target.finish()
    assert last["wrong"] == 0, last


def test_in_place():
    with Target(built("lost"), 2000, 500, "main") as target:
        answer = run_json("report", "--stop", target.pid)
        text = run("report", "--stop", target.pid, code=EXIT_DONE).out
        target.finish()
    assert answer["unreachable"]["c_blocks"] == 500, answer["unreachable"]
    assert "read in place" in text.splitlines()[0], text
