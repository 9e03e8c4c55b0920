"""Tests of the process model: the ids and resources of a PUN, its start and end. They run with both start methods."""

from __future__ import annotations

import grp
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import pytest
import requests

from tests.system.portal import Client, Portal, User, children_of, processes_of, refusal
from tests.system.slurm import SlurmCluster, wait_for
from tokens.token import sha256_of

IDLE = 15
NewUser = Callable[..., User]


@pytest.fixture(scope="module", params=["fork", "exec"])
def short(folder: Path, slurm: SlurmCluster, hook_user: str, request: pytest.FixtureRequest) -> Iterator[Portal]:
    """A portal whose idle PUNs end soon, once with each start method."""
    rules = {
        "idle_timeout": IDLE, "spawn": request.param, "disabled_shells": ["/access/denied"],
        "environment": {"SITE_SETTING": "of the site"},
    }  # fmt: skip
    portal = Portal(folder / request.param, hook_user, {"box": "v2:\n  job: {adapter: local}\n"}, rules)
    try:
        yield portal.start()
    finally:
        portal.stop()


def status_of(pid: int) -> dict[str, str]:
    """Return the fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def preloader_of(portal: Portal) -> int:
    """Return the pid of the spawner's only child."""
    spawner = portal.part("spawner")
    wait_for("one preloader", lambda: len(children_of(spawner)) == 1)
    return children_of(spawner)[0]


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def warm(portal: Portal, user: User) -> tuple[Client, int]:
    """Return a client of a user and the pid of the PUN that has answered it."""
    client = portal.client(user)
    assert client("GET", "/api/v1/clusters").status_code == 200
    return client, portal.pid_of(user)


def test_a_pun_is_its_user_and_nobody_else(short: Portal, alice: User, group: str) -> None:
    """A PUN has its user's ids and groups, no capabilities, umask 077 and the home as folder, and cannot be traced."""
    subprocess.run(["usermod", "-aG", group, alice.name], check=True)
    try:
        _, pid = warm(short, alice)
        status = status_of(pid)
        assert status["Uid"].split() == [str(alice.uid)] * 4
        assert status["Gid"].split() == [str(alice.gid)] * 4
        assert set(map(int, status["Groups"].split())) == {alice.gid, grp.getgrnam(group).gr_gid}
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
        assert status["Umask"] == "0077"
        assert os.readlink(f"/proc/{pid}/cwd") == str(alice.home)
        assert os.getsid(pid) == pid
        # The files in /proc of a process that is not dumpable belong to root, so no other process of the user reads them.
        assert Path(f"/proc/{pid}/environ").stat().st_uid == 0
        assert alice.run("cat", f"/proc/{pid}/environ", check=False).returncode != 0
    finally:
        subprocess.run(["gpasswd", "-d", alice.name, group], check=True, capture_output=True)
        short.punway("admin", "stop", alice.name, check=False)


def test_a_pun_has_the_title_of_its_user(short: Portal, alice: User) -> None:
    """ps shows a PUN with the name of its user."""
    _, pid = warm(short, alice)
    assert Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0") == f"punway pun: {alice.name}"


def test_a_pun_holds_no_descriptor_but_its_own(short: Portal, alice: User, bob: User) -> None:
    """A PUN holds /dev/null, the log's pipe, its listener and waitress's pipes, and no descriptor of another process."""
    warm(short, bob)
    _, pid = warm(short, alice)
    inodes = {
        row.split()[6]: row.split()[7]
        for row in Path("/proc/net/unix").read_text().splitlines()[1:]
        if len(row.split()) > 7
    }
    listeners = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(entry)
        if target.startswith("socket:["):
            listeners.append(inodes.get(target[8:-1]))
        else:
            assert target == "/dev/null" or target.startswith("pipe:["), target
    own = str(short.run_dir / "puns" / alice.name / "pun.sock")
    assert set(listeners) == {own}
    # The only pipe that it shares with another process is that of the log.
    ours = {os.readlink(e) for e in Path(f"/proc/{pid}/fd").iterdir()}
    log = {os.readlink(f"/proc/{pid}/fd/1"), os.readlink(f"/proc/{pid}/fd/2")}
    for other in [short.part("spawner"), *children_of(short.part("spawner")), short.part("hook")]:
        if other != pid:
            theirs = {os.readlink(e) for e in Path(f"/proc/{other}/fd").iterdir()}
            assert {link for link in ours & theirs if link.startswith("pipe:")} <= log


def test_a_pun_has_a_fresh_environment(short: Portal, alice: User) -> None:
    """A job has the variables of a login and of the site, and none of root's. It ignores no signals."""
    client, pid = warm(short, alice)
    job = client.submit(
        "#!/bin/sh\n/usr/bin/env\ngrep SigIgn /proc/self/status >&2\n",
        "box",
        output_path="env-%j.txt",
        error_path="signals-%j.txt",
    )["job_id"]
    client.wait(job, lambda j: j["status"] == "completed", "box")
    lines = (alice.home / f"env-{job}.txt").read_text().splitlines()
    got = dict(line.partition("=")[::2] for line in lines)
    expected = {
        "HOME": str(alice.home), "USER": alice.name, "LOGNAME": alice.name, "SHELL": "/bin/bash",
        "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "SITE_SETTING": "of the site",
    }  # fmt: skip
    assert {name: got.get(name) for name in expected} == expected
    assert set(got) - set(expected) <= {"PWD", "OLDPWD", "SHLVL", "_", "PUNWAY_JOB_ID", "PUNWAY_JOB_NAME"}
    assert b"of-root" not in Path(f"/proc/{pid}/environ").read_bytes()
    # A job ignores no signal because an ancestor did. glibc reserves 32 and 33, and nobody can change them.
    _, ignored = (alice.home / f"signals-{job}.txt").read_text().split()
    assert int(ignored, 16) & ~(0b11 << 31) == 0


ATTACKER = """
import ctypes, os, sys, time
ATTACH, DETACH, WNOHANG = 16, 17, 1
libc = ctypes.CDLL(None, use_errno=True)
preloader, seen, deadline = sys.argv[1], set(), time.monotonic() + 60
print("ready", flush=True)
while time.monotonic() < deadline:
    for pid in open(f"/proc/{preloader}/task/{preloader}/children").read().split():
        for path, flags in ((f"/proc/{pid}/mem", os.O_RDWR), (f"/proc/{pid}/fd/2", os.O_WRONLY), (f"/proc/{pid}/environ", 0)):
            try:
                os.close(os.open(path, flags))
                print("opened", path, flush=True)
            except OSError:
                pass
        if libc.ptrace(ATTACH, int(pid), 0, 0) == 0:
            os.waitpid(int(pid), 0)
            print("attached to", pid, flush=True)
            libc.ptrace(DETACH, int(pid), 0, 0)
        try:
            title = open(f"/proc/{pid}/cmdline").read()
        except OSError:
            continue
        if title.startswith("punway pun") and pid not in seen:
            seen.add(pid)
            print("serves", flush=True)
"""


def test_no_process_of_its_user_looks_into_a_pun(short: Portal, alice: User) -> None:
    """From its first moment on, no other process of the user can trace a PUN or open its memory or descriptors."""
    client, _ = warm(short, alice)
    argv = ["/usr/bin/python3", "-I", "-c", ATTACKER, str(preloader_of(short))]
    attacker = subprocess.Popen(
        argv, user=alice.name, group=alice.gid, extra_groups=[], stdout=subprocess.PIPE, text=True
    )
    assert attacker.stdout
    try:
        assert attacker.stdout.readline() == "ready\n"
        said = []
        for _ in range(6):
            said.append(attacker.stdout.readline())
            short.punway("admin", "stop", alice.name, check=False)  # It may have ended already.
            wait_for("the PUN to leave", lambda: short.pid_of(alice) == 0)
            assert client("GET", "/api/v1/clusters").status_code == 200
        assert said == ["serves\n"] * 6
    finally:
        attacker.kill()
        attacker.stdout.close()
        attacker.wait()


def test_a_pun_forges_no_audit_line(short: Portal, alice: User) -> None:
    """Nothing that a PUN writes to its descriptors reaches the audit log, and each line in the log has the PUNs' prefix."""
    client, pid = warm(short, alice)
    forged = b'{"time": "2026-01-01T00:00:00+00:00", "action": "token.made", "user": "root", "token_id": "forged"}'
    for entry in sorted(Path(f"/proc/{pid}/fd").iterdir()):
        if os.readlink(entry).startswith("pipe:") and os.access(entry, os.W_OK):
            for before, after in ((b"", b"\n"), (b"no end", b""), (b"\n", b"\r"), (b"punway hook: ", b"\n\n")):
                with entry.open("wb", buffering=0) as pipe:
                    pipe.write(before + forged + after)
    assert client("DELETE", "/api/v1/jobs/999999?cluster=box").status_code == 404
    wait_for("its line", lambda: any(line["action"] == "DELETE /api/v1/jobs/999999" for line in short.audit()))
    wait_for("the PUN's lines", lambda: short.log_file.read_text().count("forged") >= 8)
    assert "forged" not in short.audit_file.read_text()
    assert all(line.startswith("puns | ") for line in short.log_file.read_text().split("\n") if "forged" in line)


def test_a_part_has_nothing_of_the_callers_environment(short: Portal) -> None:
    """Parts have only PATH and LANG. tests/punway/test_serve.py tests it for nginx, whose title overwrites its own."""
    for part in ("spawner", "hook"):
        given = Path(f"/proc/{short.part(part)}/environ").read_bytes().rstrip(b"\0").split(b"\0")
        assert {variable.partition(b"=")[0] for variable in given} <= {b"PATH", b"LANG"}, part


