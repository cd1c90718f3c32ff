# SPDX-License-Identifier: Apache-2.0
"""heaptap report: what holds the memory of a process, under the name that a
programmer would type."""
import pytest

from heaptap import Target, built, few_interpreters, interpreters, run_json

KINDS = ("list", "dict", "set", "lru", "default", "closure", "registry", "local", "generator",
         "errors")

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
