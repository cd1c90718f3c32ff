# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import shutil

import pytest
from _pytest.runner import runtestprotocol

pytest.register_assert_rewrite("heaptap")

import heaptap  # noqa: E402  its asserts are rewritten


def pytest_report_header(config):
    return ["heaptap: %s" % heaptap.HEAPTAP,
            "targets: %s" % heaptap.TARGETS,
            "interpreters: %s" % ", ".join(map(str, heaptap.all_interpreters()))]


def pytest_sessionstart(session):
    if not os.access(heaptap.HEAPTAP, os.X_OK):
        pytest.exit("no binary at %s: build it, or set HEAPTAP" % heaptap.HEAPTAP, returncode=3)


def pytest_sessionfinish(session):
    if heaptap.SID:
        shutil.rmtree(pathlib.Path(heaptap.SID) / "tmp" / ("heaptap-%d" % os.getpid()),
                      ignore_errors=True)


TRIES = 3


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """Where heaptap got no processor for so long that it left the process alone, and
    said so, figures are not those of a recording: what fails then is tried again."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for tries in range(1, TRIES + 1):
        heaptap.late.clear()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if tries == TRIES or not heaptap.late or not any(report.failed for report in reports):
            break
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.fixture(params=list(heaptap.ENGINES))
def engine(request):
    return request.param


@pytest.fixture
def leak(tmp_path):
    """The leaking C program, one thread, 50 leaks a second."""
    with heaptap.Target(heaptap.built("leak"), tmp_path / "log") as target:
        target.log = tmp_path / "log"
        yield target


@pytest.fixture
def stuck():
    """A C program that leaked 1,000 blocks and only waits."""
    with heaptap.Target(heaptap.built("stuck")) as target:
        yield heaptap.wait_paused(target)


@pytest.fixture(scope="session")
def nobody():
    """How to run a command as another user without rights."""
    heaptap.need_root()
    setpriv = heaptap.need_tool("setpriv")
    return [setpriv, "--reuid", "65534", "--regid", "65534", "--clear-groups",
            "--inh-caps=-all", "--bounding-set=-all"]


@pytest.fixture(scope="session")
def reachable_heaptap(tmp_path_factory):
    """A copy of the binary that every user can run."""
    folder = pathlib.Path("/tmp") / ("heaptap-test-%d" % os.getpid())
    folder.mkdir(mode=0o755)
    copy = folder / "heaptap"
    shutil.copy(heaptap.HEAPTAP, copy)
    copy.chmod(0o755)
    yield copy
    shutil.rmtree(folder)