def test_the_command_runs_no_code_of_its_callers(tmp_path: Path) -> None:
    """Root's punway runs no code to which Python's environment variables or the current directory lead."""
    trap = f"import pathlib; pathlib.Path({str(tmp_path / 'sprung')!r}).touch(); raise SystemExit('sprung')\n"
    for name in (
        "sitecustomize.py",
        "usercustomize.py",
        "tomli.py",
        "punway/__init__.py",
        "argparse.py",
        "start.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(trap)
    traps = {
        "PATH": f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "start.py"), "PYTHONUSERBASE": str(tmp_path), "PYTHONINSPECT": "1",
    }  # fmt: skip
    punway = Path(sys.executable).with_name("punway")
    (tmp_path / "link").symlink_to(punway)
    for command in (punway, tmp_path / "link"):
        for environment in (traps, {**traps, "PYTHONHOME": str(tmp_path)}):
            argv = [str(command), "--version"]
            done = subprocess.run(argv, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.stdout.startswith("punway "), done.stderr
            assert not (tmp_path / "sprung").exists()


def test_nobody_else_reaches_a_puns_socket(short: Portal, alice: User, bob: User) -> None:
    """Only nginx's group may enter the folder: neither bob nor other processes of alice can connect."""
    warm(short, alice)
    path = short.run_dir / "puns" / alice.name / "pun.sock"
    status = path.parent.stat()
    assert (status.st_uid, grp.getgrgid(status.st_gid).gr_name, status.st_mode & 0o777) == (0, "www-data", 0o750)
    for user in (alice, bob):
        said = user.run("curl", "-s", "--unix-socket", str(path), "http://x/api/v1/clusters", check=False)
        assert said.returncode != 0 and not said.stdout


def test_a_request_that_reaches_a_wrong_pun_is_refused(short: Portal, alice: User, bob: User) -> None:
    """Directly at its socket, alice's PUN answers 401 without an assertion, with bob's, and with a forged one."""
    client, _ = warm(short, alice)
    other, _ = warm(short, bob)
    path = str(short.run_dir / "puns" / alice.name / "pun.sock")

    def request(*headers: str) -> str:
        argv = ["curl", "-s", "-w", "%{http_code}", "--unix-socket", path, "http://x/api/v1/clusters"]
        return subprocess.run([*argv, *headers], capture_output=True, text=True, check=True).stdout

    bobs = assertion_of(short, other.token)
    assert request().endswith("401")
    assert request("-H", f"Authorization: Bearer {client.token}").endswith("401")
    assert request("-H", f"X-Pun-Assertion: {bobs}").endswith("401")
    assert request("-H", f"X-Pun-Assertion: {assertion_of(short, client.token)}").endswith("200")
    head, payload, signature = assertion_of(short, client.token).split(".")
    assert request("-H", f"X-Pun-Assertion: {head}.{payload}.{signature[::-1]}").endswith("401")
    unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"
    assert request("-H", f"X-Pun-Assertion: {unsigned}.{payload}.").endswith("401")


def assertion_of(portal: Portal, token: str) -> str:
    """Return the assertion that the hook gives nginx for a token."""
    argv = ["curl", "-s", "-i", "--unix-socket", str(portal.run_dir / "hook.sock"), "http://hook/auth/api"]
    said = subprocess.run([*argv, "-H", f"Authorization: Bearer {token}"], capture_output=True, text=True, check=True)
    return next(line.split(": ")[1] for line in said.stdout.splitlines() if line.lower().startswith("x-pun-assertion"))


def test_an_idle_pun_leaves_and_the_next_request_starts_another(short: Portal, alice: User) -> None:
    """A PUN without requests ends after idle_timeout."""
    client, first = warm(short, alice)
    wait_for("the PUN to leave", lambda: not Path(f"/proc/{first}").exists())
    assert short.pid_of(alice) == 0
    assert client("GET", "/api/v1/clusters").status_code == 200
    assert short.pid_of(alice) not in (0, first)


def test_a_stopped_pun_leaves_after_what_is_in_flight(short: Portal, alice: User) -> None:
    """punway admin stop ends the process, and no request is lost."""
    client, first = warm(short, alice)
    seen: list[int] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            seen.append(client("GET", "/api/v1/clusters").status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        pid = short.pid_of(alice)
        if pid:
            short.punway("admin", "stop", alice.name)
            wait_for("the PUN to leave", partial(is_gone, pid))
    short.punway("admin", "reload")
    time.sleep(0.5)
    done.set()
    for thread in threads:
        thread.join()
    assert set(seen) == {200}
    assert not Path(f"/proc/{first}").exists()


def test_kill_9_loses_only_what_was_in_flight(short: Portal, alice: User) -> None:
    """With requests from four clients all the time, each killed process costs at most one request per client."""
    client, first = warm(short, alice)
    # After five failures in a row the spawner stops trying; an orderly end resets the count.
    short.punway("admin", "stop", alice.name)
    wait_for("the PUN to leave", partial(is_gone, first))
    seen: list[int] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                seen.append(client("GET", "/api/v1/clusters").status_code)
            except requests.exceptions.ChunkedEncodingError:
                seen.append(503)  # It was in flight: part of its response had been sent.

    def await_answers() -> None:
        count = seen.count(200)
        wait_for("fifty more answers", lambda: seen.count(200) > count + 50)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    kills, killed = 3, 0
    for _ in range(kills):
        wait_for("another PUN", lambda last=killed: short.pid_of(alice) not in (0, last))  # type: ignore[misc]
        killed = short.pid_of(alice)
        await_answers()
        os.kill(killed, signal.SIGKILL)
    await_answers()
    done.set()
    for thread in threads:
        thread.join()
    lost = [status for status in seen if status != 200]
    assert set(lost) <= {503}
    assert len(lost) <= 4 * kills, f"{len(lost)} of {len(seen)} requests were lost in {kills} kills"
    assert len(seen) > 10 * len(lost)


def test_a_hundred_first_requests_make_one_pun(short: Portal, alice: User) -> None:
    """Many first requests of one user at once start a single process."""
    client = short.client(alice)
    if short.pid_of(alice):
        short.punway("admin", "stop", alice.name)
        wait_for("no PUN", lambda: short.pid_of(alice) == 0)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: client("GET", "/api/v1/clusters").status_code, range(100)))
    assert set(answers) == {200}
    assert len([pid for pid in children_of(preloader_of(short)) if pid in processes_of(alice.uid)]) == 1


def test_many_users_at_once_from_cold(short: Portal, new_user: NewUser) -> None:
    """The first requests of twenty users at the same moment all succeed, each in a process of its user."""
    users = [new_user(f"pwm{number}") for number in range(20)]
    clients = [short.client(user) for user in users]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda client: client("GET", "/api/v1/clusters").status_code, clients))
    assert answers == [200] * 20
    running = [line.split() for line in short.punway("admin", "ps").stdout.splitlines()[1:]]
    pids = {name: int(pid) for name, _, pid, *_ in running}
    for user in users:
        assert status_of(pids[user.name])["Uid"].split() == [str(user.uid)] * 4


@pytest.mark.parametrize(
    ("shell", "options", "said"),
    [("/bin/bash", ("--system",), "min_uid"), ("/access/denied", (), "disabled_shells"),
     ("/bin/bash", ("--gid", "0"), "primary group")],
    ids=["below-min-uid", "disabled-shell", "root's group"],
)  # fmt: skip
def test_a_user_whom_the_rules_refuse(
    short: Portal, new_user: NewUser, shell: str, options: tuple[str, ...], said: str
) -> None:
    """A refused user can make no token, and an existing token gets a 403 that names the rule and starts no process."""
    user = new_user("pwno", shell, options)
    made = short.punway("token", "create", "x", user=user, check=False)
    assert made.returncode == 1 and said in made.stderr
    client = routed(short, user)
    for _ in range(2):
        status, error, message = client.error("GET", "/api/v1/clusters")
        assert (status, error) == (403, "forbidden")
        assert said in message
    assert short.pid_of(user) == 0
    assert processes_of(user.uid) == []
    assert not (short.run_dir / "puns" / user.name).exists()


def routed(portal: Portal, user: User) -> Client:
    """Return a client with a token of a user whom the registrar refuses by now, as if it were older than the rule."""
    secret = os.urandom(32).hex()
    with closing(sqlite3.connect(portal.folder / "state" / "routes.sqlite", timeout=60)) as table, table:
        table.execute(
            "INSERT INTO routes (sha256, uid, name, created_at) VALUES (?, ?, ?, ?)",
            (sha256_of(secret), user.uid, user.name, datetime.now(timezone.utc).isoformat(timespec="seconds")),
        )
    return Client(portal.url, secret)


def test_a_user_who_is_gone_from_the_system(short: Portal, new_user: NewUser) -> None:
    """The token of a removed user gets a 403 that says so, and starts no process."""
    user = new_user("pwgone")
    client = short.client(user)
    user.remove()
    status, error, message = client.error("GET", "/api/v1/clusters")
    assert (status, error) == (403, "forbidden")
    assert "no longer has an account on this host" in message
    assert processes_of(user.uid) == []


def test_root_has_no_token_and_no_pun(short: Portal) -> None:
    """Root can neither create a token nor have a PUN."""
    done = short.punway("token", "create", "x", check=False)
    assert done.returncode == 1
    assert "root" in done.stderr
    with ask_spawner(short) as spawner:
        spawner.sendall(json.dumps({"id": 1, "ask": "ensure", "uid": 0, "name": "root"}).encode())
        assert "refused" in json.loads(spawner.recv(65_536))


def ask_spawner(portal: Portal) -> socket.socket:
    """Return a connection to the spawner, for requests as root."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(15)
    connection.connect(str(portal.run_dir / "spawner.sock"))
    return connection


def test_only_root_and_the_hook_are_heard_by_the_spawner(short: Portal, alice: User, hook_user: str) -> None:
    """An ordinary user cannot connect to the spawner. The hook's user may request a PUN but may not stop one."""
    status = (short.run_dir / "spawner.sock").stat()
    assert status.st_mode & 0o777 == 0o600
    done = short.punway("admin", "ps", user=alice, check=False)
    assert done.returncode == 1
    assert "only root" in done.stderr
    program = (
        "import json,socket,sys\n"
        "for ask in ({'ask': 'ping'}, {'ask': 'stop', 'name': 'x'}):\n"
        "    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1])\n"
        "    s.sendall(json.dumps({'id': 1, **ask}).encode()); print(s.recv(65536))\n"
    )
    said = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", program, str(short.run_dir / "spawner.sock")],
        user=hook_user, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert "pong" in said[0]
    assert said[1] == "b''"


