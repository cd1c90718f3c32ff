# SPDX-License-Identifier: Apache-2.0
"""heaptap trace counts every call of an allocator: exact figures for each way
to get and give back memory."""
import pytest

from heaptap import ENGINES, FIGURES, by_function, differences, late, recorded_work

# A probe sees that a mapping goes by where it begins: one that is unmapped in
# parts is gone with its first page.
NOT_SEEN = {"breakpoint": set(), "probe": {"by_mremap", "by_mmap_trimmed"}}


def work_under_trace(engine, *options, named=False):
    return recorded_work("allocators", *ENGINES[engine], *options,
                         arguments=["--named"] if named else [])


def unexpected(answer, truth):
    return differences(answer, truth, but=NOT_SEEN[answer["engine"]])


@pytest.fixture(scope="module", params=list(ENGINES))
def plain(request):
    """Once more where an answer came too late: conftest.py."""
    late.clear()
    answer = work_under_trace(request.param)
    return work_under_trace(request.param) if late else answer


def test_every_call(plain):
    answer, truth = plain
    assert len(truth) > 20, truth
    assert unexpected(answer, truth) == {}


def test_nothing_is_made_up(plain):
    """Calls that fail, that map no memory, or happen in another process."""
    answer, _ = plain
    for name in ("by_malloc_failed", "by_calloc_overflow", "by_realloc_failed",
                 "by_realloc_to_zero", "by_reallocarray_overflow", "by_posix_memalign_failed",
                 "by_mmap_without_memory", "by_mmap_failed", "by_mremap_failed",
                 "by_forked_child"):
        assert name not in by_function(answer), name


def test_totals(plain):
    answer, _ = plain
    totals, sites = answer["totals"], answer["sites"]
    assert totals["lost_samples"] == 0, totals
    # the block of 3,000 bytes from before the start
    assert totals["unseen_freed_blocks"] == 1, totals
    assert 3000 <= totals["unseen_freed_bytes"] < 3064, totals
    assert totals["netted"] is True, totals
    for key in FIGURES:
        assert totals[key] == sum(s[key] for s in sites), key
    assert totals["live_blocks"] == totals["allocated_blocks"] - totals["freed_blocks"]
    assert totals["live_bytes"] == totals["allocated_bytes"] - totals["freed_bytes"]


def test_named_allocator():
    """--symbol: an allocator of the program's own is counted in place of the
    malloc below it, though it is left by a longjmp every fourth time. A probe
    would count no more in that thread for half a second."""
    answer, truth = work_under_trace("breakpoint", "--symbol", "malloc=own_malloc",
                                     "--symbol", "free=own_free", named=True)
    assert unexpected(answer, truth) == {}
    calls = {e["symbol"]: e["calls"] for e in answer["entry_points"]}
    assert calls["own_malloc"] == 40 and calls["own_free"] == 15, calls
    assert answer["totals"]["unseen_freed_blocks"] == 1, answer["totals"]
