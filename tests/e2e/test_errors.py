# SPDX-License-Identifier: Apache-2.0
"""What cannot be attached to: each its own clear message and the documented
exit code, at once."""
import json
import os
import pathlib
import struct
import subprocess

import pytest

from heaptap import (EXIT_DONE, EXIT_FILE, EXIT_PROCESS, EXIT_UNSUPPORTED, EXIT_USAGE, HEAPTAP,
                     Target, built, check_clean, error_of, mappings, need_root, need_tool, run,
                     state, wait_for)

COMMANDS = [("info",), ("stack",), ("report",), ("watch", "-d", "1s"), ("trace", "-d", "1s")]
ATTACHING = [("stack",), ("report",), ("trace", "-d", "1s")]
AT_ONCE_S = 2.0


def named(commands):
    return pytest.mark.parametrize("command", commands, ids=lambda c: c[0])


def refused(command, pid, code, *words, **options):
    """The command is refused, at once; what it says has the words."""
    result = run(command[0], pid, *command[1:], "--json", **options)
    error_of(result, code, *words)
    assert result.seconds < AT_ONCE_S, result
    return result


def free_pid():
    """The PID of a process that has just ended and been reaped."""
    child = subprocess.Popen(["true"])
    child.wait()
    assert not pathlib.Path("/proc/%d" % child.pid).exists()
    return child.pid


@named(COMMANDS)
def test_no_such_process(command):
    pid = free_pid()
    refused(command, pid, EXIT_PROCESS, str(pid), "no such process")


@named(COMMANDS)
@pytest.mark.parametrize("pid", ["0", "-1", "99999999999", "4242x", ""])
def test_not_a_pid(command, pid):
    result = run(command[0], *command[1:], "--", pid)
    assert result.code in (EXIT_USAGE, EXIT_PROCESS), result
    assert result.err.strip() and result.seconds < AT_ONCE_S, result


def test_pid_is_never_a_process_group(stuck):
    """-PID and 0 must not reach a process that is there."""
    for pid in ("-%d" % stuck.pid, "0"):
        result = run("trace", "-d", "1s", "--", pid)
        assert result.code in (EXIT_USAGE, EXIT_PROCESS), result
    assert stuck.alive()


@named(COMMANDS)
def test_a_thread_is_not_a_process(command, tmp_path):
    """A thread's id is answered with the process it belongs to, or refused by
    name; never with an empty answer."""
    with Target(built("leak"), tmp_path / "log", "--threads", "2") as target:
        tids = [int(t) for t in os.listdir("/proc/%d/task" % target.pid)]
        tid = next(t for t in tids if t != target.pid)
        result = run(command[0], tid, *command[1:], "--json")
        if result.code == EXIT_DONE:
            process = result.json.get("process") or result.json["processes"][0]["process"]
            assert process["pid"] == target.pid, result
        else:
            error_of(result, EXIT_PROCESS, str(target.pid))
        check_clean(target.pid)


@named(COMMANDS)
def test_zombie(command):
    child = subprocess.Popen(["true"])
    try:
        wait_for(lambda: state(child.pid) == "Z", what="the zombie")
        refused(command, child.pid, EXIT_PROCESS, "zombie")
    finally:
        child.wait()


@named(ATTACHING)
def test_kernel_thread(command):
    comm = pathlib.Path("/proc/2/comm")
    if not comm.exists() or comm.read_text().strip() != "kthreadd":
        pytest.skip("PID 2 is no kernel thread here")
    refused(command, 2, EXIT_UNSUPPORTED, "kernel thread")


