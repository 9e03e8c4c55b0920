"""``punway check``: a check of the configuration, and of the files, users and programs in it. It changes nothing."""

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
from punway.folders import problem_with
from punway.nginx_program import find_nginx

Finding = tuple[bool, str]
"""Whether something is right, and a line about it."""
MIN_WORKER_CONNECTIONS = 16_384
"""Connections of one nginx worker. With fewer, a single client address could use up all of two workers."""


def check(path: Path) -> int:
    """Print each finding about the configuration at ``path``. Return 1 when something is wrong, 0 otherwise."""
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
    print("No problems found." if not wrong else f"{wrong} problem(s) found.")
    return 1 if wrong else 0


def _interpreter(config: Config) -> Iterator[Finding]:
    """Check that ordinary users can read Punway's files, since PUNs import them, and that only root can write them."""
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
        paths = " ".join(writable)
        yield (
            False,
            f"users other than root can change code that root runs; run: chown root {paths}; chmod go-w {paths}",
        )


def barrier_to_others(place: Path) -> Path | None:
    """Return the first part of a path that other users may not enter or, at its end, read; None if there is none."""
    for part in (*reversed(place.parents), place):
        mode = part.stat().st_mode
        needed = 0o001 if part.is_dir() else 0o004
        if not mode & needed:
            return part
    return None


def _open_to_others(part: Path) -> bool:
    """Return whether a user other than root can write a file, or add files to a folder without the sticky bit."""
    status = part.stat()
    sticky = part.is_dir() and status.st_mode & 0o1000
    return bool(status.st_uid != 0 or (status.st_mode & 0o022 and not sticky))


def _users(config: Config) -> Iterator[Finding]:
    """Check that the users of the portal's parts exist and are unprivileged."""
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
                "install nginx, or set the key to the user of nginx's workers"
                if key == "portal.nginx_user"
                else f"run: useradd --system --no-create-home --shell /usr/sbin/nologin {name}"
            )
            yield False, f"{key}: the user {name} does not exist; {advice}"
            continue
        if entry.pw_uid == 0:
            yield False, f"{key} must not be root; set it to an unprivileged user"
        else:
            yield True, f"{key}: {name}"
    if config.portal.hook_user == config.portal.nginx_user:
        yield False, "portal.hook_user and portal.nginx_user must be two different users"


def _folders(config: Config) -> Iterator[Finding]:
    """Check owner and mode of the run and state directories."""
    hook_uid = os.geteuid()
    if not config.single_user:
        try:
            hook_uid = pwd.getpwnam(config.portal.hook_user).pw_uid
        except KeyError:
            return  # _users has reported it.
    for key, folder, owner in (
        ("run_dir", config.run_dir, os.geteuid()),
        ("state_dir", Path(config.portal.state_dir), hook_uid),
    ):
        if not folder.exists():
            yield True, f"portal.{key}: {folder} will be made at the start"
            continue
        problem = problem_with(folder, owner)
        yield (False, f"portal.{key}: {problem}") if problem else (True, f"portal.{key}: {folder}")


def _tls(config: Config) -> Iterator[Finding]:
    """Check that the certificate and its key can be read, and the key by root only."""
    for key in ("tls_certificate", "tls_key"):
        file = getattr(config.portal, key)
        if file and not os.access(file, os.R_OK):
            yield False, f"portal.{key}: {file} cannot be read; check that it exists, and run punway check as root"
        elif file and key == "tls_key" and Path(file).stat().st_mode & 0o044:
            yield False, f"portal.tls_key: other users can read {file}; run: chmod 600 {file}"


def _sign_in(config: Config) -> Iterator[Finding]:
    """Report how browsers can sign in, and check the files of the secrets."""
    login = config.login
    ways = [name for name, on in (("link", login.link), ("oidc", login.oidc), ("header", login.header)) if on]
    without_tls = "" if config.secure or not ways else "; portal.public_url has no TLS, so use it for tests only"
    enabled = f"login: {', '.join(ways)} enabled{without_tls}"
    yield True, enabled if ways else "login: all ways to sign in are disabled, so the portal has no pages"
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
            yield False, f"login.{key}: {name} is empty; write the secret into it"


