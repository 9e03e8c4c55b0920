"""Registration of the tokens in the user's file with the hook, at each start of the PUN and of the hook.

After its own start the hook may have an empty route table, because it replaces a damaged one. The PUNs fill it again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tokens.errors import StoreError
from tokens.manage import TokenManager
from tokens.registrar_client import RegistrarError

RETRY_S = 10.0
"""Time between two attempts while the hook or the home does not answer."""

log = logging.getLogger("punway.pun")


class Registration:
    """Registers all tokens once for each start of the hook.

    ``hook_key`` is the file with the hook's public key, which the hook writes at each start. ``clock`` returns seconds
    of the monotonic clock.
    """

    def __init__(self, manager: TokenManager, hook_key: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._manager = manager
        self._hook_key = hook_key
        self._registered_with: object = None
        self._not_before = 0.0
        self._thread: threading.Thread | None = None

    def consider(self) -> None:
        """Register the tokens in a thread if it is time to. Called about once a second; never waits."""
        if self._clock() < self._not_before or (self._thread and self._thread.is_alive()):
            return
        hook = self._hook()
        if hook is not None and hook != self._registered_with:
            # In a thread, because the home may hang.
            self._not_before = self._clock() + RETRY_S
            self._thread = threading.Thread(target=self._register, args=(hook,), name="register", daemon=True)
            self._thread.start()

    def _register(self, hook: object) -> None:
        try:
            self._manager.register_all()
            self._registered_with = hook
        except (StoreError, RegistrarError) as error:
            log.warning("failed to register the tokens: %s", error)

    def _hook(self) -> object:
        """Return an identity of the hook's current start, or None before its first start."""
        try:
            status = self._hook_key.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns
