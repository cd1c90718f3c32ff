# SPDX-License-Identifier: Apache-2.0
"""A program with its own idea of SIGTRAP keeps mask, action and behaviour, or
is refused with the reason."""
import os

import pytest

from heaptap import (EXIT_DONE, EXIT_PROCESS, EXIT_UNSUPPORTED, Target, built, check_clean,
                     error_of, run)

SIGTRAP_BIT = 1 << 4


def trap_fields(target):
    """SigBlk, SigIgn and SigCgt of every thread, for SIGTRAP."""
    fields = {}
    for tid in os.listdir("/proc/%d/task" % target.pid):
        with open("/proc/%d/task/%s/status" % (target.pid, tid)) as file:
            rows = dict(line.split(":\t", 1) for line in file if ":\t" in line)
        fields[tid] = tuple(bool(int(rows[name], 16) & SIGTRAP_BIT)
                            for name in ("SigBlk", "SigIgn", "SigCgt"))
    return fields


def check_kept(target, mode):
    last = target.finish()
    assert last["mask_kept"] and last["action_kept"], last
    if mode == "handler":
        assert last["handled"] == last["raised"] > 0, last
    elif mode == "ignore":
        assert last["handled"] == 0 and last["raised"] > 0, last


@pytest.mark.parametrize("mode", ["default", "block", "ignore", "handler"])
@pytest.mark.parametrize("args", [["trace", "-d", "2s"], ["stack"]], ids=lambda a: a[0])
def test_kept(mode, args):
    with Target(built("sigtrap"), mode) as target:
        before = trap_fields(target)
        assert any(any(f) for f in before.values()) == (mode != "default")
        result = run(args[0], target.pid, *args[1:], "--json")
        if args[0] == "trace" and mode != "default" and result.code != EXIT_DONE:
            assert result.code in (EXIT_UNSUPPORTED, EXIT_PROCESS), result
            error_of(result, result.code, "SIGTRAP")
        else:
            assert result.code == EXIT_DONE, result
            if args[0] == "trace":
                assert result.json["totals"]["allocated_blocks"] > 0, result
        assert trap_fields(target) == before
        check_clean(target.pid)
        check_kept(target, mode)


@pytest.mark.parametrize("mode", ["block", "ignore", "handler"])
def test_unsafe_puts_mask_and_action_back(mode):
    with Target(built("sigtrap"), mode) as target:
        before = trap_fields(target)
        result = run("trace", target.pid, "-d", "2s", "--json", "--unsafe")
        assert result.code == EXIT_DONE, result
        assert result.json["totals"]["allocated_blocks"] > 0, result
        assert trap_fields(target) == before
        check_clean(target.pid)
        last = target.finish()
        assert last["mask_kept"] and last["action_kept"], last
