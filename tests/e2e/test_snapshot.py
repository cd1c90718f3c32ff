# SPDX-License-Identifier: Apache-2.0
"""Snapshots of processes at work, of such as cannot be copied; and whoever takes
one is killed at every step: the process goes on, no copy of it does, and a dead one
is found."""
import json
import os
import pathlib
import signal
import subprocess

import pytest

from heaptap import (FULL, Target, built, check_clean, count_steps, kill_at_step, need_root,
                     run_json, state, status, wait_for)
from test_limits import Cgroup, Freezer
from test_probe_storms import STORMS, python_storm, storm

KINDS = {"copy": (), "in-place": ("--in-place",)}


def started(name, folder):
    if name.startswith("python"):
        return python_storm(name.split("-")[1], folder)
    return storm(name)


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
    """What is left is found, and then gone. True: something was."""
    answer = run_json("clean", pid)
    assert answer["removed"] or not answer["found"], answer
    assert not run_json("clean", pid)["found"]
    check_clean(pid)
    return answer["found"]


def check_alive(target):
    assert target.alive()
    assert state(target.pid) in "SRD", status(target.pid)
    assert status(target.pid)["TracerPid"] == "0"


def check_right(target):
    last = target.finish()
    assert last["wrong"] == 0 and last["rounds"] > 0, last
    assert target.drain() == []


def take(pid, kind="copy"):
    return json.loads(subprocess.run(snapshot(pid, kind), timeout=60, check=True,
                                     stdout=subprocess.PIPE).stdout)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*STORMS, "python-threads", "python-fork"])
def test_a_storm_goes_on(name, kind, tmp_path):
    with started(name, tmp_path) as target:
        for _ in range(10):
            answer = take(target.pid, kind)
            assert answer["copy"] == (kind == "copy") and answer["bytes"] > 0, answer
            check_alive(target)
        assert not clean(target.pid)
        check_right(target)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["threads", "signals", "python-threads"])
def test_killed_at_every_step(name, kind, tmp_path):
    """At each, or at about a tenth of them."""
    with started(name, tmp_path) as target:
        total = count_steps(snapshot(target.pid, kind))
        assert total > 20
        killed = left = 0
        for step in range(1, total + 1, 1 if FULL else max(1, total // 25)):
            killed += kill_at(target.pid, step, kind)
            check_alive(target)
            left += clean(target.pid)
        assert killed > 10
        assert (left > 0) == (kind == "copy"), left
        check_right(target)


# ---------------------------------------------------------------- in place

FILTERS = {"allow": True, "no-clock": True, "listed": False, "strict": False}


@pytest.mark.parametrize("name", FILTERS)
def test_filtered_system_calls(name):
    """A copy where nothing that may come of it is forbidden."""
    need_root()
    if status(os.getpid())["Seccomp"].strip() != "0":
        pytest.skip("these tests are under a seccomp filter themselves")
    with Target(built("filtered"), name, "--late") as target:
        target.tell("filter\n")
        assert target.next_line()["filtered"]
        answer = take(target.pid)
        assert answer["copy"] == FILTERS[name], answer
        assert FILTERS[name] or "seccomp" in answer["why"], answer
        check_alive(target)
        assert children(target.pid) == []
        target.tell("go\n")
        assert target.next_line()["went"]
        check_right(target)


def test_a_frozen_process(tmp_path):
    """Nothing is stopped, and nothing has to be."""
    with Freezer(tmp_path) as group, Target(built("storm_signals")) as target:
        group.take(target.pid)
        with group.frozen():
            answer = take(target.pid)
            assert not answer["copy"] and "frozen" in answer["why"], answer
            assert answer["pause_s"] == 0 and answer["bytes"] > 0, answer
        check_alive(target)
        check_right(target)


def test_no_room_for_a_copy(tmp_path):
    with Cgroup("memory", tmp_path) as group, Target(built("storm_signals")) as target:
        group.take(target.pid)
        resident = int(status(target.pid)["VmRSS"].split()[0]) << 10
        used = int(group.read("memory.usage_in_bytes"))
        group.write("memory.limit_in_bytes", used + resident // 2)
        answer = take(target.pid)
        assert not answer["copy"] and "memory can still be taken" in answer["why"], answer
        check_alive(target)
        check_right(target)


def test_the_parent_of_a_vfork():
    """It is in uninterruptible sleep, and is left alone."""
    with Target(built("vfork_parent")) as target:
        wait_for(lambda: state(target.pid) == "D", what="the vfork")
        answer = take(target.pid)
        assert not answer["copy"] and answer["pause_s"] == 0, answer
        assert target.finish()["child"] == 5
