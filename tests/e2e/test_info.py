# SPDX-License-Identifier: Apache-2.0
"""heaptap info: what can be seen of a process, before anything is touched."""
import os
import signal
import subprocess

import pytest

from heaptap import (EXIT_DONE, Clean, Target, all_interpreters, built, interpreters, has_tool,
                     need_root, run, run_json, some_interpreter)


def test_native(stuck):
    with Clean(stuck.pid):
        answer = run_json("info", stuck.pid)
    process = answer["process"]
    assert process["pid"] == stuck.pid
    assert process["exe"] == str(built("stuck"))
    assert process["cmdline"] == [str(built("stuck"))]
    assert process["python"] is None and process["threads"] == 1
    assert answer["runtime"]["kind"] == "native"
    assert answer["runtime"]["supported"] is True
    assert answer["attach"]["allowed"] is True
    assert answer["left_behind"] is False or answer["left_behind"] is None


def test_allocator_of_libc(stuck):
    answer = run_json("info", stuck.pid)
    libc = [a for a in answer["allocators"] if "libc" in a["module"]]
    assert len(libc) == 1, answer["allocators"]
    assert {"malloc", "calloc", "realloc", "free"} <= set(libc[0]["symbols"])
    entries = {e["symbol"] for e in answer["entry_points"] if "libc" in e["module"]}
    assert {"malloc", "free"} <= entries, answer["entry_points"]


def test_symbols(stuck, tmp_path):
    def debug(pid, exe):
        return {os.path.basename(m["module"]): m for m in run_json("info", pid)["symbols"]}[exe]

    assert debug(stuck.pid, "stuck")["debug"] == "full"
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", str(stripped), str(built("stuck"))], check=True)
    with Target(stripped) as target:
        assert debug(target.pid, "stripped")["debug"] in ("dynsym", "none")
    symtab = tmp_path / "symtab"
    subprocess.run(["strip", "--strip-debug", "-o", str(symtab), str(built("stuck"))], check=True)
    with Target(symtab) as target:
        module = debug(target.pid, "symtab")
        assert module["debug"] == "symtab"
        notes = subprocess.run(["readelf", "-n", str(symtab)], capture_output=True, text=True)
        if "Build ID" in notes.stdout:
            assert module["build_id"] in notes.stdout


@pytest.mark.parametrize("interpreter", interpreters())
def test_python(interpreter, tmp_path):
    with interpreter.start("cache_leak.py", tmp_path, log="log") as target:
        with Clean(target.pid):
            answer = run_json("info", target.pid)
        version = ".".join(map(str, target.facts["version"]))
        assert answer["process"]["python"] == version
        assert answer["runtime"]["kind"] == "cpython"
        assert answer["runtime"]["version"] == version
        assert answer["runtime"]["supported"] is True, answer["runtime"]
        kinds = {a["kind"] for a in answer["allocators"]}
        assert any("python" in kind or "pymalloc" in kind for kind in kinds), answer["allocators"]


@pytest.mark.parametrize("interpreter", [
    pytest.param(i, id=i.name) for i in all_interpreters() if i.version < (3, 8)])
def test_old_python_is_named_as_such(interpreter, tmp_path):
    with interpreter.start("cache_leak.py", tmp_path, log="log") as target:
        answer = run_json("info", target.pid)
        assert answer["runtime"]["kind"] == "cpython"
        assert answer["runtime"]["supported"] is False
        assert answer["runtime"]["reason"], answer["runtime"]
        assert answer["runtime"]["version"].startswith("%d.%d" % interpreter.version[:2])


def test_node(tmp_path):
    if not has_tool("node"):
        pytest.skip("node is not installed")
    script = "console.log(JSON.stringify({ready: true})); setInterval(() => {}, 1000)"
    with Target(has_tool("node"), "-e", script) as target:
        runtime = run_json("info", target.pid)["runtime"]
        assert runtime["kind"] == "node" and runtime["supported"] is False, runtime
        assert runtime["reason"]


def test_jvm(tmp_path):
    if not has_tool("java") or not has_tool("javac"):
        pytest.skip("no JDK")
    (tmp_path / "Wait.java").write_text(
        "class Wait { public static void main(String[] a) throws Exception {"
        " System.out.println(\"{\\\"ready\\\": true}\"); Thread.sleep(1000000); } }")
    subprocess.run(["javac", "Wait.java"], cwd=tmp_path, check=True)
    with Target(has_tool("java"), "-Xmx64m", "-cp", tmp_path, "Wait", timeout=60) as target:
        runtime = run_json("info", target.pid)["runtime"]
        assert runtime["kind"] == "jvm" and runtime["supported"] is False, runtime


def test_go(tmp_path):
    if not has_tool("go"):
        pytest.skip("go is not installed")
    (tmp_path / "main.go").write_text(
        'package main\nimport ("fmt"; "time")\n'
        'func main() { fmt.Println("{\\"ready\\": true}"); time.Sleep(1000 * time.Second) }\n')
    environment = dict(os.environ, GOCACHE=str(tmp_path / "cache"), GO111MODULE="off",
                       CGO_ENABLED="0")
    subprocess.run(["go", "build", "-o", "waiter", "main.go"], cwd=tmp_path, check=True,
                   env=environment)
    with Target(tmp_path / "waiter") as target:
        runtime = run_json("info", target.pid)["runtime"]
        assert runtime["kind"] == "go" and runtime["supported"] is False, runtime


def test_seccomp_and_cgroup(stuck):
    answer = run_json("info", stuck.pid)
    assert "seccomp" in answer
    assert answer["cgroup"]["path"].startswith("/")
    assert answer["cgroup"]["version"] in (1, 2)


def test_deleted_executable(tmp_path):
    program = tmp_path / "gone"
    program.write_bytes(built("stuck").read_bytes())
    program.chmod(0o755)
    with Target(program) as target:
        program.unlink()
        answer = run_json("info", target.pid)
        assert any(a["kind"] for a in answer["allocators"])
        modules = {os.path.basename(m["module"]).split(" ")[0]: m for m in answer["symbols"]}
        assert modules["gone"]["debug"] == "full", answer["symbols"]


def test_text(stuck):
    result = run("info", stuck.pid, code=EXIT_DONE)
    assert str(stuck.pid) in result.out and "malloc" in result.out, result


def test_stopped_process(stuck):
    os.kill(stuck.pid, signal.SIGSTOP)
    answer = run_json("info", stuck.pid)
    assert answer["attach"]["allowed"] is True
    os.kill(stuck.pid, signal.SIGCONT)


def test_python_in_another_root(tmp_path):
    need_root()
    inside = [i for i in all_interpreters() if i.root]
    if not inside:
        pytest.skip("HEAPTAP_TEST_SID names no Debian tree")
    with inside[0].start("cache_leak.py", tmp_path, log="log") as target:
        answer = run_json("info", target.pid)
        assert answer["runtime"]["kind"] == "cpython"
        assert some_interpreter().root is None


def test_how_calls_are_seen(leak):
    """As trace sees them then."""
    def how(answer):
        return {(e["module"], e["symbol"]): e["how"] for e in answer["entry_points"]}

    told = how(run_json("info", leak.pid))
    assert how(run_json("trace", leak.pid, "-d", "500ms")) == told
    assert "breakpoint" in told.values() or "jump" in told.values(), told
