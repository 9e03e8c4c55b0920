"""A PUN's first steps: a child of the preloader, root's and with one thread, becomes its user, and runs the app.

With ``spawn = fork`` the preloader has imported the app. With ``exec`` the child is a fresh interpreter first, which
imports it: ``python -I -m spawner.child APP LISTENER REPORT PARENT``, with the start's message on standard
input. It becomes the user after that and never runs another program, so the kernel lets no other process of that user
look into it, from the first moment on (PR_SET_DUMPABLE, prctl(2)); exec would open it again.

A child reports LOOK_UP, USER and READY, a byte each as it gets on, or REFUSED and the rule; the app closes the report
when it serves.
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
from spawner.launch import Birth

LOOK_UP, USER, READY, REFUSED = b"L", b"U", b"R", b"!"
REPORT_SIZE = 4096  # Greatest length of a report, in bytes.
WAITS_FOR = {LOOK_UP: "the name service", USER: "the home directory"}  # What a child that is stuck waits for.

# The app's function: it serves on a listening descriptor, with its settings as JSON, and calls back once it does.
Live = Callable[[int, str, Callable[[], None]], None]


def load(app: str) -> Live:
    """Import the app, MODULE:FUNCTION."""
    module, _, function = app.partition(":")
    live: Live = getattr(importlib.import_module(module), function)
    return live


def child_main(message: wire.Message, parent: int, listener: int, report: int, app: str, live: Live | None) -> NoReturn:
    """Run in the child of the preloader ``parent``, with ``live`` where that has imported it. Never returns."""
    try:
        new_session()
        null = os.open("/dev/null", os.O_RDWR)
        # The PUNs' log is a pipe or the journal's socket; a file of root's a user could empty, a terminal take over.
        kind = os.fstat(1).st_mode
        os.dup2(1 if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind) else null, 2)
        os.dup2(2, 1)
        os.dup2(null, 0)
        close_descriptors((0, 1, 2, listener, report))
        if live is None:
            _run_anew(message, parent, listener, report, app)
        _be_born(message, parent, listener, report, live)
    except BaseException:
        traceback.print_exc()
    finally:
        # Not sys.exit(): what the parent registered for its own end must not run here.
        os._exit(1)


def _run_anew(message: wire.Message, parent: int, listener: int, report: int, app: str) -> NoReturn:
    """Be a fresh interpreter. The message goes by a file in memory: command lines are for everybody to read."""
    file = os.memfd_create("start")
    os.write(file, json.dumps(message).encode())
    os.lseek(file, 0, os.SEEK_SET)
    os.dup2(file, 0)
    for descriptor in (listener, report):
        os.set_inheritable(descriptor, True)
    numbers = map(str, (listener, report, parent))
    os.execv(sys.executable, [sys.executable, "-I", "-m", "spawner.child", app, *numbers])


def _be_born(message: wire.Message, parent: int, listener: int, report: int, live: Live) -> NoReturn:
    """Become the user and ``live`` on the listener. Never returns."""
    code = 1
    try:
        if len(os.listdir("/proc/self/task")) != 1:
            raise SystemExit("the new process has more than one thread; it must not become a user")
        os.write(report, LOOK_UP)
        birth = Birth.from_json(message["birth"])
        account = find_account(message["name"], message["start"], birth.rules)
        become(account, parent, birth, (0, 1, 2, listener, report))
        os.write(report, USER)
        # As the user, since root may not be able to (root_squash); it may hang, and only this child does.
        try:
            os.chdir(account.home)
        except OSError:
            os.chdir("/")
        os.write(report, READY)
        live(listener, birth.app_settings, lambda: os.close(report))
        code = 0
    except Refused as refusal:
        os.write(report, REFUSED + str(refusal).encode())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> None:
    app, *numbers = sys.argv[1:]
    listener, report, parent = map(int, numbers)
    message = json.load(sys.stdin)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for descriptor in (listener, report):
        os.set_inheritable(descriptor, False)
    _be_born(message, parent, listener, report, load(app))


if __name__ == "__main__":
    main()
