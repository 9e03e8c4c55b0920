"""``punway demo``: the whole portal in single-user mode on loopback, for whoever runs it.

Everything is in one directory, the home that the demo's jobs see included; it is named, and stays when the
demo ends, for what the jobs wrote. Root runs it as a throw-away user, who is removed at the end; the directory is
root's then. Each line of the screen works as it is pasted into another shell of whoever started the demo.
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

START_TIME, END_TIME = 120.0, 30.0
"""Seconds. A busy machine takes long to start four interpreters; a portal that has ended is not waited for."""
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
Punway is running at {url}, for {user} alone. Your token, for a day:

    {secret}

Paste these into another terminal: list the clusters, submit a job, wait for its end, read what it wrote.

    curl -H 'Authorization: Bearer {secret}' {url}/api/v1/clusters
    curl -H 'Authorization: Bearer {secret}' -H 'Content-Type: application/json' -d '{body}' {url}/api/v1/jobs
    curl -H 'Authorization: Bearer {secret}' '{url}/api/v1/jobs/1?cluster=demo&wait=60'
    curl -H 'Authorization: Bearer {secret}' '{url}/api/v1/jobs/1/output?cluster=demo'

For an AI agent; in a browser, the API to look at and to try; and a command that prints a link to make tokens there:

    claude mcp add --transport http hpc {url}/mcp --header 'Authorization: Bearer {secret}'
    {url}/api/v1/docs
    {as_user}{punway} login -c {folder}/punway.toml

Ctrl-C ends it, and so does: {sudo}kill {pid}
"""
_BODY = r'{"cluster": "demo", "script": {"content": "#!/bin/bash\necho Hello from $(id -un)\nsleep 5"}}'


_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends the demo: Ctrl-C, a kill, and a terminal that is closed."""


def demo(port: int, started_by: str = "") -> int:
    """Run the demo until it is interrupted.

    ``started_by`` is root or sudo in the process of a throw-away user, which root's own process starts.
    """
    find_nginx()
    _check_port(port)
    for number in _ENDS:
        # nohup wants it to outlive its terminal. A script's "&" has SIGINT ignored, but then nobody would end the demo.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    if os.geteuid() == 0:
        return _as_throw_away_user(port)
    return _run(port, started_by)


def _run(port: int, started_by: str) -> int:
    # Short, as a socket's path has at most 107 bytes; below /tmp, as a home may be long or on a slow disk.
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
    # nginx may be the user's own.
    environment = {**ENVIRONMENT, "PATH": f"{ENVIRONMENT['PATH']}:{os.environ.get('PATH', '')}"}
    portal = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
    )
    served = False
    sudo = "sudo " if started_by == "sudo" else ""
    try:
        print("Starting …", flush=True)
        _await(url, portal, folder)
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
        raise CannotServe(f"the portal has ended; see {folder}/log")
    except KeyboardInterrupt:
        print("\nEnding …", flush=True)
        return 0
    finally:
        _end_in_peace()
        try:
            if served:
                _end_jobs(url, folder)
        finally:
            portal.terminate()
            portal.wait()
        print(f"The demo's directory stays. When you do not need it any more: {sudo}rm -rf {folder}", flush=True)


def _add(folder: Path, token: Token) -> None:
    """Make a token good. Raises StoreError and RegistrarError."""
    TokenStore(folder / "home").add(token)
    RegistrarClient(folder / "run" / "register.sock").add([token.sha256])


def _end_jobs(url: str, folder: Path) -> None:
    """Cancel what still runs, as jobs outlive the portal by design, and wait until it has ended."""
    # The user may have revoked the token of the screen.
    token, secret = issue("end of the demo", ("jobs:write",), utc_now() + timedelta(minutes=5))

    def ask(path: str, method: str = "GET") -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {secret}", "Cache-Control": "no-cache"}
        request = urllib.request.Request(f"{url}/api/v1/jobs{path}?cluster=demo", method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=END_TIME) as answer:
            said: dict[str, Any] = json.load(answer)
            return said

    deadline = time.monotonic() + END_TIME
    try:
        _add(folder, token)
        while time.monotonic() < deadline:
            alive = [job for job in ask("")["data"] if job["status"] != "completed"]
            if not alive:
                return
            for job in alive:
                ask(f"/{job['job_id']}", "DELETE")
            time.sleep(0.2)
    except (OSError, StoreError, RegistrarError) as error:
        # The portal itself has gone: there is nobody to ask.
        print(f"Whether jobs still run could not be seen: {error}")


def _punway() -> str:
    """The command as it can be pasted: the script beside the interpreter, if it was installed so."""
    script = Path(interpreter()).with_name("punway")
    return str(script) if script.exists() else f"{interpreter()} -m punway.cli"


def _interrupt(*_: object) -> None:
    _end_in_peace()
    raise KeyboardInterrupt


def _end_in_peace() -> None:
    """Whoever is impatient would leave behind what is being ended."""
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)


def _check_port(port: int) -> None:
    """Raise CannotServe for a port that nginx could not listen on, with one that is free."""
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


def _await(url: str, portal: subprocess.Popen[bytes], folder: Path) -> None:
    """Until the portal answers. Raises CannotServe."""
    deadline = time.monotonic() + START_TIME
    while time.monotonic() < deadline and portal.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=10):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise CannotServe(f"the portal does not start; see {folder}/log")


def _as_throw_away_user(port: int) -> int:
    """Root's demo: the same, as a user who is made for it and removed after it."""
    python = Path(interpreter())
    _check_readable(python)
    name = f"punway-demo-{secrets.token_hex(2)}"
    try:
        subprocess.run(
            ["useradd", "--create-home", "--shell", "/bin/sh", name], env=ENVIRONMENT, check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotServe(f"no throw-away user can be made ({error}); run the demo as an ordinary user") from error
    print(f"You are root, so the demo runs as a throw-away user, {name}.", flush=True)
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
            # An interrupt at the terminal is passed on once, by us.
            start_new_session=True,
        )
        return child.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end_in_peace()
        if child:
            # Not SIGINT: it is ignored in what a script has started with "&".
            child.terminate()
            child.wait()
        _remove_user(name)


def _check_readable(python: Path) -> None:
    """Raise CannotServe where an ordinary user could not run Punway, with what to do about it."""
    packages = Path(__file__).parents[1]
    places = [Path(os.path.realpath(python)), python, *packages.iterdir(), *Path(__file__).parent.iterdir()]
    closed = next((barrier for place in places if place.exists() and (barrier := barrier_to_others(place))), None)
    if closed is None:
        return
    if closed.is_relative_to(sys.prefix):
        # Made with a umask of 077.
        remedy = f"run: chmod -R go+rX {sys.prefix}"
    else:
        remedy = "install Punway into a virtual environment of the system's python3, such as /opt/punway"
    raise CannotServe(f"ordinary users cannot read {closed}, and the demo runs as one; {remedy}")


def _remove_user(name: str) -> None:
    """The user goes, with whatever still runs as it; the demo's directory becomes root's."""
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
    print(f"The throw-away user {name} is removed.")
