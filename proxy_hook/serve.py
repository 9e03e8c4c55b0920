"""``punway serve``: spawner, hook, relay, MCP server and nginx as children of one supervising process, in foreground.

For containers, tests and the demo; on a host with systemd its units do this. A child that ends is started
again; SIGTERM and SIGINT end them all.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import IO

from proxy_hook.config import Config, interpreter
from proxy_hook.folders import nginx_group, prepare
from proxy_hook.serve_nginx import find_nginx

AGAIN_AFTER = 1.0
"""Seconds before a child that has ended is started again."""
END_TIME = 20.0

log = logging.getLogger("punway.serve")


@dataclass
class Part:
    """One child of the supervisor."""

    name: str
    argv: list[str]
    process: subprocess.Popen[bytes] | None = None
    start_at: float = field(default_factory=time.monotonic)


class Supervisor:
    """Starts the parts, and keeps them."""

    def __init__(self, config: Config) -> None:
        prepare(config)
        if not config.single_user:
            nginx_group(config)
        find_nginx()
        punway = [interpreter(), "-I", "-m", "proxy_hook.cli"]
        given = ["-c", str(config.source.absolute())]
        self._parts = [
            Part("spawner", [*punway, "spawner", *given]),
            Part("hook", [*punway, "hook", *given]),
            Part("relay", [*punway, "relay", *given]),
        ]
        if config.has_mcp:
            self._parts.append(Part("mcp", [*punway, "mcp-server", *given]))
        elif config.mcp.enabled:
            log.warning("there is no user %s (mcp.user), so there is no MCP server; see punway check", config.mcp.user)
        self._parts.append(Part("nginx", [*punway, "nginx", *given]))
        self._leaving = False

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._leave)
        try:
            while not self._leaving:
                self._look()
                time.sleep(0.1)
        finally:
            self._end()

    def _leave(self, *_: object) -> None:
        self._leaving = True

    def _look(self) -> None:
        now = time.monotonic()
        for part in self._parts:
            if part.process and part.process.poll() is not None:
                log.error("%s ended with %s; it is started again", part.name, part.process.returncode)
                part.process, part.start_at = None, now + AGAIN_AFTER
            if part.process is None and now >= part.start_at:
                # In a session of its own: an interrupt at the terminal is for the supervisor to pass on.
                part.process = subprocess.Popen(
                    part.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                threading.Thread(target=_pass_on, args=(part.process.stdout,), daemon=True).start()

    def _end(self) -> None:
        """nginx first, so that no request comes in any more."""
        for part in reversed(self._parts):
            if part.process is None:
                continue
            part.process.terminate()
            try:
                part.process.wait(END_TIME)
            except subprocess.TimeoutExpired:
                log.error("%s does not end; it is killed", part.name)
                part.process.kill()
                part.process.wait()


def _pass_on(output: IO[bytes]) -> None:
    """A child's output to ours, through a pipe: nginx opens /dev/stdout anew, and a PUN holds no file of root's."""
    while data := os.read(output.fileno(), 64 * 1024):
        os.write(2, data)
    output.close()


def serve(config: Config) -> None:
    """Run the whole portal. Raises CannotServe, FolderError."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="punway serve: %(message)s")
    Supervisor(config).run()
