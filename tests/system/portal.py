"""A complete portal that ``punway serve`` runs, and real users who send it requests."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.system.slurm import free_port, wait_for

PUNWAY = [sys.executable, "-I", "-m", "punway.cli"]
_FIRST = 70_000 + secrets.randbelow(100) * 300
_RANGES = {"UID": (_FIRST, _FIRST + 299), "GID": (_FIRST, _FIRST + 299), "SYS_UID": (100, 999), "SYS_GID": (100, 999)}
"""Each test run has ids of its own, so that the id of a removed user cannot go to a user of a parallel run."""


@dataclass
class User:
    """A Unix user, created for the tests."""

    name: str
    shell: str = "/bin/bash"
    options: tuple[str, ...] = ()
    removed: bool = False

    def __post_init__(self) -> None:
        ranges = [f"--key={key}_{end}={ids[end == 'MAX']}" for key, ids in _RANGES.items() for end in ("MIN", "MAX")]
        subprocess.run(
            ["useradd", *ranges, "--create-home", "--shell", self.shell, *self.options, self.name],
            check=True,
            capture_output=True,
        )
        self.account = pwd.getpwnam(self.name)
        self.uid, self.gid, self.home = self.account.pw_uid, self.account.pw_gid, Path(self.account.pw_dir)
        self.token_file = self.home / ".config" / "ondemand" / "tokens.json"

    def run(self, *argv: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as this user, with the environment of a login. Raise AssertionError if it fails and ``check`` is set."""
        environment = {
            "HOME": str(self.home),
            "USER": self.name,
            "LOGNAME": self.name,
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
        }
        environment.update(more.pop("environment", {}))
        done = subprocess.run(
            argv, user=self.name, group=self.gid, extra_groups=os.getgrouplist(self.name, self.gid), env=environment,
            cwd=more.pop("cwd", "/"), capture_output=True, text=True, check=False, timeout=120, **more,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{argv}: {done.returncode}: {done.stdout} {done.stderr}")
        return done

    def remove(self) -> None:
        """Remove the user and kill their processes. Do nothing when called again: the uid may be another user's by then."""
        if self.removed:
            return
        self.removed = True
        for pid in processes_of(self.uid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        subprocess.run(["userdel", "--remove", "--force", self.name], check=False, capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)


def processes_of(uid: int) -> list[int]:
    """Return the pids of all processes of a uid."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if "\nState:\tZ" in (entry / "status").read_text():
                    continue  # It has ended, and its parent has not reaped it yet.
                if entry.stat().st_uid == uid or f"Uid:\t{uid}\t" in (entry / "status").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def command_of(pid: int) -> str:
    """Return the command line or the title of a process; the empty string if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@contextmanager
def small_disk(user: User) -> Iterator[Callable[[], None]]:
    """Mount a small file system over the folder of a user's token file. Yield a function that fills it up."""
    folder = user.token_file.parent
    user.run("mkdir", "-p", str(folder))
    options = f"size=16k,mode=700,uid={user.uid},gid={user.gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=True)

    def fill() -> None:
        user.run("sh", "-c", f"touch {folder}/.tokens.json.lock; head -c 100000 /dev/zero > {folder}/fill", check=False)

    try:
        yield fill
    finally:
        unmount(folder)


def unmount(folder: Path) -> None:
    """Unmount a folder. A process of its user may have a file open in it for another moment."""
    wait_for(f"the end of {folder}", lambda: subprocess.run(["umount", str(folder)], check=False).returncode == 0)


class Client:
    """A client of the API with one token. It makes a new connection for each request."""

    def __init__(self, url: str, token: str, verify: str | None = None) -> None:
        self.url = url
        self.token = token
        self.verify = verify

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        more.setdefault("verify", self.verify)
        return requests.request(method, self.url + path, json=body, headers=headers, timeout=150, **more)

    def data(self, method: str, path: str, body: Any = None, status: int = 200, **more: Any) -> Any:
        """Return ``data`` of the response, which must have this status."""
        answer = self(method, path, body, **more)
        assert answer.status_code == status, answer.text
        return answer.json()["data"]

    def error(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, str, str]:
        """Return status, error and message of an error response, which must have the contract's form."""
        answer = self(method, path, body, **more)
        return refusal(answer)

    def until_answered(self, cluster: str = "owens") -> None:
        """Wait until a scheduler that was down answers again."""
        path = f"/api/v1/jobs?cluster={cluster}"
        wait_for(f"an answer of {cluster}", lambda: self("GET", path).status_code == 200)

    def submit(self, content: str, cluster: str = "owens", **options: Any) -> Any:
        script = {"content": content}
        if "workdir" in options:
            script["workdir"] = options.pop("workdir")
        return self.data("POST", "/api/v1/jobs", {"cluster": cluster, "script": script, "options": options}, 201)

    def job(self, job_id: str, cluster: str = "owens") -> Any:
        return self.data("GET", f"/api/v1/jobs/{job_id}?cluster={cluster}", headers={"Cache-Control": "no-cache"})

    def wait(self, job_id: str, until: Callable[[Any], bool], cluster: str = "owens", seconds: float = 120) -> Any:
        """Wait until ``until(job)`` is true, and return the job."""
        wait_for(f"job {job_id}", lambda: until(self.job(job_id, cluster)), seconds)
        return self.job(job_id, cluster)


def refusal(answer: requests.Response) -> tuple[int, str, str]:
    """Return status, error and message of an error response. Check that it has the contract's form."""
    assert answer.headers["Content-Type"].split(";")[0] == "application/json", answer.text
    body = answer.json()
    assert set(body) == {"error", "message"}, body
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    return answer.status_code, body["error"], body["message"]


@dataclass
class Portal:
    """A portal of ``punway serve`` on a free port of loopback, with its own directory.

    ``rules`` are keys of [pun], ``more`` are keys of [portal], and ``tables`` has the keys of other tables. ``run_as`` is
    the user of single-user mode. Without ``mcp_user`` there is no MCP server.
    """

    folder: Path
    hook_user: str
    clusters: dict[str, str]
    rules: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    run_as: User | None = None
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    mcp_user: str = ""

    def __post_init__(self) -> None:
        self.folder.mkdir(mode=0o755, exist_ok=True)
        self.folder.chmod(0o755)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.verify: str | None = None
        self.run_dir = self.folder / "run"
        self.config = self.folder / "punway.toml"
        self.log_file, self.audit_file = self.folder / "log", self.folder / "audit"
        clusters = self.folder / "clusters.d"
        clusters.mkdir(exist_ok=True)
        for name, text in self.clusters.items():
            (clusters / f"{name}.yml").write_text(text)
        self.write_config()
        self.process: subprocess.Popen[bytes] | None = None
        self._shared_tokens: dict[str, tuple[str, str]] = {}
        if self.run_as:
            os.chown(self.folder, self.run_as.uid, self.run_as.gid)

    def write_config(self) -> None:
        portal = {
            "listen": f"127.0.0.1:{self.port}", "public_url": self.url, "run_dir": str(self.run_dir),
            "state_dir": str(self.folder / "state"), "hook_user": self.hook_user, **self.more,
        }  # fmt: skip
        lines = ["[portal]", *(f"{key} = {json.dumps(value)}" for key, value in portal.items())]
        lines += ["[clusters]", f'path = "{self.folder}/clusters.d"', "[pun]"]
        lines += [f"{key} = {_toml(value)}" for key, value in self.rules.items()]
        mcp = {"user": self.mcp_user, "notes": f"{self.folder}/agents.d"} if self.mcp_user else {"enabled": False}
        for table, keys in {"mcp": mcp, **self.tables}.items():
            lines += [f"[{table}]", *(f"{key} = {_toml(value)}" for key, value in keys.items())]
        self.config.write_text("\n".join(lines) + "\n")

    def use_tls(self) -> Portal:
        """Make a certificate for localhost, and listen with TLS on all addresses of the machine."""
        key, certificate = self.folder / "tls.key", self.folder / "tls.crt"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", str(key), "-out",
             str(certificate), "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
            check=True, capture_output=True,
        )  # fmt: skip
        self.url, self.verify = f"https://localhost:{self.port}", str(certificate)
        self.more |= {
            "listen": f"0.0.0.0:{self.port}", "public_url": self.url, "tls_certificate": str(certificate), "tls_key": str(key)
        }  # fmt: skip
        self.write_config()
        return self

    def start(self) -> Portal:
        argv = [*PUNWAY, "serve", "-c", str(self.config)]
        as_user: dict[str, Any] = (
            {"user": self.run_as.name, "group": self.run_as.gid, "extra_groups": []} if self.run_as else {}
        )
        with self.log_file.open("ab") as log, self.audit_file.open("ab") as audit:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=audit, stderr=log, cwd="/", start_new_session=True,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "ROOTS_SECRET": "of-root"}, **as_user,
            )  # fmt: skip
        try:
            wait_for("the portal", self.is_well)
        except TimeoutError as error:
            raise AssertionError(self.log()) from error
        return self

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(120)
            self.process = None

    def is_well(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=10, verify=self.verify).status_code == 200
        except (requests.ConnectionError, requests.Timeout):
            return False

    def log(self) -> str:
        """Return the portal's log, followed by its audit log."""
        return "".join(file.read_text(errors="replace") for file in (self.log_file, self.audit_file))

    def punway(self, *argv: str, user: User | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a ``punway`` command with this portal's configuration, as root or as a user."""
        command = [*PUNWAY, *argv, "-c", str(self.config)]
        if user:
            return user.run(*command, check=check)
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=120)
        if check and done.returncode:
            raise AssertionError(f"{argv}: {done.stdout} {done.stderr}")
        return done

    def token(self, user: User, *options: str) -> str:
        """Create a token of a user with ``punway token create``, and return it."""
        return self.punway("token", "create", "test", *options, user=user).stdout.splitlines()[-1]

    def link(self, user: User) -> str:
        """Return a one-time link that signs this user's browser in."""
        return self.punway("login", user=user).stdout.splitlines()[-1]

    def audit(self) -> list[dict[str, Any]]:
        """Return the entries of the audit log."""
        return [json.loads(line) for line in self.audit_file.read_text(errors="replace").splitlines()]

    def client(self, user: User, *options: str) -> Client:
        return Client(self.url, self.token(user, *options), self.verify)

    def shared_client(self, user: User) -> Client:
        """Return a client with a token that tests share while it is valid, since the tokens made in a minute are limited."""
        secret, content = self._shared_tokens.get(user.name, ("", ""))
        if secret:
            folder = shlex.quote(str(user.token_file.parent))
            user.run("sh", "-c", f"umask 077; mkdir -p {folder}; cat > {folder}/{user.token_file.name}", input=content)
            client = Client(self.url, secret, self.verify)
            if client("GET", "/api/v1/whoami").status_code == 200:
                return client
            user.token_file.unlink()
        secret = self.token(user)
        self._shared_tokens[user.name] = secret, user.token_file.read_text()
        return Client(self.url, secret, self.verify)

    def part(self, name: str) -> int:
        """Return the pid of a child of the supervisor: spawner, hook, relay, mcp or nginx."""
        assert self.process
        words = {
            "spawner": "spawner.main", "hook": "hook", "relay": "relay", "mcp": "mcp_server", "nginx": "nginx: master",
        }[name]  # fmt: skip
        for pid in children_of(self.process.pid):
            line = command_of(pid)
            if f"{words} " in f"{line} " or line.startswith(words):
                return pid
        raise AssertionError(f"no {name}")

    def pid_of(self, user: User) -> int:
        """Return the pid of a user's PUN, or 0 if there is none."""
        for line in self.punway("admin", "ps").stdout.splitlines()[1:]:
            name, _uid, pid, *_ = line.split()
            if name == user.name:
                return int(pid)
        return 0


def children_of(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def raw(port: int, request: bytes) -> bytes:
    """Send bytes that no HTTP library would send. Return all bytes of the response."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
        return answer


def unique(prefix: str) -> str:
    """Return a name with this prefix that no other test uses."""
    return f"{prefix}{secrets.token_hex(2)}"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {json.dumps(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)
