"""The run and state directories: root, or the one user of single-user mode, makes or checks them at each start."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

from proxy_hook.config import Config
from punway.errors import FolderError


def prepare(config: Config) -> None:
    """Make the run and state directories, or check the owner and mode of existing ones. Raises FolderError."""
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
        problem = problem_with(folder, who)
        if problem:
            raise FolderError(problem)


def user_of(key: str, name: str) -> pwd.struct_passwd:
    """Return the user that ``key`` of punway.toml names. Raises FolderError if the user does not exist."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise FolderError(
            f"{key}: the user {name} does not exist; run: useradd --system --no-create-home "
            f"--shell /usr/sbin/nologin {name}"
        ) from None


def problem_with(folder: Path, owner: int) -> str | None:
    """Return why a directory cannot be used, or None. It must belong to ``owner``, and nobody else may write to it."""
    try:
        status = folder.lstat()
    except OSError as error:
        return f"{folder}: {error.strerror}"
    if not stat.S_ISDIR(status.st_mode):
        return f"{folder} is not a directory"
    if status.st_uid != owner:
        return f"{folder} belongs to uid {status.st_uid}; run: chown {owner} {folder}"
    if status.st_mode & 0o022:
        return f"other users can write to {folder}; run: chmod go-w {folder}"
    return None


def _make(folder: Path, owner: int, mode: int) -> None:
    """Make a directory of this owner and mode unless it exists. Raises FolderError."""
    if folder.exists():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
        os.chown(folder, owner, -1)
        folder.chmod(mode)
    except OSError as error:
        raise FolderError(f"cannot make {folder}: {error.strerror}") from error


def nginx_group(config: Config) -> int:
    """Return the gid of nginx's user, whose group may connect to the sockets. Raises FolderError."""
    try:
        return grp.getgrgid(pwd.getpwnam(config.portal.nginx_user).pw_gid).gr_gid
    except KeyError:
        raise FolderError(
            f"portal.nginx_user: the user {config.portal.nginx_user} does not exist; install nginx, "
            "or set the key to the user of nginx's workers (www-data on Debian, nginx on RHEL)"
        ) from None
