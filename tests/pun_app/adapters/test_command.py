"""Tests of pun_app/adapters/command.py with real processes, some of which misbehave."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from pun_app.adapters import command as module
from pun_app.adapters.command import Commands
from pun_app.adapters.errors import CommandFailed, NotSent, SchedulerUnavailable


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    return tmp_path


def script(folder: Path, text: str, name: str = "tool") -> Commands:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return Commands(bin=str(folder))


def test_output_status_and_standard_input(bin_folder: Path) -> None:
    output = script(bin_folder, "cat; echo err >&2; exit 3").run(["tool"], "héllo")
    assert (output.code, output.out, output.err) == (3, "héllo", "err\n")


def test_arguments_are_words_and_never_shell_text(bin_folder: Path) -> None:
    words = ["--a=b c", "; touch /tmp/x", "$(id)", "`id`", "'", '"', "a\nb", "*"]
    output = script(bin_folder, 'for word; do printf "%s\\0" "$word"; done').run(["tool", *words])
    assert output.out.split("\0")[:-1] == words


def test_a_clean_environment(bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that passes its environment on to a job gets none of a login's variables."""
    monkeypatch.setattr(os, "environ", {"HOME": "/h", "PATH": os.environ["PATH"], "USER": "u", "SITE": "s"})
    commands = script(bin_folder, "/usr/bin/env")
    commands = Commands(bin=commands.bin, environment={"SLURM_CONF": "/c"})
    lines = set(commands.run(["tool"]).out.split())
    assert {"HOME=/h", "USER=u", "SITE=s", "SLURM_CONF=/c"} <= lines
    lines = {
        line
        for line in commands.run(["tool"], login=False).out.split()
        if not line.startswith(("PWD", "_=", "SHLVL", "OLDPWD"))
    }
    assert lines == {"SITE=s", "SLURM_CONF=/c"}


def test_a_hanging_command_is_killed_with_its_children(bin_folder: Path) -> None:
    commands = script(bin_folder, f"sleep 1000 & echo $! > {bin_folder}/pid; sleep 1000")
    with pytest.raises(CommandFailed, match="did not answer within"):
        commands.run(["tool"], timeout=0.5)
    pid = int((bin_folder / "pid").read_text())
    for _ in range(100):
        try:
            if "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]:
                break
        except FileNotFoundError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child of the command lives on")


def test_a_command_that_closes_its_output_and_hangs_is_killed(bin_folder: Path) -> None:
    with pytest.raises(CommandFailed):
        script(bin_folder, "exec >&- 2>&-; sleep 1000").run(["tool"], timeout=0.5)


def test_a_command_that_prints_too_much_fails(bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTPUT_SIZE", 2**20)
    with pytest.raises(CommandFailed, match="printed more than 1 MiB"):
        script(bin_folder, "yes").run(["tool"])


def test_a_command_killed_by_a_signal_fails(bin_folder: Path) -> None:
    """Its effect is unknown, whatever it has printed before."""
    with pytest.raises(CommandFailed, match="signal 9"):
        script(bin_folder, "echo done; kill -9 $$").run(["tool"])


def test_output_that_is_not_utf8_is_replaced(bin_folder: Path) -> None:
    assert script(bin_folder, "printf 'a\\377b'").run(["tool"]).out == "a�b"


def test_a_command_need_not_read_its_input(bin_folder: Path) -> None:
    assert script(bin_folder, "exit 0").run(["tool"], "x" * 10_000_000).code == 0


@pytest.mark.parametrize("kind", ["missing", "not-executable", "directory"])
def test_a_command_that_cannot_start_is_not_sent(bin_folder: Path, kind: str) -> None:
    if kind == "not-executable":
        script(bin_folder, "true")
        (bin_folder / "tool").chmod(0o644)
    elif kind == "directory":
        (bin_folder / "tool").mkdir()
    with pytest.raises(NotSent, match="tool"):
        Commands(bin=str(bin_folder)).run(["tool"])


def test_a_command_is_found_by_the_cluster_file_or_path(bin_folder: Path) -> None:
    """bin_overrides precedes bin, and bin precedes PATH, as in OOD."""
    commands = script(bin_folder, "echo bin")
    script(bin_folder, "echo override", "other")
    override = Commands(bin=str(bin_folder), overrides={"tool": str(bin_folder / "other")})
    assert commands.run(["tool"]).out == "bin\n"
    assert override.run(["tool"]).out == "override\n"
    assert Commands().path("sh") in ("/bin/sh", "/usr/bin/sh")
    with pytest.raises(NotSent, match="not found"):
        Commands().path("no-such-command-here")


def test_a_command_waits_for_a_free_slot(bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that gets no slot within its time limit is never started, and its error says so."""
    monkeypatch.setattr(module, "slots", threading.BoundedSemaphore(1))
    commands = script(bin_folder, f"touch {bin_folder}/started; sleep 2")
    thread = threading.Thread(target=commands.run, args=(["tool"],))
    thread.start()
    while not (bin_folder / "started").exists():
        time.sleep(0.01)
    with pytest.raises(NotSent, match="under way"):
        commands.run(["tool"], timeout=0.2)
    thread.join()
    assert commands.run(["tool"]).code == 0


def test_descriptors_and_signals_do_not_leak(bin_folder: Path) -> None:
    with open("/etc/hostname") as file:
        os.set_inheritable(file.fileno(), True)
        output = script(bin_folder, "ls /proc/self/fd").run(["tool"])
    assert set(output.out.split()) <= {"0", "1", "2", "3"}
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        script(bin_folder, "true").run(["tool"], "input")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_submit_host_gets_each_word_quoted(bin_folder: Path) -> None:
    """ssh joins its words for a remote shell. The test replaces ssh and the remote host with a shell."""
    ssh = bin_folder / "ssh"
    ssh.write_text('#!/bin/sh\nprintf "%s " "$@" > ' + f"{bin_folder}/asked\n" + 'shift 5; shift; eval "$1"\n')
    ssh.chmod(ssh.stat().st_mode | stat.S_IXUSR)
    commands = Commands(submit_host="login.example.org", strict_host_checking=False, environment={"SLURM_CONF": "/a b"})
    monkey = pytest.MonkeyPatch()
    monkey.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    try:
        output = commands.run(["printf", "%s|", "a b", "$(id)", "'", "; echo x"])
        asked = (bin_folder / "asked").read_text()
        (bin_folder / "a dir").mkdir()
        assert commands.run(["pwd"], cwd=f"{bin_folder}/a dir").out == f"{bin_folder}/a dir\n"
        with pytest.raises(NotSent, match="cannot be run on login"):
            commands.run(["pwd"], cwd="/nonexistent; touch x")
    finally:
        monkey.undo()
    assert output.out == "a b|$(id)|'|; echo x|"
    assert asked.startswith(
        "-o BatchMode=yes -o StrictHostKeyChecking=no -- login.example.org env 'SLURM_CONF=/a b' printf"
    )


@pytest.mark.parametrize("job", [{"bin": 5}, {"submit_host": ["x"]}, {"bin_overrides": "x"}])
def test_a_key_of_another_type_is_named(job: dict[str, object]) -> None:
    with pytest.raises(SchedulerUnavailable, match=next(iter(job))):
        Commands.from_config(job, {})
