"""``punway demo``: a complete portal in single-user mode on loopback, for the user who runs it.

Everything is in one directory, including the home that the demo's jobs see. The demo prints its path and leaves it
behind, because it holds what the jobs wrote. If root starts the demo, it runs as a temporary user, who is removed at
the end; the directory then belongs to root. Each printed command works when it is pasted into another shell of the user
who started the demo.
"""

from __future__ import annotations

import errno
import json
import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any

from proxy_hook.config import ENVIRONMENT, interpreter
from punway.check import barrier_to_others
from punway.errors import CannotServe
from punway.nginx_program import find_nginx
from tokens import scopes
from tokens.errors import StoreError
from tokens.registrar_client import RegistrarClient, RegistrarError
from tokens.store import TokenStore
from tokens.token import Token, issue, utc_now

START_TIMEOUT_S, END_TIMEOUT_S = 120.0, 30.0
"""The first is long because a busy machine takes time to start four interpreters."""
_CONFIG = """[portal]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
run_dir = "{folder}/run"
state_dir = "{folder}/state"

[clusters]
path = "{folder}/clusters.d"

[pun.environment]
HOME = "{folder}/home"
"""
_CLUSTER = """v2:
  metadata: {title: "This machine"}
  job: {adapter: local}
"""
_SCREEN = """
Punway is running at {url}, for {user} alone. Your token, which expires in a day:

    {secret}

Paste these into another terminal to list the clusters, submit a job, wait for its end, and read its output:

    curl -H 'Authorization: Bearer {secret}' {url}/api/v1/clusters
    curl -H 'Authorization: Bearer {secret}' -H 'Content-Type: application/json' -d '{body}' {url}/api/v1/jobs
    curl -H 'Authorization: Bearer {secret}' '{url}/api/v1/jobs/1?cluster=demo&wait=60'
    curl -H 'Authorization: Bearer {secret}' '{url}/api/v1/jobs/1/output?cluster=demo'

To connect an AI agent, to try the API in a browser, and to print a link that signs your browser in:

    claude mcp add --transport http hpc {url}/mcp --header 'Authorization: Bearer {secret}'
    {url}/api/v1/docs
    {as_user}{punway} login -c {folder}/punway.toml

To end the demo, press Ctrl-C or run: {sudo}kill {pid}
"""
_BODY = r'{"cluster": "demo", "script": {"content": "#!/bin/bash\necho Hello from $(id -un)\nsleep 5"}}'


_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that end the demo: Ctrl-C, kill, and the end of its terminal."""


def demo(port: int, started_by: str = "") -> int:
    """Run the demo until it is interrupted, and return its exit status. Raises CannotServe.

    ``started_by`` is "root" or "sudo" in the process of the temporary user, which root's own process starts.
    """
    find_nginx()
    _check_port(port)
    for number in _ENDS:
        # Under nohup SIGHUP stays ignored, so that the demo outlives its terminal. SIGINT, which shells ignore in
        # background commands of scripts, is handled in any case, so that kill -INT ends the demo.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    if os.geteuid() == 0:
        return _as_temporary_user(port)
    return _run(port, started_by)


def _run(port: int, started_by: str) -> int:
    """Run the demo as this user, and return its exit status. Raises CannotServe."""
    # The path is short and below /tmp: a socket's path has at most 107 bytes, and a home may be long or on a slow disk.
    folder = Path(f"/tmp/punway-demo-{pwd.getpwuid(os.geteuid()).pw_name}-{secrets.token_hex(3)}")
    folder.mkdir(mode=0o700)
    (folder / "home").mkdir()
    (folder / "clusters.d").mkdir()
    (folder / "clusters.d" / "demo.yml").write_text(_CLUSTER)
    config = folder / "punway.toml"
    config.write_text(_CONFIG.format(port=port, folder=folder))
    token, secret = issue("punway demo", scopes.OFFERED, utc_now() + timedelta(days=1))
    url = f"http://127.0.0.1:{port}"
    log = (folder / "log").open("wb")
    argv = [interpreter(), "-I", "-m", "punway.cli", "serve", "-c", str(config)]
    # The user may have an nginx of their own in PATH.
    environment = {**ENVIRONMENT, "PATH": f"{ENVIRONMENT['PATH']}:{os.environ.get('PATH', '')}"}
    portal = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
    )
    served = False
    sudo = "sudo " if started_by == "sudo" else ""
    try:
        print("Starting …", flush=True)
        _wait_for_portal(url, portal, folder)
        served = True
        _add(folder, token)
        user = pwd.getpwuid(os.geteuid()).pw_name
        screen = _SCREEN.format(
            url=url,
            user=user,
            secret=secret,
            body=_BODY,
            as_user=f"{sudo}runuser -u {user} -- " if started_by else "",
            punway=_punway(),
            folder=folder,
            sudo=sudo,
            pid=os.getppid() if started_by else os.getpid(),
        )
        print(screen, flush=True)
        portal.wait()
        raise CannotServe(f"the portal has stopped unexpectedly; see {folder}/log")
    except KeyboardInterrupt:
        print("\nEnding …", flush=True)
        return 0
    finally:
        _ignore_signals()
        try:
            if served:
                _end_jobs(url, folder)
        finally:
            portal.terminate()
            portal.wait()
        print(f"The demo's directory stays. To remove it, run: {sudo}rm -rf {folder}", flush=True)


def _add(folder: Path, token: Token) -> None:
    """Add a token to the demo's token file and to the portal. Raises StoreError and RegistrarError."""
    TokenStore(folder / "home").add(token)
    RegistrarClient(folder / "run" / "register.sock").add([token.sha256])


def _end_jobs(url: str, folder: Path) -> None:
    """Cancel unfinished jobs, which by design outlive the portal, and wait until they have ended."""
    # The user may have revoked the printed token.
    token, secret = issue("end of the demo", ("jobs:write",), utc_now() + timedelta(minutes=5))

    def ask(path: str, method: str = "GET") -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {secret}", "Cache-Control": "no-cache"}
        request = urllib.request.Request(f"{url}/api/v1/jobs{path}?cluster=demo", method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=END_TIMEOUT_S) as answer:
            body: dict[str, Any] = json.load(answer)
            return body

    deadline = time.monotonic() + END_TIMEOUT_S
    try:
        _add(folder, token)
        while time.monotonic() < deadline:
            unfinished = [job for job in ask("")["data"] if job["status"] != "completed"]
            if not unfinished:
                return
            for job in unfinished:
                ask(f"/{job['job_id']}", "DELETE")
            time.sleep(0.2)
    except (OSError, StoreError, RegistrarError) as error:
        # The portal itself has ended.
        print(f"The demo cannot tell whether jobs are still running: {error}")


def _punway() -> str:
    """Return the punway command for pasting: the installed script if there is one, otherwise the interpreter's -m."""
    script = Path(interpreter()).with_name("punway")
    return str(script) if script.exists() else f"{interpreter()} -m punway.cli"


def _interrupt(*_: object) -> None:
    """Handle the first signal that ends the demo."""
    _ignore_signals()
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    """Ignore further signals, so that an impatient second Ctrl-C does not leave processes behind."""
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)


def _check_port(port: int) -> None:
    """Raise CannotServe if nginx could not listen on the port. The message suggests a free one."""
    with socket.socket() as probe, socket.socket() as other:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                reason = f"port {port} is in use"
            elif error.errno in (errno.EACCES, errno.EPERM):
                reason = f"only root may listen on port {port}, and the demo runs as an ordinary user"
            else:
                reason = f"port {port} cannot be used ({error.strerror})"
            other.bind(("127.0.0.1", 0))
            free = other.getsockname()[1]
            raise CannotServe(f"{reason}; try: make demo PORT={free}, or punway demo --port {free}") from error


def _wait_for_portal(url: str, portal: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until the portal answers. Raises CannotServe if it ends or takes longer than START_TIMEOUT_S."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and portal.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=10):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise CannotServe(f"the portal did not start; see {folder}/log")


def _as_temporary_user(port: int) -> int:
    """Run root's demo as a temporary user, who is removed at the end. Return its exit status. Raises CannotServe."""
    python = Path(interpreter())
    _check_readable(python)
    name = f"punway-demo-{secrets.token_hex(2)}"
    try:
        subprocess.run(
            ["useradd", "--create-home", "--shell", "/bin/sh", name], env=ENVIRONMENT, check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotServe(f"cannot create a temporary user ({error}); run the demo as an ordinary user") from error
    print(f"You are root, so the demo runs as a temporary user, {name}.", flush=True)
    child: subprocess.Popen[bytes] | None = None
    try:
        home = pwd.getpwnam(name).pw_dir
        environment = {**ENVIRONMENT, "HOME": home, "USER": name, "LOGNAME": name}
        started_by = "sudo" if os.environ.get("SUDO_USER", "root") != "root" else "root"
        argv = [str(python), "-I", "-m", "punway.cli", "demo", "--port", str(port), "--started-by", started_by]
        child = subprocess.Popen(
            argv,
            user=name,
            group=pwd.getpwnam(name).pw_gid,
            extra_groups=[],
            env=environment,
            cwd=home,
            # So that Ctrl-C at the terminal reaches only this process, which ends the child.
            start_new_session=True,
        )
        return child.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _ignore_signals()
        if child:
            # Not SIGINT, which shells ignore in background commands of scripts.
            child.terminate()
            child.wait()
        _remove_user(name)


def _check_readable(python: Path) -> None:
    """Raise CannotServe if ordinary users cannot read Python or Punway. The message says what to do."""
    packages = Path(__file__).parents[1]
    places = [Path(os.path.realpath(python)), python, *packages.iterdir(), *Path(__file__).parent.iterdir()]
    closed = next((barrier for place in places if place.exists() and (barrier := barrier_to_others(place))), None)
    if closed is None:
        return
    if closed.is_relative_to(sys.prefix):
        # The virtual environment was made with a umask such as 077.
        remedy = f"run: chmod -R go+rX {sys.prefix}"
    else:
        remedy = "install Punway into a virtual environment of the system's python3, such as /opt/punway"
    raise CannotServe(f"ordinary users cannot read {closed}, and the demo runs as an ordinary user; {remedy}")


def _remove_user(name: str) -> None:
    """Remove the temporary user and their processes, and make root the owner of the demo's directory."""
    uid = pwd.getpwnam(name).pw_uid
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == uid:
                    os.kill(int(entry.name), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                continue
    for folder in Path("/tmp").glob(f"punway-demo-{name}-*"):
        if folder.lstat().st_uid == uid:
            for place, _, files in os.walk(folder):
                for path in (place, *(os.path.join(place, file) for file in files)):
                    os.chown(path, 0, 0, follow_symlinks=False)
    subprocess.run(["userdel", "--remove", name], env=ENVIRONMENT, check=False, capture_output=True)
    print(f"The temporary user {name} has been removed.")
