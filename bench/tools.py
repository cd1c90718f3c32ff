# SPDX-License-Identifier: Apache-2.0
"""The tools that bench/run compares.

To add one: a class, and its instance in TOOLS. One that attaches to a process
has attach(), one that starts it has wrap() or env(); named() says, when the
program has ended, whether the tool has put the leak first."""
import contextlib
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import measure
from measure import Failed

HERE = pathlib.Path(__file__).resolve().parent


class Tool:
    """name; kinds: of workloads it is for; package: Debian's, of `program`."""

    name = program = package = None
    kinds = ("c", "python")
    attaches = True
    note = None

    def missing(self, bench):
        """Why it cannot run here; None where it can."""
        if self.program and not shutil.which(self.program):
            return "no %s (Debian: %s)" % (self.program, self.package)
        return None

    # One that starts the program

    def wrap(self, bench, folder, argv):
        return argv

    def env(self, folder):
        return {}

    # One that attaches

    @contextlib.contextmanager
    def attach(self, bench, program, folder, seconds):
        """Gives the time, by the monotonic clock, from which to which it
        recorded; it has let go when the context is left. Also the tool's own
        memory, as (begin, end, bytes)."""
        raise NotImplementedError

    # Both

    def named(self, bench, workload, folder, said):
        """"yes", or what it put first instead."""
        raise NotImplementedError


def first_of(workload, places):
    """How a ranking names the leak: at the top, further down, or not."""
    for rank, place in enumerate(places, 1):
        if workload.names(place):
            return "yes" if rank == 1 else "as number %d" % rank
    return "no"


def start(argv, folder, log, answers=True, **popen):
    """A tool in the background. What it says goes to the log; of one whose
    answers do not, errors alone."""
    with open(folder / log, "w") as out:
        return subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL,
                                stdout=out if answers else subprocess.DEVNULL, stderr=out,
                                preexec_fn=measure.die_with_parent, **popen)


def end(process, name, signal_number=signal.SIGINT, timeout=60):
    """Asks a tool to let go; killed where it does not."""
    with contextlib.suppress(OSError):
        process.send_signal(signal_number)
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise Failed("%s did not end in %d s" % (name, timeout))


# ---------------------------------------------------------------- heaptap

class Heaptap(Tool):
    def __init__(self, name, *options):
        self.name, self.options = name, options

    @contextlib.contextmanager
    def attach(self, bench, program, folder, seconds):
        answer = folder / "answer.json"
        process = start([bench.heaptap, "trace", *self.options, "-d", "%gs" % seconds, "-q",
                         "--json", "-o", answer, program.pid], folder, "log", answers=False)
        try:
            with measure.PeakOf(process.pid) as memory:
                if process.wait(seconds + 60):
                    # Advice is below it.
                    raise Failed((folder / "log").read_text().partition("\n")[0])
        except subprocess.TimeoutExpired:
            end(process, "heaptap")
            raise Failed("heaptap did not end")
        self.answer = json.loads(answer.read_text())
        begin = datetime.datetime.fromisoformat(self.answer["start"].replace("Z", "+00:00"))
        begin = begin.timestamp() - time.time() + time.monotonic()
        self.note = self._note()
        # To the millisecond.
        yield begin + 0.001, begin + self.answer["duration_s"] - 0.001, memory.bytes

    def _note(self):
        answer, words = self.answer, []
        if answer["ended_by"] != "duration":
            words.append("ended after %.1f s: %s" % (answer["duration_s"], answer["ended_by"]))
        if answer.get("sample_interval_bytes"):
            words.append("a sample in %.3g B" % answer["sample_interval_bytes"])
        overhead = answer.get("overhead") or {}
        if overhead.get("fixed") is not None:
            words.append("says itself: %.1f %% + %.1f %%" % (
                overhead["fixed"] * 100, overhead["samples"] * 100))
        return ", ".join(words)

    def named(self, bench, workload, folder, said):
        places = []
        for site in self.answer["sites"]:
            file = os.path.basename(site["file"] or "?")
            # What allocates for it may be a function of its own (zmalloc).
            frames = " ".join(frame["function"] or "" for frame in site["stack"][:4]) \
                if workload.name == "redis" else ""
            places.append("%s %s:%s %s" % (site["function"], file, site["line"], frames))
        return first_of(workload, places)


