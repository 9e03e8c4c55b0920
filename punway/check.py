"""``punway check``: what is wrong, before anything is started. Reads, and changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tomli

from proxy_hook.config import ENVIRONMENT, Config, ConfigError, interpreter, load
from punway import nginx_config
from punway.errors import CannotServe
from punway.folders import trouble_with
from punway.nginx_program import find_nginx

Finding = tuple[bool, str]
ENOUGH_CONNECTIONS = 16_384
"""Of one nginx worker: with fewer, one address could use up even two."""


def check(path: Path) -> int:
    """Print each finding; 1 when something is wrong, else 0."""
    try:
        config = load(path)
    except ConfigError as error:
        print(f"WRONG  {error}")
        return 1
    print(f"ok     {path} is well-formed")
    wrong = 0
    clusters: list[list[str]] = []
    finds = (_interpreter, _users, _folders, _tls, _sign_in, _provider, _nginx, _room_in_nginx)
    for find in (*finds, lambda c: _clusters(c, clusters)):
        for ok, text in find(config):
            print(f"{'ok   ' if ok else 'WRONG'}  {text}")
            wrong += not ok
    _print_table(clusters)
    print("Nothing is wrong." if not wrong else f"{wrong} thing(s) to put right.")
    return 1 if wrong else 0


def _interpreter(config: Config) -> Iterator[Finding]:
    """A process that has become another user still imports from here."""
    python = Path(interpreter())
    if config.single_user:
        yield True, f"single-user mode: everything runs as {pwd.getpwuid(os.geteuid()).pw_name}"
        return
    places = {python, Path(os.path.realpath(python)), Path(__file__), Path(sys.prefix), Path(sys.base_prefix)}
    closed = sorted({str(barrier) for place in places if (barrier := barrier_to_others(place))})
    if closed:
        yield (
            False,
            (
                f"ordinary users cannot read {', '.join(closed)}, so no PUN can run {python}; install Punway into a "
                "virtual environment of the system's python3, such as /opt/punway"
            ),
        )
    else:
        yield True, f"ordinary users can read {python}"
    writable = sorted({str(p) for place in places for p in (place, *place.parents) if _open_to_others(p)})
    if writable:
        yield False, f"others than root can write {', '.join(writable)}, and root runs code from there"


def barrier_to_others(place: Path) -> Path | None:
    """The first part of a path that others may not enter (or, at its end, read)."""
    for part in (*reversed(place.parents), place):
        mode = part.stat().st_mode
        needed = 0o001 if part.is_dir() else 0o004
        if not mode & needed:
            return part
    return None


def _open_to_others(part: Path) -> bool:
    status = part.stat()
    sticky = part.is_dir() and status.st_mode & 0o1000
    return bool(status.st_uid != 0 or (status.st_mode & 0o022 and not sticky))


def _users(config: Config) -> Iterator[Finding]:
    if config.single_user:
        return
    users = {"portal.hook_user": config.portal.hook_user, "portal.nginx_user": config.portal.nginx_user}
    if config.mcp.enabled:
        users["mcp.user"] = config.mcp.user
    for key, name in users.items():
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            advice = (
                "install nginx, or name its workers' user"
                if key == "portal.nginx_user"
                else f"make one: useradd --system --no-create-home --shell /usr/sbin/nologin {name}"
            )
            yield False, f"{key}: there is no user {name}; {advice}"
            continue
        if entry.pw_uid == 0:
            yield False, f"{key} must not be root"
        else:
            yield True, f"{key}: {name}"
    if config.portal.hook_user == config.portal.nginx_user:
        yield False, "portal.hook_user and portal.nginx_user must be two users"


def _folders(config: Config) -> Iterator[Finding]:
    hook_uid = os.geteuid()
    if not config.single_user:
        try:
            hook_uid = pwd.getpwnam(config.portal.hook_user).pw_uid
        except KeyError:
            return  # Said already.
    for key, folder, owner in (
        ("run_dir", config.run_dir, os.geteuid()),
        ("state_dir", Path(config.portal.state_dir), hook_uid),
    ):
        if not folder.exists():
            yield True, f"portal.{key}: {folder} is made at start"
            continue
        trouble = trouble_with(folder, owner)
        yield (False, f"portal.{key}: {trouble}") if trouble else (True, f"portal.{key}: {folder}")


def _tls(config: Config) -> Iterator[Finding]:
    for key in ("tls_certificate", "tls_key"):
        file = getattr(config.portal, key)
        if file and not os.access(file, os.R_OK):
            yield False, f"portal.{key}: {file} cannot be read"
        elif file and key == "tls_key" and Path(file).stat().st_mode & 0o044:
            yield False, f"portal.tls_key: {file} can be read by others; run: chmod 600 {file}"


def _sign_in(config: Config) -> Iterator[Finding]:
    login = config.login
    ways = [name for name, on in (("link", login.link), ("oidc", login.oidc), ("header", login.header)) if on]
    without_tls = "" if config.secure or not ways else "; without TLS (portal.public_url) for trying it alone"
    yield True, f"login: by {', '.join(ways)}{without_tls}" if ways else "login: no way is on, so there are no pages"
    for key in ("client_secret_file", "header_secret_file"):
        name = getattr(login, key)
        if not name:
            continue
        try:
            status = Path(name).stat()
        except OSError as error:
            yield False, f"login.{key}: {name}: {error.strerror}"
            continue
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            yield False, f"login.{key}: run: chown {os.geteuid()} {name}; chmod 600 {name}"
        elif not status.st_size:
            yield False, f"login.{key}: {name} is empty"


def _provider(config: Config) -> Iterator[Finding]:
    """Asks the identity provider what the hook will ask it."""
    if not config.idp.issuer:
        return
    if config.idp.user_map.startswith("/"):
        try:
            tomli.loads(Path(config.idp.user_map).read_text(encoding="utf-8"))
            if not config.single_user and not Path(config.idp.user_map).stat().st_mode & 0o004:
                yield False, f"idp.user_map: the hook cannot read {config.idp.user_map}; run: chmod a+r on it"
        except (OSError, ValueError) as error:
            yield False, f"idp.user_map: {config.idp.user_map}: {error}"
    if not (config.login.oidc or config.takes_jwts):
        yield False, "idp.issuer: is of no use without login.oidc or idp.audience"
        return
    from proxy_hook.idp.provider import IdentityProvider

    try:
        asyncio.run(IdentityProvider(config.idp).check())
    except OSError as error:
        yield False, f"idp.issuer: {error}"
    else:
        yield True, f"idp.issuer: {config.idp.issuer} answers, and its keys are of use"


def _nginx(config: Config) -> Iterator[Finding]:
    try:
        nginx = find_nginx()
    except CannotServe as error:
        yield False, str(error)
        return
    built = subprocess.run([nginx, "-V"], env=ENVIRONMENT, capture_output=True, text=True, check=False).stderr
    if "http_auth_request_module" not in built:
        yield False, f"{nginx} is built without auth_request; use the distribution's nginx"
        return
    if config.portal.proxies and "http_realip_module" not in built:
        yield False, f"portal.proxies: {nginx} is built without realip; use the distribution's nginx"
        return
    with tempfile.TemporaryDirectory(prefix="punway-check-") as folder:
        whole = f"events {{}} pid {folder}/pid; error_log stderr; http {{ include {folder}/portal.conf; }}"
        text = nginx_config.portal_config(config, "/dev/null", "/dev/null")
        # The folder of the inner socket is made at start.
        Path(folder, "portal.conf").write_text(text.replace(str(config.inner_socket), f"{folder}/inner.sock"))
        Path(folder, "nginx.conf").write_text(whole)
        argv = [nginx, "-t", "-q", "-e", "stderr", "-p", folder, "-c", f"{folder}/nginx.conf"]
        tried = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    yield (
        (True, f"{nginx} takes the portal's configuration") if tried.returncode == 0 else (False, tried.stderr.strip())
    )


def _room_in_nginx(_config: Config) -> Iterator[Finding]:
    """Look at the distribution's nginx, where that one serves the portal."""
    try:
        dumped = subprocess.run([find_nginx(), "-T", "-q"], capture_output=True, text=True, check=False)
    except CannotServe:
        return  # Said already.
    # What another site's files have wrong is not the portal's, nor what only root can read.
    if dumped.returncode == 0 and (finding := room_in(dumped.stdout)):
        yield finding


