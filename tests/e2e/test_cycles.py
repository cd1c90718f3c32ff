# SPDX-License-Identifier: Apache-2.0
"""Attach and detach again and again on servers under load: no request lost, no
crash, nothing left."""
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import threading

from heaptap import (EXIT_DONE, FULL, HEAPTAP, LeakLog, Target, built,
                     check_clean, mappings, need_tool, run, some_interpreter, wait_for)

CYCLES = 50 if FULL else 10


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Load:
    """Requests in a thread until stopped; `failed` must stay empty."""

    def __init__(self, request):
        self.request, self.count, self.failed = request, 0, []
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self.loop, daemon=True)

    def loop(self):
        while not self.ends.is_set():
            try:
                self.request(self.count)
                self.count += 1
            except Exception as error:  # noqa: BLE001  any failure is a lost request
                self.failed.append(repr(error))
            self.ends.wait(0.002)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.thread.join(10)


def attach(pid, number, options=()):
    """stack and short traces in turn; returns the peak RSS of heaptap in KiB."""
    args = ["stack", str(pid)] if number % 2 else ["trace", str(pid), "-d", "200ms", *options]
    process = subprocess.Popen([HEAPTAP, *args, "--json"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    out, err = process.stdout.read(), process.stderr.read()
    _, code, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    process.stdout.close()
    process.stderr.close()
    assert process.returncode == EXIT_DONE, (args, process.returncode, out[-2000:], err[-2000:])
    return usage.ru_maxrss


def executable_mappings(pid):
    return sorted(row[4] for row in mappings(pid) if "x" in row[2])


def cycle(pid, load, options=()):
    """All the cycles on one process under load."""
    # it may load more before it serves
    wait_for(lambda: load.count > 20, 20, "the load")
    code = executable_mappings(pid)
    peaks = []
    for number in range(CYCLES):
        before = load.count
        peaks.append(attach(pid, number, options))
        check_clean(pid)
        assert executable_mappings(pid) == code
        wait_for(lambda: load.count > before or load.failed, 10, "requests during the cycle")
        assert not load.failed, load.failed[:3]
    # the memory of heaptap does not depend on how often it was there
    for kind in (peaks[0::2], peaks[1::2]):
        assert max(kind) < min(kind) * 1.3 + 4096, peaks
    assert load.count > CYCLES


@contextlib.contextmanager
def server(*argv, **options):
    process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
    try:
        yield process
        assert process.poll() is None, process.stderr.read()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stderr.close()


def test_nginx(tmp_path):
    nginx = need_tool("nginx")
    port = free_port()
    (tmp_path / "index.html").write_text("hello " * 500)
    (tmp_path / "nginx.conf").write_text("""
        daemon off; worker_processes 1; pid %(dir)s/pid; error_log %(dir)s/error.log;
        %(user)s
        events { worker_connections 64; }
        http { access_log off; client_body_temp_path %(dir)s/a; proxy_temp_path %(dir)s/b;
          fastcgi_temp_path %(dir)s/c; uwsgi_temp_path %(dir)s/d; scgi_temp_path %(dir)s/e;
          server { listen 127.0.0.1:%(port)d; root %(dir)s; gzip on; gzip_min_length 1;
                   gzip_types text/html; } }
        """ % {"dir": tmp_path, "port": port,
               "user": "user root;" if os.geteuid() == 0 else ""})

    def request(number):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        headers = {"Accept-Encoding": "gzip"} if number % 2 else {}
        connection.request("GET", "/index.html", headers=headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        if response.status != 200 or not body:
            raise AssertionError("status %d, %d bytes" % (response.status, len(body)))

    with server(nginx, "-c", tmp_path / "nginx.conf", "-p", tmp_path) as master:
        children = "/proc/%d/task/%d/children" % (master.pid, master.pid)
        worker = int(wait_for(lambda: open(children).read().split(), 10, "the worker")[0])
        wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 10, "nginx")
        with Load(request) as load:
            cycle(worker, load)
        run("stack", master.pid, code=EXIT_DONE)
        assert os.path.exists("/proc/%d" % worker), "the worker was replaced"


def test_redis(tmp_path):
    redis = need_tool("redis-server")
    port = free_port()
    with server(redis, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", tmp_path,
                "--appendonly", "no") as process:
        def connect():
            try:
                return socket.create_connection(("127.0.0.1", port), 10)
            except OSError:
                return None

        stream = wait_for(connect, 10, "redis")
        reader = stream.makefile("rb")

        def request(number):
            value = b"%d" % number * 50
            stream.sendall(b"SET key%d %s\r\nGET key%d\r\nDEL key%d\r\n" % (
                number, value, number, number))
            answers = [reader.readline() for _ in range(4)]
            if answers[0] != b"+OK\r\n" or answers[2].strip() != value or answers[3] != b":1\r\n":
                raise AssertionError(answers)

        with Load(request) as load:
            # its background threads block SIGTRAP
            cycle(process.pid, load, ["--unsafe"])
        reader.close()
        stream.close()


def test_threaded_python(tmp_path):
    with some_interpreter().start("threads_load.py", tmp_path) as target:
        class Alive:
            """What counts here is the script's own account at the end."""
            failed = []
            ticks = 0

            @property
            def count(self):
                assert target.alive(), "the script died"
                type(self).ticks += 1
                return self.ticks

        cycle(target.pid, Alive())
        last = target.finish()
    assert last["wrong"] == 0 and last["alive"] == 0 and last["rounds"] > 50, last


def test_leaking_program_stays_exact(tmp_path):
    """The log of the target is whole after all the cycles."""
    with Target(built("leak"), tmp_path / "log", "--threads", "4", "--rate", "200") as target:
        for number in range(CYCLES):
            attach(target.pid, number)
            check_clean(target.pid)
        last = target.finish()
    rows = LeakLog(tmp_path / "log").rows
    assert [row[1] for row in rows] == list(range(1, last["blocks"] + 1))
