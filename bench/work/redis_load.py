# SPDX-License-Identifier: Apache-2.0
"""redis-server under redis-benchmark, which sets new keys and never removes
one: redis_load.py FOLDER COMMAND... The command is redis-server, behind
whatever starts it. Says what meter.py says; "leaked" is what redis itself
counts as used."""
import json
import os
import signal
import socket
import subprocess
import sys
import time

REPORT_S = 0.1
START_S = 60
KEYS = 1000000000
BENCHMARK = ["redis-benchmark", "-q", "-c", "8", "-n", str(KEYS), "-r", str(KEYS)]
KEY = ["SET", "key:__rand_int__", "x" * 100]

ended = []


def say(**words):
    print(json.dumps(words), flush=True)


class Redis:
    """A connection that asks for INFO."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(path)
        self.stream = self.socket.makefile("rb")

    def info(self):
        self.socket.sendall(b"INFO\r\n")
        size = int(self.stream.readline()[1:])
        text = self.stream.read(size + 2).decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def connect(path, server):
    end = time.monotonic() + START_S
    while True:
        try:
            return Redis(path)
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.05)


def report(redis):
    info = redis.info()
    began = time.monotonic()
    base, before = int(info["used_memory"]), int(info["total_commands_processed"])
    while not ended:
        time.sleep(REPORT_S)
        info = redis.info()
        now = time.monotonic()
        done = int(info["total_commands_processed"])
        say(**{"from": began, "to": now, "ops": done - before,
               "leaked": int(info["used_memory"]) - base})
        began, before = now, done


def main():
    folder, command = sys.argv[1], sys.argv[2:]
    path = os.path.join(folder, "redis.socket")
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    server = subprocess.Popen(command + [
        "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    load = None
    try:
        redis = connect(path, server)
        load = subprocess.Popen(BENCHMARK + ["-s", path] + KEY,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        say(ready=True, pid=int(redis.info()["process_id"]), driver=os.getpid())
        report(redis)
        redis.socket.sendall(b"SHUTDOWN NOSAVE\r\n")
        server.wait(30)
    finally:
        for process in (load, server):
            if process:
                process.kill()
                process.wait()


main()