def room_in(nginx_files: str) -> Finding | None:
    """Return whether an nginx that serves the portal has room for it; None where it does not serve the portal."""
    text = re.sub(r"#.*", "", nginx_files)
    if "upstream punway_relay" not in text:
        return None
    found = dict(re.findall(r"\b(worker_connections|worker_rlimit_nofile)\s+(\d+)\s*;", text))
    connections, files = int(found.get("worker_connections", 512)), int(found.get("worker_rlimit_nofile", 0))
    has = f"nginx.conf: worker_connections {connections}, worker_rlimit_nofile {files or 'not set'}"
    if connections >= ENOUGH_CONNECTIONS and files > connections:
        return True, has
    wanted = f"{nginx_config.WORKER_CONNECTIONS} and {nginx_config.WORKER_FILES}"
    return False, f"{has}: one client can use that up; set them to {wanted}, or run punway nginx"


def _clusters(config: Config, rows: list[list[str]]) -> Iterator[Finding]:
    """The findings; each cluster's row of the table is put into ``rows``."""
    argv = [interpreter(), "-I", "-m", "pun_app.check", config.clusters.path]
    done = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        yield False, f"the cluster files could not be checked: {done.stderr.strip()}"
    for line in done.stdout.splitlines():
        finding = json.loads(line)
        if finding["cluster"]:
            rows.append([cell or "-" for cell in finding["cluster"]])
        yield finding["ok"], finding["text"]


def _print_table(rows: list[list[str]]) -> None:
    """The clusters: what their commands say of themselves, and what can be done there."""
    if not rows:
        return
    listed = [["CLUSTER", "ADAPTER", "VERSION", "CAN DO", "OPTIONS OF A SUBMIT"], *rows]
    widths = [max(len(row[column]) for row in listed) for column in range(4)]
    print()
    for row in listed:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), row[4]]))
    print()
