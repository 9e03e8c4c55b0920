"""``punway serve``: spawner, hook, relay, MCP server and nginx as children of one supervising process, in foreground.

For containers, tests and the demo; on a host with systemd its units do this. A child that ends is started
again; SIGTERM and SIGINT end them all.

Standard output is the audit log: lines of JSON from the hook and nginx, and nothing else. Everything else goes to
standard error, in whole lines; those of users' processes begin with PUNS, so that none passes for another part's.
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

from proxy_hook.config import ENVIRONMENT, Config, interpreter
from punway.errors import CannotServe
from punway.folders import nginx_group, prepare
from punway.nginx_program import find_nginx

AGAIN_AFTER, LONGEST_INTERVAL = 1.0, 30.0
"""Seconds before a child that has ended is started again: twice as many each time, until it has run for the longest."""
END_TIME = 20.0
AUDIT, LOG = 1, 2
"""The supervisor's own descriptors."""
LINE_LENGTH = 256 * 1024
"""Greatest length of a line, in bytes; a longer one is passed on in pieces."""
PUNS = b"puns | "
_CONTROL = bytes(byte if (byte >= 0x20 and byte != 0x7F) or byte in b"\t\n" else ord("?") for byte in range(256))

log = logging.getLogger("punway.serve")
_writing = {AUDIT: threading.Lock(), LOG: threading.Lock()}


@dataclass
class Part:
    """One child of the supervisor.

    Its standard output is passed on to descriptor ``output``, with ``prefix`` before each line.
    """

    name: str
    argv: list[str]
    output: int = LOG
    prefix: bytes = b""
    process: subprocess.Popen[bytes] | None = None
    start_at: float = field(default_factory=time.monotonic)
    interval: float = AGAIN_AFTER


class Supervisor:
    """Starts the parts, and keeps them."""

    def __init__(self, config: Config) -> None:
        prepare(config)
        if not config.single_user:
            nginx_group(config)
        find_nginx()
        punway = [interpreter(), "-I", "-m", "punway.cli"]
        given = ["-c", str(config.source.absolute())]
        self._parts = [
            Part("spawner", [*punway, "spawner", *given], LOG, PUNS),
            Part("hook", [*punway, "hook", *given], AUDIT),
            Part("relay", [*punway, "relay", *given]),
        ]
        if config.has_mcp:
            self._parts.append(Part("mcp", [*punway, "mcp-server", *given]))
        elif config.mcp.enabled:
            log.warning("there is no user %s (mcp.user), so there is no MCP server; see punway check", config.mcp.user)
        self._parts.append(Part("nginx", [*punway, "nginx", *given], AUDIT))
        self._leaving = self._failed = False

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises CannotServe when the output can no longer be passed on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._leave)
        try:
            while not self._leaving:
                self._look()
                time.sleep(0.1)
        finally:
            self._end()
        if self._failed:
            raise CannotServe("the output of the portal's parts could not be passed on")

    def _leave(self, *_: object) -> None:
        self._leaving = True

    def _look(self) -> None:
        now = time.monotonic()
        for part in self._parts:
            if part.process and part.process.poll() is not None:
                if now > part.start_at + LONGEST_INTERVAL:
                    part.interval = AGAIN_AFTER
                code, wait = part.process.returncode, part.interval
                log.error("%s ended with %s; it is started again in %d s", part.name, code, wait)
                part.process, part.start_at, part.interval = None, now + wait, min(2 * wait, LONGEST_INTERVAL)
            if part.process is None and now >= part.start_at:
                self._start(part)

    def _start(self, part: Part) -> None:
        # In a session of its own: an interrupt at the terminal is for the supervisor to pass on.
        part.process = subprocess.Popen(
            part.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        for stream, to, prefix in ((part.process.stdout, part.output, part.prefix), (part.process.stderr, LOG, b"")):
            assert stream is not None
            threading.Thread(target=self._pass_on, args=(stream, to, prefix), name=part.name, daemon=True).start()

    def _pass_on(self, stream: IO[bytes], to: int, prefix: bytes) -> None:
        """Pass a child's output on to ours until the child ends.

        Through a pipe: nginx opens /dev/stdout again, and a PUN holds no file of root's. A part whose output nobody
        takes would stand still, so when this fails the whole portal ends, and whoever runs it starts it again.
        """
        try:
            with stream:
                pass_on(stream.fileno(), to, prefix)
        except BaseException:
            self._failed = self._leaving = True
            log.exception("the output of %s cannot be passed on; the portal ends", threading.current_thread().name)

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


def pass_on(source: int, to: int, prefix: bytes) -> None:
    """Pass lines on, each in one write, with a prefix. Of lines with one, control characters are replaced.

    Without a look at what they say: a user's process may have written them.
    """
    rest = b""
    while data := os.read(source, 64 * 1024):
        *lines, rest = (rest + data).split(b"\n")
        while len(rest) > LINE_LENGTH:
            lines, rest = [*lines, rest[:LINE_LENGTH]], rest[LINE_LENGTH:]
        _write(lines, to, prefix)
    _write([rest] if rest else [], to, prefix)


def _write(lines: list[bytes], to: int, prefix: bytes) -> None:
    for line in lines:
        whole = (prefix + line.translate(_CONTROL) if prefix else line) + b"\n"
        with _writing[to]:
            while whole:
                whole = whole[os.write(to, whole) :]


def serve(config: Config) -> None:
    """Run the whole portal. Raises CannotServe, FolderError."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="punway serve: %(message)s")
    Supervisor(config).run()
