"""The function that turns a root process into a user's process, and proves that the process cannot become root again.

It starts as root, in a forked child with one thread, and returns as the user. If any step fails, the child must end: no
process may continue with only some of root's privileges removed. The steps follow the order of OpenSSH's sshd and of
OpenSMTPD. Sources: credentials(7), prctl(2), capset(2), setresuid(2), initgroups(3).
"""

import atexit
import ctypes
import os
import resource
import signal
from contextlib import suppress
from typing import Any

from spawner.eligible import Account
from spawner.launch import SpawnSettings

# Numbers from <linux/prctl.h> and <linux/capability.h>.
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CAPABILITY_VERSION_3 = 0x20080522

# Only soft limits are set. sbatch copies its own soft limits to the job, and the job may raise them to the hard limits.
SOFT_LIMITS = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 1024}


class BecomeError(Exception):
    """The failure of a step of ``become``. The process must end."""


def close_descriptors(keep: tuple[int, ...]) -> None:
    """Close every file descriptor except those in ``keep``."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor not in keep:
            with suppress(OSError):  # The descriptor that listed the folder is closed already.
                os.close(descriptor)


def new_session() -> None:
    """Detach this process from root's terminal, signal handlers, signal mask and exit handlers."""
    os.setsid()
    for number in signal.valid_signals():
        with suppress(OSError):  # KILL and STOP have no handler, and glibc reserves two signals for itself.
            signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    atexit._clear()


def become(account: Account, parent: int, settings: SpawnSettings, keep: tuple[int, ...]) -> None:
    """Change this process irreversibly from root to the user of ``account``.

    ``parent`` is the pid of the process whose death must end this one too. ``keep`` are the only file descriptors that
    stay open. In single-user mode (``change_ids`` is false) the process already is the user, and only the change of ids
    is skipped. Raises BecomeError or OSError; the caller must then end the process.
    """
    for limit, soft in SOFT_LIMITS.items():
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
    if settings.change_ids:
        _change_ids(account)
    # The look-ups of the account and of its groups may have opened files and sockets as root.
    close_descriptors(keep)
    # The kernel resets the next two attributes when the uid changes, so they are set after it.
    # Not dumpable: no other process of the user may trace this one or open its memory, environment or descriptors.
    _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)
    # When the preloader dies, even by SIGKILL, the kernel ends this process.
    _call("prctl", _PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    # If the preloader died before this moment, the kernel sends no signal.
    if os.getppid() != parent:
        raise BecomeError("the parent ended before the child was ready")
    if settings.no_new_privs:
        # With this, no setuid program gives this process or its children more rights than the user has.
        _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Other users cannot read the files that this process creates, whatever root's umask was.
    os.umask(0o077)
    # Nothing of root's environment is kept. First come the variables that a login sets, then those of the site.
    os.environ.clear()
    os.environ.update(HOME=account.home, USER=account.name, LOGNAME=account.name, SHELL=account.shell or "/bin/sh")
    os.environ.update(PATH="/usr/local/bin:/usr/bin:/bin", LANG="C.UTF-8")
    os.environ.update(settings.environment)


def _change_ids(account: Account) -> None:
    """Change groups, gid and uid, drop all capabilities, and verify the result. Raises BecomeError or OSError."""
    if account.uid == 0 or account.gid == 0:
        raise BecomeError("the account must not have root's uid or gid")
    # Groups first and the uid last: without root's uid a process may change neither its groups nor its gid.
    os.initgroups(account.name, account.gid)
    # Set the real, effective and saved ids. If only the effective id changed, the process could become root again.
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    # setresuid keeps the inheritable capabilities, which some container engines set.
    _call("capset", (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())
    _prove(account)


def _prove(account: Account) -> None:
    """Raise BecomeError unless every id is the user's, no capability is left, and no call makes the process root."""
    if os.getresuid() != (account.uid,) * 3 or os.getresgid() != (account.gid,) * 3:
        raise BecomeError("an id is not the user's")
    if 0 in os.getgroups():
        # A site's directory may list a user in root's group; such a user gets no PUN.
        raise BecomeError("the user is in root's group")
    with open("/proc/self/status", "rb") as status:
        for key, _, value in (line.partition(b":") for line in status):
            if key in (b"CapInh", b"CapPrm", b"CapEff", b"CapAmb") and int(value, 16):
                raise BecomeError(f"capabilities are left ({key.decode()})")
    ways_back: list[tuple[Any, Any]] = [
        (os.setuid, 0),
        (os.seteuid, 0),
        (os.setgid, 0),
        (os.setegid, 0),
        (os.setgroups, [0]),
    ]
    for function, root in ways_back:
        try:
            function(root)
        except PermissionError:
            continue
        raise BecomeError("the process can become root again")


def _call(function: str, *arguments: object) -> None:
    """Call a function of the C library. Raises BecomeError when it fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_ulong(word) if isinstance(word, int) else word for word in arguments]
    if getattr(libc, function)(*words):
        raise BecomeError(f"{function}: {os.strerror(ctypes.get_errno())}")
