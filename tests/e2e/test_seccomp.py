# SPDX-License-Identifier: Apache-2.0
"""Probes in programs whose system calls are filtered: placed where the filter lets
the probe's own calls pass, else refused before anything is done, and taken out
when a filter comes later. The program computes all the time, checks what comes
out, and ends as it would have."""
import ctypes
import os

import pytest

from heaptap import (EXIT_UNSUPPORTED, Clean, Running, Target, built, check_clean, error_of,
                     mappings, need_root, patched_text, run, run_json, status, wait_for)

CAP_SYS_ADMIN, PR_CAPBSET_DROP = 21, 24


@pytest.fixture(autouse=True)
def readable_filters():
    need_root()
    if status(os.getpid())["Seccomp"].strip() != "0":
        pytest.skip("these tests are under a seccomp filter themselves")


def filtered(*args):
    return Target(built("filtered"), *args)


def check_untouched(pid):
    check_clean(pid)
    assert [row for row in mappings(pid) if "heaptap-probes" in row[4]] == []


def check_right(target):
    last = target.finish()
    assert last["wrong"] == 0 and last["rounds"] > 0, last
    assert target.drain() == []


def record(target, *options):
    with Clean(target.pid):
        answer = run_json("trace", "--engine", "probe", "-d", "500ms", *options, target.pid)
    check_untouched(target.pid)
    return answer


def check_refused(target, *words, **options):
    """The error of a trace that leaves the target as it is."""
    filters = status(target.pid)["Seccomp_filters"]
    with Clean(target.pid):
        result = run("trace", "--engine", "probe", "-d", "500ms", "--json", target.pid, **options)
        error = error_of(result, EXIT_UNSUPPORTED, *words)
    check_untouched(target.pid)
    assert status(target.pid)["Seccomp_filters"] == filters
    check_right(target)
    return error


PASSING = {
    "allow": ("allow",),
    "many": ("allow", "--stacked", "20"),
    "futex by its operation": ("futex-ops",),
    "a list": ("listed",),
    "all threads": ("futex-ops", "--threads"),
    "one thread": ("futex-ops", "--one-thread"),
    "an injected call that fails": ("failing-memfd",),
    "threads that come and go": ("futex-ops", "--churn"),
}


@pytest.mark.parametrize("options", [(), ("--exact",)], ids=["sampled", "exact"])
@pytest.mark.parametrize("name", PASSING)
def test_recorded_under_a_filter_that_lets_it_pass(name, options):
    with filtered(*PASSING[name]) as target:
        for _ in range(2):
            answer = record(target, *options)
            assert answer["totals"]["allocated_blocks"] > 0, answer["entry_points"]
            assert answer["ended_by"] == "duration", answer
        check_right(target)


REFUSED = {
    "no futex": (("no-futex",), ["may not call futex", "end the process"]),
    "below others": (("no-futex", "--stacked", "3"), ["may not call futex"]),
    "futex by its older operations": (("futex-old-ops",), ["may not call futex"]),
    "by an address of the stack": (("futex-low-timeout",), ["may not call futex"]),
    "by the code that calls": (("own-code",), ["may not call futex"]),
    "clock_gettime fails": (("no-clock",), ["may not call clock_gettime", "make it fail"]),
    "clock_gettime is logged": (("log-clock",), ["may not call clock_gettime", "log"]),
    "all threads": (("no-clock", "--threads"), ["may not call clock_gettime"]),
    "a call goes on after a stop": (("no-restart",), ["may not call restart_syscall"]),
    "an injected call": (("no-memfd",), ["may not call memfd_create"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_under_a_filter_that_does_not(name):
    args, words = REFUSED[name]
    with filtered(*args) as target:
        error = check_refused(target, *words, "--engine probe")
        assert str(target.pid) in error["message"], error


def test_the_thread_is_named():
    with filtered("no-futex", "--one-thread") as target:
        worker, = set(os.listdir("/proc/%d/task" % target.pid)) - {str(target.pid)}
        check_refused(target, "thread %s (filtered)" % worker, "may not call futex")


def test_strict_mode_is_refused():
    with filtered("strict", "--late") as target:
        target.tell("filter\n")
        assert target.next_line()["filtered"]
        result = run("trace", "--engine", "probe", "-d", "500ms", "--json", target.pid)
        error_of(result, EXIT_UNSUPPORTED, "may not call futex", "strict mode")
        check_untouched(target.pid)
        check_right_strictly(target)


def drop_sys_admin():
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0)


def test_refused_where_filters_cannot_be_read():
    with filtered("allow") as target:
        check_refused(target, "not known", "CAP_SYS_ADMIN", preexec_fn=drop_sys_admin)


# ---------------------------------------------------------------- later

def check_right_strictly(target):
    """Under filters that do not let it go on as before it is told to."""
    target.tell("go\n")
    assert target.next_line()["went"]
    check_right(target)


def filter_while_recording(target, line, *options):
    """The result of a trace in the middle of which the target sets its filter."""
    with Running("trace", "--engine", "probe", "-d", "60s", *options, target.pid) as running:
        wait_for(lambda: patched_text(target.pid), 10, "the probes")
        wait_for(lambda: status(target.pid)["TracerPid"].strip() == "0", 10, "ptrace to be let go")
        target.tell(line)
        assert target.next_line()["filtered"]
        result = running.finish()
    assert result.code == 0, result
    check_untouched(target.pid)
    return result


LATER = {
    "allow": ("allow",),
    "no-clock": ("no-clock",),
    "no-futex": ("no-futex",),
    "strict": ("strict",),
    "all threads": ("no-clock", "--threads"),
    "one thread": ("no-futex", "--one-thread"),
}


@pytest.mark.parametrize("name", LATER)
def test_a_filter_that_comes_later_ends_it(name):
    with filtered(*LATER[name], "--late") as target:
        result = filter_while_recording(target, "filter\n", "--json")
        assert result.json["ended_by"] == "probe_cost", result
        check_right_strictly(target)


@pytest.mark.parametrize("args", [("allow",), ("no-clock",), ("no-clock", "--threads")],
                         ids=["allow", "no-clock", "all threads"])
def test_a_filter_that_comes_while_it_allocates(args):
    """None of these ends a program for the probe's calls in the time until they
    are taken out."""
    with filtered(*args, "--late") as target:
        result = filter_while_recording(target, "Filter\n", "--json")
        assert result.json["ended_by"] == "probe_cost", result
        check_right(target)


def test_one_filter_more_ends_it():
    """The first was judged, the second was not."""
    with filtered("allow") as target:
        result = filter_while_recording(target, "Filter\n")
        assert "filters its system calls now (seccomp)" in result.out, result
        check_right(target)