# ---------------------------------------------------------------- heaptrack

class Heaptrack(Tool):
    name, program, package = "heaptrack", "heaptrack", "heaptrack"
    attaches = False

    def wrap(self, bench, folder, argv):
        return ["heaptrack", "-o", folder / "heaptrack", *argv]

    def named(self, bench, workload, folder, said):
        found = list(folder.glob("heaptrack.*"))
        if not found:
            raise Failed("no file of heaptrack's")
        stacks = folder / "stacks"
        measure.run("heaptrack_print", "-f", found[0], "-p", "0", "-a", "0", "-T", "0",
                    "--flamegraph-cost-type", "leaked", "-F", stacks, timeout=300)
        return first_of(workload, folded(stacks.read_text().splitlines()))


def folded(lines):
    """Stacks as `outer;inner BYTES`, the largest first."""
    sized = []
    for line in lines:
        stack, _, size = line.rpartition(" ")
        with contextlib.suppress(ValueError):
            sized.append((float(size), stack))
    return [stack for _, stack in sorted(sized, reverse=True)[:10]]


# ---------------------------------------------------------------- memray

class Memray(Tool):
    kinds = ("python",)

    def missing(self, bench):
        return bench.missing_packages("memray")

    def options(self):
        return ["--trace-python-allocators"] if self.objects else []

    def named(self, bench, workload, folder, said):
        rows = measure.run(bench.python, HERE / "work" / "memray_leaks.py", folder / "memray.bin",
                           timeout=300).splitlines()
        return first_of(workload, [row.split(" ", 1)[1] for row in rows])


class MemrayRun(Memray):
    attaches = False

    def __init__(self, objects):
        self.objects = objects
        self.name = "memray run" + (" +objects" if objects else "")

    def env(self, folder):
        return {"BENCH_TIDY": "1"}

    def wrap(self, bench, folder, argv):
        return [argv[0], "-m", "memray", "run", "-q", "-o", folder / "memray.bin", *self.options(),
                *argv[1:]]


class MemrayAttach(Memray):
    program, package = "lldb", "lldb"

    def __init__(self, objects):
        self.objects = objects
        self.name = "memray attach" + (" +objects" if objects else "")

    def missing(self, bench):
        return Tool.missing(self, bench) or Memray.missing(self, bench)

    def env(self, folder):
        return {"BENCH_TIDY": "1"}

    @contextlib.contextmanager
    def attach(self, bench, program, folder, seconds):
        memray = [bench.python, "-m", "memray"]
        process = start([*memray, "attach", "--method", "lldb", *self.options(), "-o",
                         folder / "memray.bin", program.pid], folder, "log")
        with measure.PeakOf(process.pid) as memory:
            try:
                code = process.wait(90)
            except subprocess.TimeoutExpired:
                end(process, "memray attach")
                raise Failed("memray attach did not end")
            if code:
                raise Failed(measure.last_line((folder / "log").read_text()))
            begin = time.monotonic()
            time.sleep(seconds)
            until = time.monotonic()
        yield begin, until, memory.bytes
        measure.run(*memray, "detach", "--method", "lldb", program.pid, timeout=90)


# ---------------------------------------------------------------- tracemalloc

class Tracemalloc(Tool):
    name, kinds, attaches = "tracemalloc", ("python",), False

    def env(self, folder):
        return {"PYTHONTRACEMALLOC": "1"}

    def named(self, bench, workload, folder, said):
        grown = [words["grown"] for words in said if "grown" in words]
        if not grown:
            raise Failed("no snapshot")
        return first_of(workload, grown[0])


# ---------------------------------------------------------------- bpftrace

def allocator_of(pid):
    """The library whose malloc a process calls, as its path."""
    with open("/proc/%d/maps" % pid) as maps:
        paths = {line.split(None, 5)[5].strip() for line in maps if "/" in line}
    for pattern in (r"/libjemalloc\.so", r"/libc\.so\.6$|/libc-"):
        for path in sorted(paths):
            if re.search(pattern, path):
                return path
    raise Failed("no known allocator")


