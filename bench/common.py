# SPDX-License-Identifier: Apache-2.0
"""What bench/run and bench/sample share: where things are, and how they are
made."""
import pathlib
import re
import subprocess
import sys

import measure
from measure import Failed

ROOT = pathlib.Path(__file__).resolve().parents[1]
CACHE = pathlib.Path("/var/tmp/heaptap-bench")
PYTHON = "/usr/bin/python3"
PACKAGES = ("memray", "numpy", "pandas")
PROGRAMS = ("bench/bench_churn", "bench/bench_handshake", "bench/bench_waits")


def note(text):
    print(text, file=sys.stderr, flush=True)


class Bench:
    """What there is to measure with."""

    own_python = sys.executable

    def __init__(self, options):
        self.build = options.build.resolve()
        self.heaptap = self.build / "heaptap"
        # One for each interpreter.
        self.venv = CACHE / ("venv" if options.python == PYTHON else
                             "venv" + re.sub(r"\W+", "-", options.python))
        self.base_python = options.python
        self.python = self.venv / "bin" / "python"
        self.absent = {}

    @staticmethod
    def add_options(parser):
        parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build-bench",
                            metavar="DIR",
                            help="a build of heaptap; made where it is not there")
        parser.add_argument("--python", default=PYTHON, metavar="FILE",
                            help="what Python scripts run on, in a venv below %s" % CACHE)

    def make(self, workloads):
        """Builds what these workloads need."""
        if not (self.build / "build.ninja").exists():
            note("setting up %s" % self.build)
            measure.run("meson", "setup", self.build, ROOT, "--buildtype=release",
                        "-Dtests=false", timeout=300)
        note("building in %s" % self.build)
        measure.run("ninja", "-C", self.build, "heaptap", *PROGRAMS, timeout=600)
        if any(workload.kind == "python" for workload in workloads):
            self._make_venv(PACKAGES)

    def _make_venv(self, packages):
        """Packages that cannot be had are noted, and missing later."""
        if not self.python.exists():
            note("making %s" % self.venv)
            measure.run(self.base_python, "-m", "venv", self.venv, timeout=300)
        for package in packages:
            if not self._has(package):
                note("installing %s in %s" % (package, self.venv))
                try:
                    measure.run(self.python, "-m", "pip", "install", "-q", package, timeout=600)
                except (Failed, subprocess.TimeoutExpired) as error:
                    self.absent[package] = str(error)

    def _has(self, package):
        return subprocess.run([str(self.python), "-c", "import " + package],
                              stderr=subprocess.DEVNULL).returncode == 0

    def missing_packages(self, *packages):
        for package in packages:
            if package in self.absent:
                return "no %s: %s" % (package, self.absent[package])
        return None


def chosen(all_of_them, words, what):
    if not words:
        return all_of_them
    found = []
    for word in words.split(","):
        # A word stands for what has that name, else for what begins so.
        match = [x for x in all_of_them if x.name == word] or \
            [x for x in all_of_them if x.name.startswith(word)]
        if not match:
            sys.exit("no %s %r; there are: %s" % (
                what, word, ", ".join(x.name for x in all_of_them)))
        found += [x for x in match if x not in found]
    return found
