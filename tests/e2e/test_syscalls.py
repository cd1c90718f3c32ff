# SPDX-License-Identifier: Apache-2.0
"""Each blocking system call returns what it would have returned, at the time
it would have, through attach, stop and detach."""
import concurrent.futures
import os
import subprocess
import time

import pytest

from heaptap import (EXIT_DONE, Target, built, check_clean, run, some_interpreter, state, status,
                     wait_for)

SECONDS = 2.5


def names():
    try:
        out = subprocess.run([built("syscalls"), "--list"], capture_output=True, text=True,
                             check=True).stdout
    except (AssertionError, OSError):
        return []
    return out.split()


def one(name, disturb):
    """Runs one call; disturb(pid, until) is called once it blocks."""
    with Target(built("syscalls"), name, str(SECONDS)) as target:
        began = time.monotonic()
        wait_for(lambda: state(target.pid) in "SD", 2, "the call")
        runs = disturb(target.pid, began + SECONDS * 0.5) if disturb else 0
        if disturb:
            check_clean(target.pid)
        answer = target.next_line(30)
        code = target.process.wait(10)
        return dict(answer, runs=runs, code=code)


def look_again_and_again(pid, until):
    """stack after stack, for half of the time that the call blocks."""
    runs = 0
    while time.monotonic() < until:
        result = run("stack", pid, "--json")
        assert result.code == EXIT_DONE, result
        runs += 1
    return runs


def record(pid, until):
    """A trace of a second, that ends before the call does."""
    result = run("trace", pid, "-d", "1s", "--json")
    assert result.code == EXIT_DONE, result
    assert result.json["duration_s"] >= 0.95, result
    return 1


HOW = {"stack": look_again_and_again, "trace": record}


@pytest.fixture(scope="module")
def outcomes():
    """{(name, how): result or exception}: many at once, for all of them only
    wait; without a disturbance all at once."""
    results = {}

    def attempt(job):
        name, how = job
        try:
            return job, one(name, HOW.get(how))
        except Exception as error:  # noqa: BLE001  reported by the test of that name
            return job, error

    everything = [(name, None) for name in names()]
    with concurrent.futures.ThreadPoolExecutor(len(everything)) as pool:
        results.update(pool.map(attempt, everything))
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        results.update(pool.map(attempt, [(n, how) for n in names() for how in HOW]))
    return results


@pytest.mark.parametrize("how", list(HOW))
@pytest.mark.parametrize("name", names())
def test_call(name, how, outcomes):
    reference, disturbed = outcomes[name, None], outcomes[name, how]
    for outcome in (reference, disturbed):
        if isinstance(outcome, Exception):
            raise AssertionError("%s: %s" % (name, outcome)) from outcome
    assert disturbed["code"] == reference["code"] == 0
    assert disturbed["runs"] >= 1
    assert (disturbed["ret"], os.strerror(disturbed["errno"])) == (
        reference["ret"], os.strerror(reference["errno"]))
    # EINTR comes at half of the time or before; a timeout that starts afresh
    # ends after one and a half.
    ratio = disturbed["elapsed_s"] / reference["elapsed_s"]
    assert 0.9 < ratio < 1.25, "%.2f s instead of %.2f s" % (
        disturbed["elapsed_s"], reference["elapsed_s"])
    assert abs(disturbed["left_s"] - reference["left_s"]) < 0.25 * SECONDS


def test_there_are_calls():
    assert len(names()) >= 40


def test_sleeping_python():
    """time.sleep in Python is not cut short, and raises nothing."""
    script = ('import time; print(\'{"ready": true}\', flush=True); t = time.monotonic(); '
              'time.sleep(2); print(\'{"slept": %f}\' % (time.monotonic() - t), flush=True)')
    with Target(some_interpreter().path, "-c", script) as target:
        look_again_and_again(target.pid, time.monotonic() + 1)
        assert status(target.pid)
        assert 1.99 < target.next_line()["slept"] < 2.5
