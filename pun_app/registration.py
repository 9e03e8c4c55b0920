"""The tokens of the user's file, told to the front: at start, and again whenever the hook has started again.

The front's route table may be another one by then: a damaged one is replaced by an empty one, and heals itself so.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from tokens.errors import StoreError
from tokens.manage import TokenManager
from tokens.registrar_client import RegistrarError

RETRY_S = 10.0
"""Seconds after which it is tried again where the front or the home did not answer."""

log = logging.getLogger("punway.pun")


class Registration:
    """``hook_key`` is the hook's public key, which the hook writes at each start."""

    def __init__(self, manager: TokenManager, hook_key: Path) -> None:
        self._manager = manager
        self._hook_key = hook_key
        self._registered_with: object = None
        self._not_before = 0.0
        self._thread: threading.Thread | None = None

    def consider(self) -> None:
        """Register where it is time to. Called about once a second; never waits."""
        if time.monotonic() < self._not_before or (self._thread and self._thread.is_alive()):
            return
        hook = self._hook()
        if hook is not None and hook != self._registered_with:
            # In a thread: the home may hang.
            self._not_before = time.monotonic() + RETRY_S
            self._thread = threading.Thread(target=self._register, args=(hook,), name="register", daemon=True)
            self._thread.start()

    def _register(self, hook: object) -> None:
        try:
            self._manager.register_all()
            self._registered_with = hook
        except (StoreError, RegistrarError) as error:
            log.warning("the tokens could not be registered: %s", error)

    def _hook(self) -> object:
        """Return what tells one start of the hook from another; None while there is none."""
        try:
            status = self._hook_key.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns
