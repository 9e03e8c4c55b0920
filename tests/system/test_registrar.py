"""The registrar against hostile local users with real uids, and the site's policy at each use of a token."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from proxy_hook.registrar import MAX_CONNECTIONS_PER_UID
from tests.system.portal import Client, Portal, User, unique
from tests.system.slurm import wait_for
from tokens.token import sha256_of

NO_ACCOUNT = 3_000_000_000
"""The first of a range of uids without an account, such as a user's subordinate uids."""

# A hostile process. It runs as root to be any uid, connects twice with each, and sends a byte per second on each
# connection.
TRICKLE = """
import os, select, socket, sys
path, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
held = []
for uid in range(first, first + count):
    os.seteuid(uid)
    for _ in range(2):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        held.append(connection)
    os.seteuid(0)
print("connected", flush=True)
while not select.select([sys.stdin], [], [], 1.0)[0]:
    for connection in held:
        try:
            connection.send(b" ", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            pass
"""

# A hostile process of an ordinary user. It sends requests that change the table until its input ends.
WRITE = """
import json, select, socket, sys
requests = [{"action": "release_others", "hashes": []}, {"action": "revoke", "hashes": ["a" * 64]},
            {"action": "add", "hashes": ["a" * 64] * 500}]
answers = 0
print("begun", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        try:
            connection.sendall(json.dumps(requests[answers % 3]).encode() + b"\\n")
        except BrokenPipeError:
            pass
        connection.makefile().readline()
    answers += 1
print(answers)
"""

# A hostile process of an ordinary user. It connects and hangs up in a loop.
CONNECT = """
import select, socket, sys
print("begun", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(100):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(sys.argv[1])
"""


@pytest.fixture(scope="module")
def strict(folder: Path, hook_user: str) -> Iterator[Portal]:
    """A portal whose site has a strict policy on tokens."""
    policy = {"max_lifetime": "1h", "allowed_scopes": ["clusters:read", "jobs:read"]}
    portal = Portal(
        folder / unique("r"), hook_user, {"box": "v2:\n  job: {adapter: local}\n"}, tables={"tokens": policy}
    )
    try:
        yield portal.start()
    finally:
        portal.stop()


