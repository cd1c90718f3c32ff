# SPDX-License-Identifier: Apache-2.0
"""heaptap stack compared with py-spy, where py-spy can be had."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

from heaptap import interpreters, run_json


@pytest.fixture(scope="session")
def pyspy(tmp_path_factory):
    """py-spy from the package index, in an environment of its own that later
    runs find again."""
    home = pathlib.Path(os.environ.get("HEAPTAP_TEST_CACHE", "/var/tmp/heaptap-test-cache"))
    program = home / "pyspy" / "bin" / "py-spy"
    if not program.exists():
        home.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", str(home / "pyspy")], check=True,
                           capture_output=True, timeout=120)
            subprocess.run([str(home / "pyspy" / "bin" / "pip"), "install", "-q", "py-spy"],
                           check=True, capture_output=True, timeout=120)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip("py-spy cannot be installed: %s" % error)
    return program


@pytest.mark.parametrize("interpreter", interpreters(newest=(3, 14)))
def test_equals_pyspy(interpreter, pyspy, tmp_path):
    with interpreter.start("threads_py.py", tmp_path) as target:
        done = subprocess.run([str(pyspy), "dump", "--json", "--pid", str(target.pid)],
                              capture_output=True, text=True, timeout=60)
        if done.returncode:
            pytest.skip("py-spy does not read this interpreter: %s" % done.stderr.strip()[-200:])
        theirs = {t["os_thread_id"]: [[f["name"], f["filename"], f["line"]] for f in t["frames"]]
                  for t in json.loads(done.stdout)}
        answer = run_json("stack", target.pid, "--python")
        ours = {t["tid"]: [[f["function"].split(".")[-1], f["file"], f["line"]]
                           for f in t["stack"]] for t in answer["threads"]}
    assert len(theirs) == 10, theirs

    def base(frames):
        return [[name.split(".")[-1], os.path.basename(file), line]
                for name, file, line in frames if not name.startswith("<shim")]

    for tid, frames in theirs.items():
        assert base(ours[tid]) == base(frames), "thread %d" % tid