def _provider(config: Config) -> Iterator[Finding]:
    """Check the user map, and send the identity provider the requests that the hook will send."""
    if not config.idp.issuer:
        return
    if config.idp.user_map.startswith("/"):
        try:
            tomli.loads(Path(config.idp.user_map).read_text(encoding="utf-8"))
            if not config.single_user and not Path(config.idp.user_map).stat().st_mode & 0o004:
                yield False, f"idp.user_map: the hook cannot read it; run: chmod a+r {config.idp.user_map}"
        except (OSError, ValueError) as error:
            yield False, f"idp.user_map: {config.idp.user_map}: {error}"
    if not (config.login.oidc or config.takes_jwts):
        yield False, "idp.issuer: it has no effect; set login.oidc or idp.audience too"
        return
    from proxy_hook.idp.provider import IdentityProvider

    try:
        asyncio.run(IdentityProvider(config.idp).check())
    except OSError as error:
        yield False, f"idp.issuer: {error}"
    else:
        yield True, f"idp.issuer: {config.idp.issuer} answers, and has usable keys"


def _nginx(config: Config) -> Iterator[Finding]:
    """Check that nginx is installed with the needed modules, and that it accepts the portal's configuration."""
    try:
        nginx = find_nginx()
    except CannotServe as error:
        yield False, str(error)
        return
    built = subprocess.run([nginx, "-V"], env=ENVIRONMENT, capture_output=True, text=True, check=False).stderr
    if "http_auth_request_module" not in built:
        yield False, f"{nginx} is built without http_auth_request_module; install the distribution's nginx"
        return
    if config.portal.proxies and "http_realip_module" not in built:
        yield False, f"portal.proxies: {nginx} is built without http_realip_module; install the distribution's nginx"
        return
    with tempfile.TemporaryDirectory(prefix="punway-check-") as folder:
        full_config = f"events {{}} pid {folder}/pid; error_log stderr; http {{ include {folder}/portal.conf; }}"
        text = nginx_config.portal_config(config, "/dev/null", "/dev/null")
        # The folder of the inner socket does not exist before the portal has started.
        Path(folder, "portal.conf").write_text(text.replace(str(config.inner_socket), f"{folder}/inner.sock"))
        Path(folder, "nginx.conf").write_text(full_config)
        argv = [nginx, "-t", "-q", "-e", "stderr", "-p", folder, "-c", f"{folder}/nginx.conf"]
        tried = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    yield (
        (True, f"{nginx} accepts the portal's configuration")
        if tried.returncode == 0
        else (False, tried.stderr.strip())
    )


def _room_in_nginx(_config: Config) -> Iterator[Finding]:
    """Check the limits of the distribution's nginx if that one serves the portal."""
    try:
        dumped = subprocess.run([find_nginx(), "-T", "-q"], capture_output=True, text=True, check=False)
    except CannotServe:
        return  # _nginx has reported it.
    # Files of other sites may have errors that do not concern the portal, and some files only root can read.
    if dumped.returncode == 0 and (finding := room_in(dumped.stdout)):
        yield finding


def room_in(nginx_files: str) -> Finding | None:
    """Return the finding about the limits in nginx's files (``nginx -T``); None if they do not have the portal."""
    text = re.sub(r"#.*", "", nginx_files)
    if "upstream punway_relay" not in text:
        return None
    found = dict(re.findall(r"\b(worker_connections|worker_rlimit_nofile)\s+(\d+)\s*;", text))
    connections, files = int(found.get("worker_connections", 512)), int(found.get("worker_rlimit_nofile", 0))
    has = f"nginx.conf: worker_connections {connections}, worker_rlimit_nofile {files or 'not set'}"
    if connections >= MIN_WORKER_CONNECTIONS and files > connections:
        return True, has
    wanted = f"{nginx_config.WORKER_CONNECTIONS} and {nginx_config.WORKER_FILES}"
    return False, f"{has}: one client can use that up; set them to {wanted}, or run punway nginx"


def _clusters(config: Config, rows: list[list[str]]) -> Iterator[Finding]:
    """Check the cluster files and the schedulers' commands. Add each cluster's row of the table to ``rows``."""
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
    """Print the table of clusters: adapter, version, and what the API can do there."""
    if not rows:
        return
    listed = [["CLUSTER", "ADAPTER", "VERSION", "FEATURES", "SUBMIT OPTIONS"], *rows]
    widths = [max(len(row[column]) for row in listed) for column in range(4)]
    print()
    for row in listed:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), row[4]]))
    print()