@pytest.mark.parametrize(
    "message",
    [b"{", b"[]", b"{}", b'{"id": 1, "ask": "open"}', b'{"id": 1, "ask": ["ping"]}', b'{"id": "1", "ask": "ping"}',
     b'{"id": 1, "ask": "ensure"}', b'{"id": 1, "ask": "ensure", "uid": "1", "name": "x"}',
     b'{"id": 1, "ask": "ensure", "uid": 1, "name": "x", "more": 1}', b"x" * 70_000, b"[" * 60_000],
    ids=["not JSON", "not an object", "empty object", "unknown", "unknown type", "id not a number", "fields missing",
         "wrong type", "another field", "too long", "too deep"],
)  # fmt: skip
def test_the_spawner_ends_a_conversation_that_it_does_not_know(short: Portal, message: bytes) -> None:
    """The spawner closes the connection after an unknown or malformed request, and keeps running."""
    with ask_spawner(short) as spawner:
        spawner.sendall(message)
        assert spawner.recv(65_536) == b""
    assert short.is_well()


@pytest.mark.parametrize("name", ["../../etc", "a/b", ".", "..", "-x", "", "x" * 300, "a\nb", "a b"])
def test_a_name_that_would_be_a_path(short: Portal, name: str) -> None:
    """A name that would be unsafe as the name of a folder is refused."""
    with ask_spawner(short) as spawner:
        spawner.sendall(json.dumps({"id": 1, "ask": "ensure", "uid": 4321, "name": name}).encode())
        assert "user_regex" in json.loads(spawner.recv(65_536))["refused"]


def test_a_name_and_a_uid_that_are_not_one(short: Portal, alice: User, bob: User) -> None:
    """A name with another user's uid is refused, even for root, and does not take the other user's folder."""
    warm(short, bob)
    short.punway("admin", "stop", alice.name, check=False)
    wait_for("no PUN of alice's", lambda: short.pid_of(alice) == 0)
    asked = [
        (4321, alice.name),
        (alice.uid, bob.name),
        (4321, bob.name),
        (alice.uid, alice.name.upper()),
        (alice.uid, "nobody"),
    ]
    with ask_spawner(short) as spawner:
        for uid, name in asked:
            spawner.sendall(json.dumps({"id": 1, "ask": "ensure", "uid": uid, "name": name}).encode())
            assert "refused" in json.loads(spawner.recv(65_536)), (uid, name)
    for user in (alice, bob):
        assert short.client(user)("GET", "/api/v1/clusters").status_code == 200


def test_a_user_registers_routes_of_their_own_alone(short: Portal, alice: User, bob: User) -> None:
    """A user can neither register, drop nor list another user's hashes, and a revoked hash stays revoked."""
    client, _ = warm(short, alice)
    digest = json.loads(alice.token_file.read_text())[0]["sha256"]

    def ask(user: User, action: str, hashes: list[str]) -> dict[str, object]:
        program = (
            "import socket,sys\n"
            "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
            "s.sendall(sys.argv[2].encode() + b'\\n'); print(s.makefile().readline())\n"
        )
        message = json.dumps({"action": action, "hashes": hashes, "uid": alice.uid})
        said = user.run("/usr/bin/python3", "-I", "-c", program, str(short.run_dir / "register.sock"), message).stdout
        answer: dict[str, object] = json.loads(said)
        return answer

    assert digest in ask(alice, "list", [])["hashes"]  # type: ignore[operator]
    assert digest not in ask(bob, "list", [])["hashes"]  # type: ignore[operator]
    assert ask(bob, "add", [digest])["refused"]
    assert digest[:12] in short.log() and "another user has registered this token" in short.log()
    assert ask(bob, "revoke", [digest])["ok"]
    assert client("GET", "/api/v1/clusters").status_code == 200
    assert ask(alice, "revoke", [digest])["ok"]
    assert client.error("GET", "/api/v1/clusters")[:2] == (401, "unauthorized")
    assert ask(alice, "add", [digest])["refused"]
    assert client.error("GET", "/api/v1/clusters")[:2] == (401, "unauthorized")


