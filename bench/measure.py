# SPDX-License-Identifier: Apache-2.0
"""How bench/run measures: a program that says how much it has done and when, a
stretch of time, and what the memory of some processes was."""
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import tempfile
import threading
import time

PR_SET_PDEATHSIG = 1
READY_S = 90
END_S = 60
LOOK_S = 0.05
MIB = 1 << 20
# A measurement counts as undisturbed where all else on the machine used less
# than this many processors.
QUIET = 0.1

_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """A phase could not be measured; its message says why."""


def die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def last_line(text):
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def run(*argv, timeout=60, **popen):
    """Runs a command to its end; its standard output. Failed where it fails."""
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                          text=True, errors="replace", **popen)
    if done.returncode:
        raise Failed(last_line(done.stderr + done.stdout))
    return done.stdout


# ---------------------------------------------------------------- memory

def status(pid, key):
    """A size from /proc/PID/status in bytes, 0 where there is none."""
    try:
        with open("/proc/%d/status" % pid) as lines:
            for line in lines:
                if line.startswith(key + ":"):
                    return int(line.split()[1]) << 10
    except (OSError, ValueError):
        pass
    return 0


def parents():
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open("/proc/%s/stat" % name) as stat:
                    found[int(name)] = int(stat.read().rsplit(")", 1)[1].split()[1])
    return found


def family(root):
    """A process and all that come from it."""
    parent_of = parents()
    found = {root}
    grown = True
    while grown:
        more = {pid for pid, parent in parent_of.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return found


class PeakOf:
    """The peak memory of a process and its children, without `but` and its
    children, looked at from outside all the time."""

    def __init__(self, root, but=None):
        self.root, self.but, self.peaks = root, but, {}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)

    def _look(self):
        pids, listed = {self.root}, 0
        while not self.over.wait(LOOK_S):
            if time.monotonic() - listed > 0.5:
                pids, listed = family(self.root), time.monotonic()
                if self.but:
                    pids -= family(self.but)
            for pid in pids:
                self.peaks[pid] = max(self.peaks.get(pid, 0), status(pid, "VmHWM"))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    @property
    def bytes(self):
        return sum(self.peaks.values())


# ---------------------------------------------------------------- the others

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def _busy_ticks():
    """What all processors have done, and what the machine below took of them."""
    with open("/proc/stat") as stat:
        user, nice, system, _, _, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    return user + nice + system + irq + softirq + steal


def _own_ticks():
    """What this process and all that comes from it have done, ended ones too."""
    ticks = 0
    for pid in family(os.getpid()):
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open("/proc/%d/stat" % pid) as stat:
                ticks += sum(map(int, stat.read().rsplit(")", 1)[1].split()[11:15]))
    return ticks


class Others:
    """How many processors' worth of work everything else on the machine does:
    two threads of one core, and its caches, are not two machines."""

    def __init__(self):
        self.restart()

    def restart(self):
        self.since, self.busy, self.own = time.monotonic(), _busy_ticks(), _own_ticks()

    @property
    def share(self):
        ticks = (_busy_ticks() - self.busy) - (_own_ticks() - self.own)
        return max(0, ticks / TICKS_PER_S / (time.monotonic() - self.since))


def wait_until_quiet(limit, patience_s):
    """Until the others use less than that; False where they do not stop."""
    end = time.monotonic() + patience_s
    others = Others()
    while True:
        time.sleep(0.5)
        if others.share <= limit:
            return True
        if time.monotonic() >= end:
            return False
        others.restart()


# ---------------------------------------------------------------- programs

class Program:
    """A workload that runs. `pid` is the process to attach to, `process` what
    was started, which may be something around it, `ends_by` takes SIGTERM."""

    def __init__(self, argv, env=None):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=self.errors, text=True, errors="replace", start_new_session=True,
            preexec_fn=die_with_parent, env={**os.environ, **(env or {})})
        self.said = []
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        ready = self.wait_for(lambda: next((w for w in self.said if w.get("ready")), None), READY_S)
        self.pid = ready["pid"]
        self.ends_by = ready.get("driver", self.pid)

    def _read(self):
        for line in self.process.stdout:
            with contextlib.suppress(ValueError), self.changed:
                words = json.loads(line)
                if isinstance(words, dict):
                    self.said.append(words)
                    self.changed.notify_all()
        with self.changed:
            self.said.append({"end": True})
            self.changed.notify_all()

    def wait_for(self, look, timeout):
        end = time.monotonic() + timeout
        with self.changed:
            while True:
                found = look()
                if found:
                    return found
                if any("end" in words for words in self.said):
                    raise Failed("the program ended: " + self.message())
                if not self.changed.wait(max(0, end - time.monotonic())):
                    raise Failed("the program said nothing in %d s" % timeout)

    def message(self):
        self.process.wait(10)
        self.errors.seek(0)
        return "exit %s: %s" % (self.process.returncode, last_line(self.errors.read()))

    def alive(self):
        return self.process.poll() is None and os.path.exists("/proc/%d" % self.pid)

    def speed(self, begin, end):
        """Operations a second, from what was said wholly between two times."""
        with self.changed:
            within = [w for w in self.said
                      if "ops" in w and w["from"] >= begin and w["to"] <= end]
        ops, seconds = sum(w["ops"] for w in within), sum(w["to"] - w["from"] for w in within)
        if not ops:
            raise Failed("nothing was done in %.1f s" % (end - begin))
        return ops / seconds

    def not_leaked(self):
        """Its memory less what it has leaked on purpose."""
        with self.changed:
            leaked = max([w.get("leaked", 0) for w in self.said], default=0)
        return status(self.pid, "VmRSS") - leaked

    def finish(self):
        """Asks it to end; what it said last."""
        with contextlib.suppress(OSError):
            os.kill(self.ends_by, signal.SIGTERM)
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            raise Failed("the program did not end in %d s" % END_S)
        self.reader.join(10)
        return self.said

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            for pid in family(self.process.pid):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join(10)
        self.errors.close()
        self.process.stdout.close()
