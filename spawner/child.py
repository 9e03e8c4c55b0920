"""The first steps of a PUN: a child of the preloader, which is root with one thread, becomes its user and runs the app.

With ``spawn = fork`` the preloader has imported the app. With ``spawn = exec`` the child first executes a fresh
interpreter, which imports the app: ``python -I -m spawner.child APP LISTENER REPORT PARENT``, with the start message on
standard input. In both cases the child then becomes the user, and never replaces itself by another program. The kernel
therefore prevents the user's other processes from inspecting it from the first moment on (PR_SET_DUMPABLE, prctl(2)).
An exec as the user would remove this protection.

A child reports its progress on a pipe, in one byte for each step: LOOK_UP, USER and READY. If a rule refuses the user,
it writes REFUSED and the rule. The app closes the pipe when it begins to serve.
"""

import importlib
import json
import os
import stat
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from spawner import wire
from spawner.become import become, close_descriptors, new_session
from spawner.eligible import Refused, find_account
from spawner.launch import SpawnSettings

LOOK_UP, USER, READY, REFUSED = b"L", b"U", b"R", b"!"
MAX_REPORT_BYTES = 4096
WAITS_FOR = {LOOK_UP: "the name service", USER: "the home directory"}  # What a child waits for after this report.

# The app's function. Its arguments are a listening descriptor, the app's settings as JSON, and a function that it calls
# when it begins to serve.
Serve = Callable[[int, str, Callable[[], None]], None]


def load(app: str) -> Serve:
    """Import the app, given as MODULE:FUNCTION, and return its function."""
    module, _, function = app.partition(":")
    serve: Serve = getattr(importlib.import_module(module), function)
    return serve


def child_main(
    message: wire.Message, parent: int, listener: int, report: int, app: str, serve: Serve | None
) -> NoReturn:
    """Run the forked child of the preloader, whose pid is ``parent``. Never returns.

    ``serve`` is the app's function if the preloader has imported it. If it is None, the child executes an interpreter.
    """
    try:
        new_session()
        null = os.open("/dev/null", os.O_RDWR)
        # PUNs log only to a pipe or to the journal's socket. If they had root's log file, a user could truncate it. If
        # they had the terminal from which root started the portal, a user could read from it and write to it.
        kind = os.fstat(1).st_mode
        os.dup2(1 if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind) else null, 2)
        os.dup2(2, 1)
        os.dup2(null, 0)
        close_descriptors((0, 1, 2, listener, report))
        if serve is None:
            _exec_interpreter(message, parent, listener, report, app)
        _serve_as_user(message, parent, listener, report, serve)
    except BaseException:
        traceback.print_exc()
    finally:
        # Not sys.exit(): the exit handlers of the parent must not run here.
        os._exit(1)


def _exec_interpreter(message: wire.Message, parent: int, listener: int, report: int, app: str) -> NoReturn:
    """Execute this module in a fresh interpreter. Never returns.

    The message is passed in a memory file on standard input, because every user can read command lines.
    """
    file = os.memfd_create("start")
    os.write(file, json.dumps(message).encode())
    os.lseek(file, 0, os.SEEK_SET)
    os.dup2(file, 0)
    for descriptor in (listener, report):
        os.set_inheritable(descriptor, True)
    numbers = map(str, (listener, report, parent))
    os.execv(sys.executable, [sys.executable, "-I", "-m", "spawner.child", app, *numbers])


def _serve_as_user(message: wire.Message, parent: int, listener: int, report: int, serve: Serve) -> NoReturn:
    """Become the user and run ``serve`` on the listener. Never returns."""
    code = 1
    try:
        # The ids of a process are per thread in the kernel; a second thread could stay root.
        if len(os.listdir("/proc/self/task")) != 1:
            raise SystemExit("the new process has more than one thread; it must not become a user")
        os.write(report, LOOK_UP)
        settings = SpawnSettings.from_json(message["spawn_settings"])
        account = find_account(message["name"], message["start"], settings.rules)
        become(account, parent, settings, (0, 1, 2, listener, report))
        os.write(report, USER)
        # The user, and not root, enters the home directory: root may have no access to it (NFS with root_squash). If
        # the file system hangs, only this child hangs.
        try:
            os.chdir(account.home)
        except OSError:
            os.chdir("/")
        os.write(report, READY)
        serve(listener, settings.app_settings, lambda: os.close(report))
        code = 0
    except Refused as refusal:
        os.write(report, REFUSED + str(refusal).encode())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> None:
    """Run the child after its exec. The module's docstring describes the arguments."""
    app, *numbers = sys.argv[1:]
    listener, report, parent = map(int, numbers)
    message = json.load(sys.stdin)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for descriptor in (listener, report):
        os.set_inheritable(descriptor, False)
    _serve_as_user(message, parent, listener, report, load(app))


if __name__ == "__main__":
    main()
