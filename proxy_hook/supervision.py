"""Nothing of the hook ends silently: when a task or a thread of it dies, the process ends and says so.

systemd or ``punway serve`` starts it again. A hook that lives on without its registrar would answer /health with ok
while nobody can make, revoke or use a new token.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine
from typing import Any

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h: an internal fault."""

log = logging.getLogger("punway.hook")


async def run_together(main: Coroutine[Any, Any, None], helpers: dict[str, Coroutine[Any, Any, None]]) -> None:
    """Run ``main`` until it returns, with helpers that are to run as long as it does.

    Raises SystemExit, after a line in the log, if a helper ends first; what main raises is raised.
    """
    served = asyncio.ensure_future(main)
    running = {asyncio.ensure_future(helper): name for name, helper in helpers.items()}
    await asyncio.wait([served, *running], return_when=asyncio.FIRST_COMPLETED)
    ended = [(name, task) for task, name in running.items() if task.done()]
    for task in (served, *running):
        task.cancel()
    await asyncio.gather(served, *running, return_exceptions=True)
    for name, task in ended:
        error = None if task.cancelled() else task.exception()
        log.critical("the %s ended with an error; the hook ends, to be started again", name, exc_info=error)
    if ended:
        raise SystemExit(EXIT_CODE)
    served.result()


def end_on_thread_failure() -> None:
    """End the process, after a line in the log, when any of its threads dies of an exception."""

    def end(failure: threading.ExceptHookArgs) -> None:
        name = failure.thread.name if failure.thread else "unknown"
        error = failure.exc_value or failure.exc_type
        log.critical("the thread %s died; the hook ends, to be started again", name, exc_info=error)  # type: ignore[arg-type]
        # Not sys.exit(), which would end this thread alone.
        os._exit(EXIT_CODE)

    threading.excepthook = end
