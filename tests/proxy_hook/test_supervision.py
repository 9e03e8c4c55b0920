"""proxy_hook/supervision.py: no task or thread of the hook ends silently."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from proxy_hook.supervision import EXIT_CODE, run_together


async def ends(error: Exception | None = None) -> None:
    await asyncio.sleep(0)
    if error:
        raise error


async def runs_on() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("error", [None, ValueError("broken")], ids=["returns", "fails"])
def test_a_helper_that_ends_ends_it_all(error: Exception | None, caplog: pytest.LogCaptureFixture) -> None:
    """The log names it."""
    with pytest.raises(SystemExit) as end:
        asyncio.run(run_together(runs_on(), {"registrar": ends(error), "audit log": runs_on()}))
    assert end.value.code == EXIT_CODE
    assert "registrar" in caplog.text and ("broken" in caplog.text) is bool(error)


def test_the_end_of_the_main_part_is_the_end_of_its_helpers() -> None:
    """It is not a failure."""
    cancelled = []

    async def helper() -> None:
        try:
            await runs_on()
        finally:
            cancelled.append(True)

    asyncio.run(run_together(ends(), {"registrar": helper()}))
    assert cancelled
    with pytest.raises(ValueError, match="broken"):
        asyncio.run(run_together(ends(ValueError("broken")), {"registrar": runs_on()}))


def test_a_thread_that_dies_ends_the_process() -> None:
    """The log has the thread's name and the reason."""
    program = (
        "import threading; from proxy_hook.supervision import end_on_thread_failure; end_on_thread_failure()\n"
        "def die(): raise ValueError('broken')\n"
        "thread = threading.Thread(target=die, name='writer'); thread.start(); threading.Event().wait()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == EXIT_CODE
    assert "writer" in done.stderr and "broken" in done.stderr
