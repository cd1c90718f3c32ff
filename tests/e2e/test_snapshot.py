# SPDX-License-Identifier: Apache-2.0
"""Whoever takes a snapshot is killed at every step: the process goes on, no copy
of it does, and a dead one is found."""
import json
import pathlib
import signal
import subprocess

import pytest

from heaptap import (FULL, Target, built, check_clean, count_steps, kill_at_step, run_json,
                     some_interpreter, state, status, wait_for)

STORMS = ("storm_threads", "storm_signals", "storm_py")
KINDS = {"copy": (), "in-place": ("--in-place",)}


def storm(name, folder):
    if name == "storm_py":
        return some_interpreter().start("storm_py.py", folder, "threads")
    return Target(built(name))


def snapshot(pid, kind="copy"):
    return [str(built("snapshot_once")), *KINDS[kind], str(pid)]


def children(pid):
    """The numbers of its children, dead ones too."""
    found = []
    for task in pathlib.Path("/proc/%d/task" % pid).iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except FileNotFoundError:
            pass
    return found


def is_dead(pid):
    try:
        return state(pid) == "Z"
    except (FileNotFoundError, KeyError):
        return True


def kill_at(pid, step, kind="copy"):
    """True: it was killed. No copy of the process lives on."""
    killed = kill_at_step(snapshot(pid, kind), step) == -signal.SIGKILL
    wait_for(lambda: all(map(is_dead, children(pid))), 10, "the copy's end")
    return killed


def clean(pid):
    """What is left is found, and then gone."""
    answer = run_json("clean", pid)
    assert answer["removed"] or not answer["found"], answer
    assert children(pid) == []
    check_clean(pid)


def check_alive(target):
    assert target.alive()
    assert state(target.pid) in "SRD", status(target.pid)
    assert status(target.pid)["TracerPid"] == "0"


def check_right(target):
    last = target.finish()
    assert last["wrong"] == 0 and last["rounds"] > 0, last
    assert target.drain() == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", STORMS)
def test_a_storm_goes_on(name, kind, tmp_path):
    with storm(name, tmp_path) as target:
        for _ in range(10):
            answer = json.loads(subprocess.run(snapshot(target.pid, kind), timeout=60, check=True,
                                               stdout=subprocess.PIPE).stdout)
            assert answer["copy"] == (kind == "copy") and answer["bytes"] > 0, answer
            check_alive(target)
            assert children(target.pid) == []
        check_clean(target.pid)
        check_right(target)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", STORMS)
def test_killed_at_every_step(name, kind, tmp_path):
    """At each, or at about a tenth of them."""
    with storm(name, tmp_path) as target:
        total = count_steps(snapshot(target.pid, kind))
        assert total > 30
        killed = 0
        for step in range(1, total + 1, 1 if FULL else max(1, total // 25)):
            killed += kill_at(target.pid, step, kind)
            check_alive(target)
            clean(target.pid)
        assert killed > 10
        check_right(target)
