"""The one function that turns root into a user, and proves that there is no way back.

Runs as root when it begins, in a child with one thread, and as the user when it returns. Any step that
fails ends the child: a process that is half a user must not live.

Sources: credentials(7), prctl(2), setresuid(2), initgroups(3); the order is sshd's and OpenSMTPD's.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import resource
import signal

from proxy_hook.spawner.eligible import Account
from proxy_hook.spawner.launch import Ticket

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522

SOFT_LIMITS = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 1024}
"""Soft limits only: sbatch hands its own soft limits on to the job, and a job may raise them to the hard one."""


class NotTheUser(Exception):
    """A step of becoming the user failed; the process must end."""


def close_descriptors(keep: tuple[int, ...]) -> None:
    """Close every descriptor but those in ``keep``; 0, 1 and 2 are the caller's to set."""
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor not in keep:
            try:
                os.close(descriptor)
            except OSError:
                continue  # The one that listed the folder is closed already.


def new_session() -> None:
    """Away from root's terminal, signal handlers and exit handlers."""
    os.setsid()
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_DFL)
            except OSError:
                continue  # glibc keeps two real-time signals to itself.
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    atexit._clear()


def become(account: Account, parent: int, ticket: Ticket, keep: tuple[int, ...]) -> None:
    """Become the user, for good. ``parent`` is the pid whose death ends this process too.

    What the name service opened meanwhile is closed, but for ``keep``. In single-user mode the ids stay,
    which is the one step that is skipped. Raises NotTheUser or OSError; the caller then ends the process.
    """
    for limit, soft in SOFT_LIMITS.items():
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
    if ticket.change_ids:
        _change_ids(account)
    close_descriptors(keep)
    # The kernel clears both when the uid changes, so they come after it.
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise NotTheUser("the parent ended before the child was ready")
    if ticket.no_new_privs:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    os.umask(0o077)
    os.environ.clear()
    os.environ.update(
        {
            "HOME": account.home,
            "USER": account.name,
            "LOGNAME": account.name,
            "SHELL": account.shell or "/bin/sh",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            **ticket.environment,
        }
    )


def _change_ids(account: Account) -> None:
    if account.uid == 0 or account.gid == 0:
        raise NotTheUser("root is not a user to become")
    os.initgroups(account.name, account.gid)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    _drop_inheritable()
    _prove(account)


def _drop_inheritable() -> None:
    """Empty the inheritable set, which setresuid leaves and some container engines fill (capset(2))."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if _libc().capset(header, nothing):
        raise NotTheUser(f"capset: {os.strerror(ctypes.get_errno())}")


def _prove(account: Account) -> None:
    """Fail unless every id is the user's, no capability is left, and root cannot be had again."""
    if os.getresuid() != (account.uid,) * 3 or os.getresgid() != (account.gid,) * 3:
        raise NotTheUser("an id is not the user's")
    if 0 in os.getgroups():
        # The directory may put a user into root's group; no PUN has it all the same.
        raise NotTheUser("the user is in root's group")
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            key, _, value = line.partition(":")
            if key in ("CapInh", "CapPrm", "CapEff", "CapAmb") and int(value, 16):
                raise NotTheUser(f"capabilities are left ({key})")
    for way_back in (
        lambda: os.setresuid(0, 0, 0),
        lambda: os.seteuid(0),
        lambda: os.setresgid(0, 0, 0),
        lambda: os.setgroups([0]),
    ):
        try:
            way_back()
        except PermissionError:
            continue
        raise NotTheUser("root can be had again")


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        raise NotTheUser(f"prctl({option}): {os.strerror(ctypes.get_errno())}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