def test_a_lost_route_table_heals_itself(short: Portal, alice: User) -> None:
    """After the loss of the route table, punway token sync and each starting PUN register the file's tokens again."""
    client, _ = warm(short, alice)
    for file in (short.folder / "state").iterdir():
        file.unlink()
    os.kill(short.part("hook"), signal.SIGTERM)
    wait_for("another hook", lambda: client("GET", "/api/v1/clusters").status_code == 401)
    short.punway("token", "sync", user=alice)
    assert client("GET", "/api/v1/clusters").status_code == 200


def test_a_dead_preloader_is_replaced(short: Portal, alice: User) -> None:
    """PUNs end with their preloader, by a signal from the kernel, and the next request starts a new one."""
    client, pid = warm(short, alice)
    preloader = preloader_of(short)
    assert status_of(pid)["PPid"] == str(preloader)
    os.kill(preloader, signal.SIGKILL)
    wait_for("the PUN to leave", lambda: not Path(f"/proc/{pid}").exists())
    wait_for("another PUN", lambda: client("GET", "/api/v1/clusters").status_code == 200)
    assert preloader_of(short) != preloader


def test_the_preloader_holds_nothing(short: Portal) -> None:
    """The preloader has one thread, no socket except its pair with the spawner, and no variable except LANG."""
    preloader = preloader_of(short)
    assert status_of(preloader)["Threads"] == "1"
    assert Path(f"/proc/{preloader}/environ").read_bytes().rstrip(b"\0") in (b"LANG=C.UTF-8", b"")
    named = {row.split()[6] for row in Path("/proc/net/unix").read_text().splitlines()[1:] if len(row.split()) > 7}
    sockets = [os.readlink(e) for e in Path(f"/proc/{preloader}/fd").iterdir()]
    sockets = [link[8:-1] for link in sockets if link.startswith("socket:")]
    assert len(sockets) == 1
    assert not set(sockets) & named


def test_the_spawner_is_one_thread_of_the_standard_library(short: Portal) -> None:
    """No third-party code is mapped into root's spawner."""
    spawner = short.part("spawner")
    assert status_of(spawner)["Threads"] == "1"
    assert "site-packages" not in Path(f"/proc/{spawner}/maps").read_text()


def test_the_hook_is_nobody_in_particular(short: Portal, hook_user: str) -> None:
    """The hook has its user's ids in all four places, no capability and no group of another's."""
    status = status_of(short.part("hook"))
    import pwd

    entry = pwd.getpwnam(hook_user)
    assert status["Uid"].split() == [str(entry.pw_uid)] * 4
    assert status["Gid"].split() == [str(entry.pw_gid)] * 4
    assert status["Groups"].split() == [str(entry.pw_gid)]
    assert {status[name] for name in ("CapPrm", "CapEff")} == {"0" * 16}


def test_one_users_hung_home_is_theirs_alone(short: Portal, bob: User, new_user: NewUser) -> None:
    """A home that hangs costs only its user a 503, and bob is served."""
    user = new_user("pwhung")
    client, other = short.client(user), short.client(bob)
    with HungHome(user), ThreadPoolExecutor(30) as pool:
        stuck = [pool.submit(client, "GET", "/api/v1/clusters") for _ in range(20)]
        for _ in range(10):
            assert other("GET", "/api/v1/clusters").status_code == 200
        assert not any(answer.done() for answer in stuck)
        for answer in stuck:
            assert refusal(answer.result())[:2] == (503, "service_unavailable")
            assert "home directory does not answer" in answer.result().json()["message"]
            assert int(answer.result().headers["Retry-After"]) > 0
        assert refusal(client("GET", "/api/v1/clusters"))[0] == 503
        # The second request did not wait.
        assert short.log().count(f"failed to start a PUN for {user.name}: the home") == 1


