"""The supervision of the hook's tasks and threads: if one of them ends, the process logs that and exits.

systemd or ``punway serve`` then restarts it. If the hook continued without its registrar, it would report that it is
healthy, although nobody could create, revoke or use a new token.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine
from typing import Any

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h: an internal software error."""

log = logging.getLogger("punway.hook")


async def run_together(main: Coroutine[Any, Any, None], helpers: dict[str, Coroutine[Any, Any, None]]) -> None:
    """Run ``main`` until it returns, together with ``helpers`` that must run as long as ``main`` does.

    Raises SystemExit, after a line in the log, if a helper ends first. Exceptions of ``main`` are raised.
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
        log.critical("the task %s ended unexpectedly: exiting, to be restarted", name, exc_info=error)
    if ended:
        raise SystemExit(EXIT_CODE)
    served.result()


def end_on_thread_failure() -> None:
    """Make an uncaught exception in any thread end the process, after a line in the log."""

    def end(failure: threading.ExceptHookArgs) -> None:
        name = failure.thread.name if failure.thread else "unknown"
        error = failure.exc_value or failure.exc_type
        log.critical("the thread %s failed: exiting, to be restarted", name, exc_info=error)  # type: ignore[arg-type]
        # sys.exit() would end only this thread.
        os._exit(EXIT_CODE)

    threading.excepthook = end
