# SPDX-License-Identifier: Apache-2.0
"""The whole of what tests/e2e/test_probe_storms.py and test_snapshot.py run a part
of; see kills.sh."""
import pathlib
import random
import signal
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import heaptap  # noqa: E402
import test_probe_storms as storms  # noqa: E402
import test_snapshot as snapshots  # noqa: E402

TARGETS = ("threads", "signals", "python")


def start(name, folder):
    if name == "python":
        return storms.python_storm("threads", folder)
    return storms.storm(name)


def clean(pid):
    """What is left after heaptap clean, as words; None for nothing."""
    answer = heaptap.run("clean", pid, "--json").json
    if answer.get("found") and not answer.get("removed"):
        return answer["reason"]
    left = heaptap.text_problems(pid) + storms.ours(pid) + snapshots.children(pid)
    return str(left) if left else None


def run(name, what, kills, folder):
    """kills: a generator of functions that each kill one heaptap."""
    done = 0
    problems = []
    with start(name, folder) as target:
        for kill in kills(target.pid):
            done += kill()
            if not target.alive():
                problems.append("it died at kill %d" % done)
                break
            left = clean(target.pid)
            if left:
                problems.append("kill %d: %s" % (done, left))
        else:
            last = target.finish()
            if last["wrong"]:
                problems.append("%d of %d rounds wrong" % (last["wrong"], last["rounds"]))
            if last["gap_s"] >= storms.HELD_S:
                problems.append("held for %.0f ms" % (last["gap_s"] * 1000))
            print("%-8s %-9s %5d kills, %7d rounds right, held for %5.1f ms at most%s" % (
                name, what, done, last["rounds"] - last["wrong"], last["gap_s"] * 1000,
                "" if not problems else "; PROBLEMS"), flush=True)
    for problem in problems:
        print("    " + problem, flush=True)
    return not problems


def at_random(count):
    chance = random.Random(1)

    def kills(pid):
        for _ in range(count):
            delay = chance.random() * 0.5
            yield lambda: storms.kill_while_recording(pid, delay) or 1
    return kills


def at_every(step):
    def kills(pid):
        for k in range(1, storms.steps_of(pid) + 1, step):
            yield lambda: storms.kill_at(pid, k) == -signal.SIGKILL
    return kills


def at_every_of_a_snapshot(step):
    def kills(pid):
        for k in range(1, heaptap.count_steps(snapshots.snapshot(pid)) + 1, step):
            yield lambda: snapshots.kill_at(pid, k)
    return kills


def main():
    count, every = int(sys.argv[1]), int(sys.argv[2])
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for name in TARGETS:
            good &= run(name, "random", at_random(-(-count // len(TARGETS))), folder)
        for name in TARGETS:
            good &= run(name, "step", at_every(every), folder)
        for name in TARGETS:
            good &= run(name, "snapshot", at_every_of_a_snapshot(every), folder)
    return 0 if good else 1


sys.exit(main())
