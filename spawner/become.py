"""The one function that turns root into a user, and proves that there is no way back.

Runs as root when it begins, in a child with one thread, and as the user when it returns. Any step that
fails ends the child: a process that is half a user must not live. Sources: credentials(7), prctl(2),
capset(2), setresuid(2), initgroups(3); the order is sshd's and OpenSMTPD's.
"""

import atexit
import ctypes
import os
import resource
import signal
from contextlib import suppress
from typing import Any

from spawner.eligible import Account
from spawner.launch import Birth

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CAPABILITY_VERSION_3 = 0x20080522

# Soft limits only: sbatch hands its own soft limits on to the job, and a job may raise them to the hard one.
SOFT_LIMITS = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 1024}


class NotTheUser(Exception):
    """A step of becoming the user failed; the process must end."""


def close_descriptors(keep: tuple[int, ...]) -> None:
    """Close every descriptor but those in ``keep``."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor not in keep:
            with suppress(OSError):  # The one that listed the folder is closed already.
                os.close(descriptor)


def new_session() -> None:
    """Away from root's terminal, signal handlers and exit handlers."""
    os.setsid()
    for number in signal.valid_signals():
        with suppress(OSError):  # KILL and STOP have no handler, and glibc keeps two signals to itself.
            signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    atexit._clear()


def become(account: Account, parent: int, birth: Birth, keep: tuple[int, ...]) -> None:
    """Become the user, for good. ``parent`` is the pid whose death ends this process too.

    What the name service opened meanwhile is closed, but for ``keep``. In single-user mode the ids stay,
    which is the one step that is skipped. Raises NotTheUser or OSError; the caller then ends the process.
    """
    for limit, soft in SOFT_LIMITS.items():
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
    if birth.change_ids:
        _change_ids(account)
    close_descriptors(keep)
    # The kernel clears both when the uid changes, so they come after it.
    _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)
    _call("prctl", _PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        raise NotTheUser("the parent ended before the child was ready")
    if birth.no_new_privs:
        _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.umask(0o077)
    os.environ.clear()
    os.environ.update(HOME=account.home, USER=account.name, LOGNAME=account.name, SHELL=account.shell or "/bin/sh")
    os.environ.update(PATH="/usr/local/bin:/usr/bin:/bin", LANG="C.UTF-8")
    os.environ.update(birth.environment)


def _change_ids(account: Account) -> None:
    if account.uid == 0 or account.gid == 0:
        raise NotTheUser("root is not a user to become")
    os.initgroups(account.name, account.gid)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    # The inheritable set, which setresuid leaves, and which some container engines fill.
    _call("capset", (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())
    _prove(account)


def _prove(account: Account) -> None:
    """Fail unless every id is the user's, no capability is left, and root cannot be had again."""
    if os.getresuid() != (account.uid,) * 3 or os.getresgid() != (account.gid,) * 3:
        raise NotTheUser("an id is not the user's")
    if 0 in os.getgroups():
        # The directory may put a user into root's group; no PUN has it all the same.
        raise NotTheUser("the user is in root's group")
    with open("/proc/self/status", "rb") as status:
        for key, _, value in (line.partition(b":") for line in status):
            if key in (b"CapInh", b"CapPrm", b"CapEff", b"CapAmb") and int(value, 16):
                raise NotTheUser(f"capabilities are left ({key.decode()})")
    ways: list[tuple[Any, Any]] = [
        (os.setuid, 0),
        (os.seteuid, 0),
        (os.setgid, 0),
        (os.setegid, 0),
        (os.setgroups, [0]),
    ]
    for way_back, to_root in ways:
        try:
            way_back(to_root)
        except PermissionError:
            continue
        raise NotTheUser("root can be had again")


def _call(function: str, *arguments: object) -> None:
    """A function of the C library. Raises NotTheUser when it fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_ulong(word) if isinstance(word, int) else word for word in arguments]
    if getattr(libc, function)(*words):
        raise NotTheUser(f"{function}: {os.strerror(ctypes.get_errno())}")
