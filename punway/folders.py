"""The run and state directories, and whose they are: made by root at start, or by the one user of single-user mode."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

from proxy_hook.config import Config
from punway.errors import FolderError


def prepare(config: Config) -> None:
    """Make the run and state directories, or check those that are there. Raises FolderError."""
    run, state = config.run_dir, Path(config.portal.state_dir)
    owner = os.geteuid() if config.single_user else user_of("portal.hook_user", config.portal.hook_user).pw_uid
    _make(run, os.geteuid(), 0o755)
    _make(state, owner, 0o700)
    folders = [(run, os.geteuid()), (state, owner)]
    if config.has_mcp:
        inner = config.inner_socket.parent
        _make(inner, os.geteuid(), 0o700 if config.single_user else 0o750)
        if not config.single_user:
            os.chown(inner, -1, user_of("mcp.user", config.mcp.user).pw_gid)
        folders.append((inner, os.geteuid()))
    for folder, who in folders:
        trouble = trouble_with(folder, who)
        if trouble:
            raise FolderError(trouble)


def user_of(key: str, name: str) -> pwd.struct_passwd:
    """The user that a key of punway.toml names. Raises FolderError, which says how to make one."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise FolderError(
            f"{key}: there is no user {name}; make one: useradd --system --no-create-home "
            f"--shell /usr/sbin/nologin {name}"
        ) from None


def trouble_with(folder: Path, owner: int) -> str | None:
    """What is wrong with a directory that must be ``owner``'s alone to write."""
    try:
        status = folder.lstat()
    except OSError as error:
        return f"{folder}: {error.strerror}"
    if not stat.S_ISDIR(status.st_mode):
        return f"{folder} is not a directory"
    if status.st_uid != owner:
        return f"{folder} belongs to uid {status.st_uid}; run: chown {owner} {folder}"
    if status.st_mode & 0o022:
        return f"{folder} can be written by others; run: chmod go-w {folder}"
    return None


def _make(folder: Path, owner: int, mode: int) -> None:
    if folder.exists():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        os.chown(folder, owner, -1)
        folder.chmod(mode)
    except OSError as error:
        raise FolderError(f"{folder} cannot be made: {error.strerror}") from error


def nginx_group(config: Config) -> int:
    """The group through which nginx reaches the sockets. Raises FolderError."""
    try:
        return grp.getgrgid(pwd.getpwnam(config.portal.nginx_user).pw_gid).gr_gid
    except KeyError:
        raise FolderError(
            f"portal.nginx_user: there is no user {config.portal.nginx_user}; install nginx, "
            "or name the user of its workers (www-data on Debian, nginx on RHEL)"
        ) from None