class HungHome:
    """A FUSE file system, mounted over a home, whose server never answers."""

    def __init__(self, user: User) -> None:
        self.user = user

    def __enter__(self) -> None:
        self.fuse = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.fuse},rootmode=40000,user_id=0,group_id=0,allow_other"
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        target = str(self.user.home).encode()
        if libc.mount(b"hung", target, b"fuse", 0, options.encode()):
            raise OSError(ctypes.get_errno(), "mount")

    def __exit__(self, *_: object) -> None:
        import ctypes

        os.close(self.fuse)  # The kernel then fails all pending calls.
        ctypes.CDLL(None).umount2(str(self.user.home).encode(), 2)


def test_a_missing_home_is_said(short: Portal, new_user: NewUser) -> None:
    """A missing home is a 503 that names it. Nobody creates the home."""
    user = new_user("pwhome")
    client = short.client(user)
    subprocess.run(["rm", "-rf", str(user.home)], check=True)
    status, error, message = client.error("GET", "/api/v1/clusters")
    assert (status, error) == (503, "service_unavailable")
    assert str(user.home) in message
    assert not user.home.exists()


def test_the_next_pun_has_the_groups_of_now(folder: Path, hook_user: str, alice: User, group: str) -> None:
    """The next PUN has the new groups. tests/pun_app/test_server.py tests when a PUN ends after a change of groups."""
    portal = Portal(folder / "g", hook_user, {"box": "v2:\n  job: {adapter: local}\n"})
    try:
        client, pid = warm(portal.start(), alice)
        subprocess.run(["usermod", "-aG", group, alice.name], check=True)
        portal.punway("admin", "stop", alice.name)
        wait_for("the PUN to leave", lambda: not Path(f"/proc/{pid}").exists())
        assert client("GET", "/api/v1/clusters").status_code == 200
        assert str(grp.getgrnam(group).gr_gid) in status_of(portal.pid_of(alice))["Groups"].split()
    finally:
        subprocess.run(["gpasswd", "-d", alice.name, group], check=False, capture_output=True)
        portal.stop()


def test_single_user_mode(folder: Path, alice: User) -> None:
    """Started by an ordinary user, the same processes all run as that user, with the same API."""
    portal = Portal(folder / "s", "nobody", {"box": "v2:\n  job: {adapter: local}\n"}, run_as=alice)
    try:
        portal.start()
        client = portal.client(alice)
        assert client("GET", "/api/v1/clusters").status_code == 200
        assert portal.process
        own = {portal.process.pid, *processes_of(alice.uid)}
        assert {portal.part(name) for name in ("spawner", "hook", "nginx")} <= own
        listed = portal.punway("admin", "ps", user=alice).stdout
        assert alice.name in listed
    finally:
        portal.stop()


def test_a_stopped_portal_leaves_nothing(folder: Path, hook_user: str, alice: User) -> None:
    """SIGTERM ends every process and removes the sockets."""
    portal = Portal(folder / "e", hook_user, {"box": "v2:\n  job: {adapter: local}\n"}).start()
    _, pid = warm(portal, alice)
    parts = [portal.part(name) for name in ("spawner", "hook", "nginx")]
    parts += [child for part in parts for child in children_of(part)]
    portal.stop()
    for process in (pid, *parts):
        assert not Path(f"/proc/{process}").exists()
    assert not (portal.run_dir / "spawner.sock").exists()
    assert list((portal.run_dir / "puns").iterdir()) == []
    with pytest.raises(requests.ConnectionError):
        requests.get(portal.url, timeout=5)


def test_a_pun_ends_with_the_spawner(folder: Path, hook_user: str, alice: User) -> None:
    """After a kill -9 of the spawner no PUN or preloader stays, and the next spawner serves again."""
    portal = Portal(folder / "k", hook_user, {"box": "v2:\n  job: {adapter: local}\n"}).start()
    try:
        client, pid = warm(portal, alice)
        preloader = children_of(portal.part("spawner"))[0]
        os.kill(portal.part("spawner"), signal.SIGKILL)
        for process in (pid, preloader):
            wait_for("the end", partial(is_gone, process))
        wait_for("the next", lambda: client("GET", "/api/v1/clusters").status_code == 200)
    finally:
        portal.stop()
