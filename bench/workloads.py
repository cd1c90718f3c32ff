# SPDX-License-Identifier: Apache-2.0
"""What bench/run measures the tools on; each leaks slowly at one known place.

To add one: a program in work/ that says what work/meter.py says, a class here,
and its instance in WORKLOADS."""
import pathlib
import re
import shutil

WORK = pathlib.Path(__file__).resolve().parent / "work"


def leak_line(name):
    """The line that is marked as the leak, as FILE:LINE."""
    for number, line in enumerate((WORK / name).read_text().splitlines(), 1):
        if re.search(r"(#|/\*) LEAK\b", line):
            return "%s:%d" % (name, number)
    raise ValueError(name)


class Workload:
    """name; kind: "c" or "python"; places: a pattern of what names the leak, in
    FILE:LINE or a function; the memory of `file` is counted there."""

    name = kind = places = None
    env = {}

    def missing(self, bench):
        """Why it cannot run here; None where it can."""

    def argv(self, bench, folder, wrap):
        """The command; wrap() puts a tool in front of the program itself."""
        raise NotImplementedError

    def names(self, text):
        return bool(re.search(self.places, text or ""))


class Churn(Workload):
    kind = "c"
    places = r"\bleak_here\b|%s\b" % re.escape(leak_line("churn.c"))

    def __init__(self, threads):
        self.name, self.threads = "churn%d" % threads, threads

    def argv(self, bench, folder, wrap):
        return wrap([bench.build / "bench" / "bench_churn", str(self.threads)])


class PythonScript(Workload):
    kind = "python"
    # What opens threads of its own would be another workload each time.
    env = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

    def __init__(self, name, script, packages=()):
        self.name, self.script, self.packages = name, script, packages
        self.places = r"\b%s\b" % re.escape(leak_line(script))

    def missing(self, bench):
        return bench.missing_packages(*self.packages)

    def argv(self, bench, folder, wrap):
        return wrap([bench.python, WORK / self.script])


class Redis(Workload):
    name, kind = "redis", "c"
    # A new key, its value, and their places in the table of keys.
    places = r"create\w*StringObject|dbAdd|setKey|dictAdd|sdsnew|sdsdup|processMultibulkBuffer"

    def missing(self, bench):
        absent = [p for p in ("redis-server", "redis-benchmark") if not shutil.which(p)]
        return "no %s (Debian: redis-server)" % ", ".join(absent) if absent else None

    def argv(self, bench, folder, wrap):
        return [bench.own_python, WORK / "redis_load.py", folder, *wrap([shutil.which("redis-server")])]


WORKLOADS = [
    Churn(1),
    Churn(8),
    PythonScript("json", "json_load.py"),
    Redis(),
    PythonScript("pandas", "frame_load.py", ("numpy", "pandas")),
]
