"""Tests of spawner/become.py, in real child processes of root that become a user."""

from __future__ import annotations

import os
import pwd
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace

import pytest

from spawner.become import become, close_descriptors, new_session
from spawner.eligible import Account, Rules
from spawner.launch import SpawnSettings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user")

NOBODY = pwd.getpwnam("nobody")
ACCOUNT = Account("nobody", NOBODY.pw_uid, NOBODY.pw_gid, "/", "/bin/sh")
SETTINGS = SpawnSettings(Rules(1, ".*", [], [], [], None), True, False, {"SITE": "x"}, "{}")


def in_child(check: Callable[[], object]) -> tuple[int, str]:
    """Run ``check`` in a forked child. Return its exit code, 0 if it returned, and its error."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            check()
            code = 0
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as errors:
        message = errors.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), message


def as_user(
    check: Callable[[], None], account: Account = ACCOUNT, settings: SpawnSettings = SETTINGS
) -> tuple[int, str]:
    """Run ``check`` in a child that has become the user. Return as ``in_child`` does."""
    parent = os.getpid()

    def child() -> None:
        new_session()
        become(account, parent, settings, tuple(range(256)))
        check()

    return in_child(child)


def test_the_child_is_the_user_in_every_way() -> None:
    """The child has the user's ids, groups and environment, umask 077, and the soft limits."""

    def check() -> None:
        assert os.getresuid() == (NOBODY.pw_uid,) * 3
        assert os.getresgid() == (NOBODY.pw_gid,) * 3
        assert set(os.getgroups()) == set(os.getgrouplist("nobody", NOBODY.pw_gid))
        assert os.umask(0) == 0o077
        assert dict(os.environ) == {
            "HOME": "/", "USER": "nobody", "LOGNAME": "nobody", "SHELL": "/bin/sh",
            "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "SITE": "x",
        }  # fmt: skip
        assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1024
        assert all(
            signal.getsignal(n) in (signal.SIG_DFL, None) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
        )

    assert as_user(check) == (0, "")


def test_there_is_no_way_back() -> None:
    """The child can neither restore root nor signal a process of root."""

    def check() -> None:
        with pytest.raises(PermissionError):
            os.setuid(0)
        with pytest.raises(PermissionError):
            os.setgid(0)
        with pytest.raises(PermissionError):
            os.setgroups([0])
        with pytest.raises(PermissionError):
            os.kill(1, 0)

    assert as_user(check) == (0, "")


def test_prctl_flags_are_set_after_the_ids() -> None:
    """The kernel resets both flags when the uid changes (prctl(2)), so they must come after it."""
    import ctypes

    def check() -> None:
        libc = ctypes.CDLL(None)
        assert libc.prctl(3, 0, 0, 0, 0) == 0  # PR_GET_DUMPABLE
        number = ctypes.c_int()
        libc.prctl(2, ctypes.byref(number), 0, 0, 0)  # PR_GET_PDEATHSIG
        assert number.value == signal.SIGTERM
        assert libc.prctl(39, 0, 0, 0, 0) == 0  # PR_GET_NO_NEW_PRIVS

    assert as_user(check) == (0, "")

    def check_no_new_privs() -> None:
        assert ctypes.CDLL(None).prctl(39, 0, 0, 0, 0) == 1

    assert as_user(check_no_new_privs, settings=replace(SETTINGS, no_new_privs=True)) == (0, "")


@pytest.mark.parametrize(
    "account",
    [replace(ACCOUNT, uid=0), replace(ACCOUNT, gid=0), replace(ACCOUNT, name="no-such-user-here", gid=0)],
    ids=["uid 0", "gid 0", "unknown name"],
)
def test_no_child_becomes_root(account: Account) -> None:
    """An account with root's uid or gid ends the child."""
    code, message = as_user(lambda: None, account)
    assert code == 1
    assert message.startswith("BecomeError")


@pytest.mark.parametrize("step", ["initgroups", "setresgid", "setresuid"])
def test_a_step_that_fails_ends_the_child(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child ends if a step raises an error, and if a step silently does nothing."""

    def fails(*_: object) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(os, step, fails)
    assert as_user(lambda: None)[0] == 1
    real = {"setresgid": os.setresgid, "setresuid": os.setresuid}
    if step in real:
        monkeypatch.setattr(os, step, lambda *_: None)
        code, message = as_user(lambda: None)
        assert code == 1
        assert "BecomeError" in message


def test_a_half_drop_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of only the effective uid, from which root could be restored, ends the child."""
    real = os.seteuid
    monkeypatch.setattr(os, "setresuid", lambda *ids: real(ids[1]))
    code, message = as_user(lambda: None)
    assert (code, message) == (1, "BecomeError: an id is not the user's")


def test_a_parent_that_is_gone_is_found() -> None:
    """A child whose parent died before PR_SET_PDEATHSIG was set ends by itself."""

    def child() -> None:
        become(ACCOUNT, 1 if os.getppid() != 1 else 2, SETTINGS, tuple(range(256)))

    assert in_child(child) == (1, "BecomeError: the parent ended before the child was ready")


def test_root_group_from_the_directory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whom the directory lists in root's group gets no process."""
    monkeypatch.setattr(os, "initgroups", lambda _name, gid: os.setgroups([gid, 0]))
    code, message = as_user(lambda: None)
    assert (code, message) == (1, "BecomeError: the user is in root's group")


def test_inheritable_capabilities_are_dropped() -> None:
    """Capabilities that a container engine put into the inheritable set, which setresuid keeps, are gone."""
    import ctypes

    parent = os.getpid()

    def child() -> None:
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
        data = (ctypes.c_uint32 * 6)()
        libc = ctypes.CDLL(None)
        libc.capget(header, data)
        data[2] = 1  # CAP_CHOWN, inheritable
        assert libc.capset(header, data) == 0
        become(ACCOUNT, parent, SETTINGS, tuple(range(256)))

    assert in_child(child) == (0, "")


def test_every_descriptor_but_the_kept_is_closed() -> None:
    """close_descriptors closes everything except the given descriptors."""

    def child() -> None:
        with socket.socket() as listener, open("/etc/hostname"):
            keep = (0, 1, 2, listener.fileno())
            close_descriptors(keep)
            left = set()
            for number in range(64):
                try:
                    os.fstat(number)
                    left.add(number)
                except OSError:
                    continue
            os._exit(0 if left == set(keep) else 3)

    assert in_child(child)[0] == 0