@contextmanager
def neighbour(program: str, *argv: str, user: User | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a hostile process until the block ends."""
    as_user: dict[str, Any] = {"user": user.name, "group": user.gid, "extra_groups": []} if user else {}
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", program, *argv],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/", **as_user,
    )  # fmt: skip
    with process:
        assert process.stdout and process.stdout.readline()
        try:
            yield process
        finally:
            assert process.stdin
            process.stdin.close()


@contextmanager
def holding(user: User, path: str) -> Iterator[None]:
    """Hold all the connections that a user may have, as that user."""
    held = [socket.socket(socket.AF_UNIX) for _ in range(MAX_CONNECTIONS_PER_UID)]
    os.seteuid(user.uid)
    try:
        for connection in held:
            connection.connect(path)
    finally:
        os.seteuid(0)
    try:
        yield
    finally:
        for connection in held:
            connection.close()


def ask(portal: Portal, uid: int, line: bytes = b"") -> dict[str, Any]:
    """Return the registrar's response to a line from a uid."""
    os.seteuid(uid)
    try:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.connect(str(portal.run_dir / "register.sock"))
    finally:
        os.seteuid(0)
    with connection:
        with suppress(BrokenPipeError):  # A client that is refused before its line is read gets the response too.
            connection.sendall(line)
        answer: dict[str, Any] = json.loads(connection.makefile().readline())
        return answer


def all_is_well(portal: Portal, alice: Client, bob: User) -> None:
    """Check that one user's requests get responses, and that another user can create, use and list tokens."""
    answers = [alice("GET", "/api/v1/whoami") for _ in range(60)]
    assert {answer.status_code for answer in answers} == {200}, answers[-1].text
    new = portal.client(bob)
    assert new("GET", "/api/v1/whoami").status_code == 200
    assert "not known to the portal" not in portal.punway("token", "list", user=bob).stdout


def test_a_user_who_hangs_up_on_refusals_ends_nothing(strict: Portal, alice: User, bob: User) -> None:
    """The user holds two connections, and opens and closes twenty more."""
    client = strict.client(alice)
    path = str(strict.run_dir / "register.sock")
    with holding(alice, path):
        os.seteuid(alice.uid)
        try:
            for _ in range(20):
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(path)
        finally:
            os.seteuid(0)
        all_is_well(strict, client, bob)


def test_a_pun_starts_while_its_user_holds_the_registrar(strict: Portal, alice: User) -> None:
    """The PUN does not end although its first registration is refused."""
    client = strict.client(alice)
    for _ in range(5):
        strict.punway("admin", "stop", alice.name, check=False)
        wait_for("the PUN to leave", lambda: strict.pid_of(alice) == 0)
        with holding(alice, str(strict.run_dir / "register.sock")):
            assert client("GET", "/api/v1/whoami").status_code == 200
            pid = strict.pid_of(alice)
            assert client("GET", "/api/v1/whoami").status_code == 200
            assert strict.pid_of(alice) == pid


def test_uids_without_an_account_hold_nothing(strict: Portal, alice: User, bob: User) -> None:
    """Six hundred of them, each with two slow connections, are refused before they have sent a line."""
    client = strict.client(alice)
    with neighbour(TRICKLE, str(strict.run_dir / "register.sock"), str(NO_ACCOUNT), "600"):
        all_is_well(strict, client, bob)
        hook = strict.part("hook")
        wait_for("the hook to hang up", lambda: len(os.listdir(f"/proc/{hook}/fd")) < 100)
        all_is_well(strict, client, bob)


@pytest.mark.parametrize("name", ["www-data", "hook"])
def test_system_accounts_are_refused(strict: Portal, hook_user: str, name: str) -> None:
    """The rules of [pun] refuse them before a line is read."""
    uid = Path(strict.folder / "state").stat().st_uid if name == "hook" else int(
        subprocess.run(["id", "-u", name], capture_output=True, text=True, check=True).stdout
    )  # fmt: skip
    answer = ask(strict, uid)
    assert answer["ok"] is False and "min_uid" in answer["message"]


def test_a_user_who_writes_without_end_is_stopped(strict: Portal, alice: User, bob: User) -> None:
    """A limit of that user stops them. It affects nobody else, and the audit log stays short."""
    client = strict.client(alice)
    before = len(strict.log())
    mallory = User(unique("pwmallory"))
    try:
        with neighbour(WRITE, str(strict.run_dir / "register.sock"), user=mallory):
            all_is_well(strict, client, bob)
            wait_for("the limit", lambda: "in a minute" in ask(strict, mallory.uid, b"{}\n").get("message", ""))
            all_is_well(strict, client, bob)
        assert len(strict.log()) - before < 200_000
    finally:
        mallory.remove()


def test_a_user_who_connects_without_end_stops_nobody(strict: Portal, alice: User, bob: User) -> None:
    """Other users are served at the same time."""
    client = strict.client(alice)
    mallory = User(unique("pwmallory"))
    try:
        path = str(strict.run_dir / "register.sock")
        with neighbour(CONNECT, path, user=mallory), neighbour(CONNECT, path, user=mallory):
            all_is_well(strict, client, bob)
    finally:
        mallory.remove()


def write_token(user: User, secret: str, **more: Any) -> None:
    """Write an entry into the token file, as the user or one of the user's job scripts could."""
    user.run("mkdir", "-p", "-m", "700", str(user.token_file.parent))
    entry = {"id": "job", "name": "by hand", "sha256": sha256_of(secret), "expires_at": None, **more}
    entries = json.loads(user.token_file.read_text()) if user.token_file.exists() else []
    user.run("sh", "-c", f"umask 077; cat > {user.token_file}", input=json.dumps([*entries, entry]))


def test_a_token_that_the_file_brings_is_audited_and_bound_by_the_site(strict: Portal, alice: User) -> None:
    """It works after the next start of the PUN, with the site's scopes, and for the site's lifetime from then on."""
    client, secret = strict.client(alice), os.urandom(32).hex()
    write_token(alice, secret, scopes=["clusters:read", "jobs:read", "jobs:write", "files:write"])
    strict.punway("admin", "stop", alice.name)
    wait_for("the PUN to leave", lambda: strict.pid_of(alice) == 0)
    assert client("GET", "/api/v1/whoami").status_code == 200
    by_hand = Client(strict.url, secret)
    wait_for("the token to be registered", lambda: by_hand("GET", "/api/v1/whoami").status_code == 200)
    assert by_hand.data("GET", "/api/v1/whoami")["scopes"] == ["clusters:read", "jobs:read"]
    body = {"cluster": "box", "script": {"content": "#!/bin/sh\n"}}
    assert by_hand.error("POST", "/api/v1/jobs", body)[:2] == (403, "insufficient_scope")
    found = [line for line in strict.audit() if line["action"] == "token.found" and line["user"] == alice.name]
    assert [line["sha256"] for line in found] == [sha256_of(secret)[:12]]
    _make_older(strict, secret, timedelta(hours=2))
    assert by_hand.error("GET", "/api/v1/whoami")[0] == 401
    assert "older than the site allows" in by_hand("GET", "/api/v1/whoami").json()["message"]
    # Neither registering it again nor another expiry in the file makes it younger.
    alice.token_file.unlink()
    strict.punway("token", "sync", user=alice)
    write_token(alice, secret, scopes=["jobs:read"], expires_at="2099-01-01T00:00:00Z")
    strict.punway("token", "sync", user=alice, check=False)
    assert by_hand.error("GET", "/api/v1/whoami")[0] == 401


def _make_older(portal: Portal, secret: str, by: timedelta) -> None:
    """Make a token older, and restart the hook, so that it has no cached route."""
    first_seen = (datetime.now(timezone.utc) - by).isoformat(timespec="seconds")
    table = sqlite3.connect(portal.folder / "state" / "routes.sqlite", timeout=60)
    with table:
        table.execute("UPDATE routes SET created_at = ? WHERE sha256 = ?", (first_seen, sha256_of(secret)))
    table.close()
    hook = portal.part("hook")
    os.kill(hook, 9)
    wait_for("the next hook", lambda: Path(f"/proc/{hook}").exists() is False and portal.is_well())


def test_no_token_is_made_beyond_what_the_site_allows(strict: Portal, alice: User) -> None:
    """The command names the refused scopes, and ``all`` stands for the allowed ones."""
    done = strict.punway("token", "create", "x", "--scopes", "jobs:write", user=alice, check=False)
    assert done.returncode == 1 and "does not allow jobs:write" in done.stderr
    client = strict.client(alice, "--scopes", "all")
    assert client.data("GET", "/api/v1/whoami")["scopes"] == ["clusters:read", "jobs:read"]


def test_a_damaged_route_table_heals_itself(portal: Portal, alice: User, as_alice: Client) -> None:
    """The hook starts with an empty table, which the users' processes fill without anybody's help."""
    assert as_alice("GET", "/api/v1/clusters").status_code == 200
    state = portal.folder / "state"
    hook = portal.part("hook")
    os.kill(hook, signal.SIGSTOP)
    (state / "routes.sqlite").write_bytes(b"damaged\n" * 1000)
    os.truncate(state / "routes.sqlite-wal", 0)
    os.kill(hook, signal.SIGKILL)

    def is_valid() -> bool:
        """Ask once a second: a request while the table is empty counts as an invalid credential of this address."""
        time.sleep(1)
        return as_alice("GET", "/api/v1/clusters").status_code == 200

    wait_for("the token to be valid again", is_valid)
    aside = [path for path in state.glob("routes.sqlite.damaged-*") if path.read_bytes().startswith(b"damaged")]
    assert len(aside) == 1
    assert [line["reason"] for line in portal.audit() if line["action"] == "routes.replaced"][-1].endswith(
        str(aside[0])
    )
    assert f"renamed it to {aside[0]}" in portal.log()
    # A token that is created afterwards works too, and a revoked one does not come back.
    other = portal.client(alice)
    assert other("GET", "/api/v1/clusters").status_code == 200
    portal.punway("token", "revoke", other.data("GET", "/api/v1/whoami")["token_id"], user=alice)
    assert other("GET", "/api/v1/clusters").status_code == 401