@named(ATTACHING)
def test_other_user(command, stuck, nobody, reachable_heaptap):
    done = subprocess.run([*nobody, str(reachable_heaptap), command[0], str(stuck.pid),
                           *command[1:]],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    assert done.returncode == EXIT_PROCESS, done
    assert "not permitted" in done.stderr and str(stuck.pid) in done.stderr, done
    # what to do about it
    assert "root" in done.stderr or "sudo" in done.stderr or "CAP_SYS_PTRACE" in done.stderr, done
    assert stuck.alive()


def test_other_user_info_says_so(stuck, nobody, reachable_heaptap):
    """info does not fail: it says that an attach is not allowed, and why."""
    done = subprocess.run([*nobody, str(reachable_heaptap), "info", str(stuck.pid), "--json"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    answer = json.loads(done.stdout)
    if done.returncode == EXIT_PROCESS:
        assert answer["schema"] == "heaptap.error/1"
        return
    assert done.returncode == EXIT_DONE, done
    assert answer["attach"]["allowed"] is False
    assert answer["attach"]["reason"] and answer["attach"]["advice"], answer["attach"]


@named(ATTACHING)
def test_own_process_as_a_user(command, nobody, reachable_heaptap, tmp_path):
    """Without root, one's own process can be attached to where Yama allows."""
    scope = pathlib.Path("/proc/sys/kernel/yama/ptrace_scope")
    if scope.exists() and int(scope.read_text()) > 0:
        pytest.skip("kernel.yama.ptrace_scope is %s" % scope.read_text().strip())
    program = reachable_heaptap.parent / "stuck"
    program.write_bytes(built("stuck").read_bytes())
    program.chmod(0o755)
    with Target(*nobody, program) as target:
        done = subprocess.run([*nobody, str(reachable_heaptap), command[0], str(target.pid),
                               *command[1:]], cwd="/",
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        assert done.returncode == EXIT_DONE, done
        assert target.alive()


@named(ATTACHING)
def test_heaptap_itself(command):
    """By its own PID, seen from a shell that becomes heaptap."""
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" %s $$ %s --json' % (command[0], " ".join(command[1:])),
         str(HEAPTAP)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    assert done.returncode == EXIT_UNSUPPORTED, done
    assert "itself" in done.stderr, done


@named(ATTACHING)
def test_traced_by_gdb(command, stuck):
    gdb = need_tool("gdb")
    with subprocess.Popen([gdb, "-q", "-nx", "-p", str(stuck.pid)], stdin=subprocess.PIPE,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as tracer:
        try:
            wait_for(lambda: state(stuck.pid) == "t", 30, "gdb's stop")
            result = refused(command, stuck.pid, EXIT_PROCESS, "traced", str(tracer.pid))
            assert "gdb" in result.err, result
        finally:
            tracer.stdin.write(b"detach\nquit\n")
            tracer.stdin.close()
            tracer.wait(30)
    check_clean(stuck.pid)


@named(COMMANDS)
def test_no_proc(command, stuck):
    need_root()
    unshare = need_tool("unshare")
    done = subprocess.run(
        # private first: a shared /proc would be covered for everybody; and only
        # /proc, since in a chroot / is no mount point
        [unshare, "-m", "--propagation", "unchanged", "sh", "-c",
         'mount --make-private /proc && mount -t tmpfs none /proc && exec "$0" "$@"',
         str(HEAPTAP), command[0], str(stuck.pid), *command[1:]],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip("a mount is not allowed here")
    assert done.returncode == EXIT_PROCESS, done
    assert "/proc" in done.stderr, done
    assert stuck.alive()


def elf32():
    """A static program for i386 that waits for ever: pause(), jump back."""
    code = bytes.fromhex("b81d000000cd80ebf7")  # mov eax,29; int 0x80; jmp
    base, headers = 0x08048000, 52 + 32
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01" + bytes(9), 2, 3, 1,
                         base + headers, 52, 0, 0, 52, 32, 1, 40, 0, 0)
    segment = struct.pack("<IIIIIIII", 1, 0, base, base, headers + len(code),
                          headers + len(code), 5, 0x1000)
    return header + segment + code


@named(ATTACHING)
def test_32_bit_process(command, tmp_path):
    program = tmp_path / "elf32"
    program.write_bytes(elf32())
    program.chmod(0o755)
    try:
        child = subprocess.Popen([str(program)])
    except OSError as error:
        pytest.skip("this kernel runs no 32-bit programs: %s" % error)
    try:
        wait_for(lambda: any(row[4] == str(program) for row in mappings(child.pid)),
                 what="the exec")
        refused(command, child.pid, EXIT_UNSUPPORTED, "32-bit")
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_info_names_32_bit(tmp_path):
    program = tmp_path / "elf32"
    program.write_bytes(elf32())
    program.chmod(0o755)
    try:
        child = subprocess.Popen([str(program)])
    except OSError as error:
        pytest.skip("this kernel runs no 32-bit programs: %s" % error)
    try:
        wait_for(lambda: any(row[4] == str(program) for row in mappings(child.pid)),
                 what="the exec")
        result = run("info", child.pid, "--json")
        assert "32" in result.out, result
    finally:
        child.kill()
        child.wait()


# ---------------------------------------------------------------- usage

@pytest.mark.parametrize("args", [
    ("frobnicate",), ("trace",), ("stack",), ("info",), ("watch",),
    ("trace", "1", "--no-such-option"), ("trace", "1", "-d", "ten"),
    ("trace", "1", "-d", "-5s"), ("trace", "1", "-d"), ("stack", "1", "2"),
    ("watch", "1", "--interval", "0"), ("trace", "1", "--limit", "many"),
    ("trace", "1", "--engine", "magic"), ("trace", "--json", "--", "true"),
], ids=" ".join)
def test_usage(args):
    result = run(*args)
    assert result.code == EXIT_USAGE, result
    assert result.err.strip(), result
    assert result.seconds < AT_ONCE_S


@pytest.mark.parametrize("args", [
    ("trace", "--save", "x.htap"),
    ("trace", "--group", "file"), ("trace", "--include", "*.py"),
    ("trace", "--exclude", "*.py"), ("watch", "--openmetrics", "x"),
    ("watch", "--when", "rss > 1G"),
], ids=" ".join)
def test_options_of_later_versions_are_refused_by_name(args, stuck):
    result = run(args[0], stuck.pid, *args[1:])
    assert result.code == EXIT_USAGE, result
    assert args[1] in result.err, result
    assert stuck.alive()


@pytest.mark.parametrize("command", ["top", "snap", "diff", "lines", "show", "check", "batch"])
def test_commands_of_later_versions_are_usage_errors(command, stuck):
    result = run(command, stuck.pid)
    assert result.code == EXIT_USAGE, result
    assert command in result.err, result


def test_help_and_version():
    for args in (("--help",), ("trace", "--help"), ("stack", "--help"), ("watch", "--help"),
                 ("info", "--help")):
        result = run(*args, code=EXIT_DONE)
        assert "usage" in result.out.lower() and not result.err, result
    assert "0." in run("--version", code=EXIT_DONE).out


# ---------------------------------------------------------------- output files

@named(COMMANDS)
def test_unwritable_output(command, stuck):
    path = "/nonexistent/folder/answer.json"
    result = run(command[0], stuck.pid, *command[1:], "-o", path)
    assert result.code == EXIT_FILE, result
    assert path in result.err, result
    # opened before the attach: it does not wait for the duration
    assert result.seconds < 0.9, result
    check_clean(stuck.pid)


@named(COMMANDS)
def test_output_file(command, stuck, tmp_path):
    """The file is replaced by the whole answer; nothing goes to stdout."""
    path = tmp_path / "answer.json"
    path.write_text("old")
    result = run(command[0], stuck.pid, *command[1:], "--json", "-o", path, code=EXIT_DONE)
    assert result.out == "", result
    assert json.loads(path.read_text())["schema"] == "heaptap.%s/1" % command[0]
    assert [p.name for p in tmp_path.iterdir()] == ["answer.json"]


def test_output_file_stays_on_failure(tmp_path):
    path = tmp_path / "answer.json"
    path.write_text("old")
    assert run("stack", free_pid(), "-o", path).code == EXIT_PROCESS
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["answer.json"]


def test_full_disk(stuck):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run([str(HEAPTAP), "stack", str(stuck.pid)], stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=20)
    assert done.returncode == EXIT_FILE, done
    check_clean(stuck.pid)