class Bpftrace(Tool):
    name, program, package = "bpftrace", "bpftrace", "bpftrace"

    SCRIPT = """
uprobe:%(lib)s:malloc /pid == %(pid)d/ { @asked[tid] = arg0; }
uretprobe:%(lib)s:malloc /pid == %(pid)d && @asked[tid]/ {
	@size[retval] = @asked[tid];
	@stack[retval] = ustack(4);
	delete(@asked[tid]);
}
uprobe:%(lib)s:free /pid == %(pid)d/ { delete(@size[arg0]); delete(@stack[arg0]); }
END { clear(@asked); }
"""

    @contextlib.contextmanager
    def attach(self, bench, program, folder, seconds):
        script = folder / "script.bt"
        script.write_text(self.SCRIPT % {"lib": allocator_of(program.pid), "pid": program.pid})
        process = start(["bpftrace", "-p", program.pid, script], folder, "log",
                        env={**os.environ, "BPFTRACE_MAP_KEYS_MAX": "1000000"})
        with measure.PeakOf(process.pid) as memory:
            attached = time.monotonic() + 60
            while "Attaching" not in (folder / "log").read_text():
                if process.poll() is not None or time.monotonic() > attached:
                    end(process, "bpftrace")
                    raise Failed(measure.last_line((folder / "log").read_text()))
                time.sleep(0.1)
            time.sleep(1)  # It says so before it has.
            begin = time.monotonic()
            time.sleep(seconds)
            until = time.monotonic()
        yield begin, until, memory.bytes
        if end(process, "bpftrace", timeout=120):
            raise Failed(measure.last_line((folder / "log").read_text()))

    def named(self, bench, workload, folder, said):
        text = (folder / "log").read_text()
        sizes = dict(re.findall(r"^@size\[(\d+)\]: (\d+)$", text, re.M))
        by_stack = {}
        for addr, stack in re.findall(r"^@stack\[(\d+)\]: \n((?:.+\n)*)", text, re.M):
            by_stack[stack] = by_stack.get(stack, 0) + int(sizes.get(addr, 0))
        ranked = sorted(by_stack, key=by_stack.get, reverse=True)
        return first_of(workload, ranked[:10])


# ---------------------------------------------------------------- gdb

class Gdb(Tool):
    name, program, package = "gdb", "gdb", "gdb"

    SCRIPT = """
set pagination off
set confirm off
break malloc
commands
silent
backtrace 4
continue
end
python print("recording", flush=True)
continue
detach
quit
"""

    @contextlib.contextmanager
    def attach(self, bench, program, folder, seconds):
        script = folder / "script.gdb"
        script.write_text(self.SCRIPT)
        process = start(["gdb", "-nx", "-q", "-batch", "-p", program.pid, "-x", script],
                        folder, "log")
        with measure.PeakOf(process.pid) as memory:
            attached = time.monotonic() + 60
            while "recording" not in (folder / "log").read_text():
                if process.poll() is not None or time.monotonic() > attached:
                    end(process, "gdb")
                    raise Failed(measure.last_line((folder / "log").read_text()))
                time.sleep(0.1)
            begin = time.monotonic()
            time.sleep(seconds)
            until = time.monotonic()
        yield begin, until, memory.bytes
        end(process, "gdb")

    def named(self, bench, workload, folder, said):
        with open(folder / "log") as log:
            seen = any(workload.names(line) for line in log)
        return "among all calls" if seen else "no"


TOOLS = [
    Heaptap("heaptap", "--engine", "probe"),
    Heaptap("heaptap --overhead 1", "--engine", "probe", "--overhead", "1"),
    Heaptap("heaptap --exact", "--engine", "probe", "--exact"),
    Heaptap("heaptap breakpoints", "--engine", "breakpoint"),
    Heaptrack(),
    MemrayRun(False),
    MemrayRun(True),
    MemrayAttach(False),
    MemrayAttach(True),
    Tracemalloc(),
    Bpftrace(),
    Gdb(),
]
