"""``punway serve``: a supervisor in the foreground, with spawner, hook, relay, MCP server and nginx as its children.

Containers, tests and the demo use it; on a host with systemd, its units do the same. A child that ends is restarted.
SIGTERM and SIGINT end all of them.

Standard output is the audit log: lines of JSON from the hook and nginx, and nothing else. All other output goes to
standard error, in whole lines. Lines of PUNs begin with PUNS_PREFIX, so that none of them passes for a line of another
part.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

from proxy_hook.config import ENVIRONMENT, Config, interpreter
from punway.errors import CannotServe
from punway.folders import nginx_group, prepare
from punway.nginx_program import find_nginx

MIN_RESTART_DELAY_S, MAX_RESTART_DELAY_S = 1.0, 30.0
"""The delay before a restart doubles each time, and is the shortest again after a child has run for the longest."""
STOP_TIMEOUT_S = 20.0
AUDIT, LOG = 1, 2
"""The supervisor's own standard output and standard error."""
MAX_LINE_BYTES = 256 * 1024
"""A longer line is passed on in pieces."""
PUNS_PREFIX = b"puns | "
_CONTROL = bytes(byte if (byte >= 0x20 and byte != 0x7F) or byte in b"\t\n" else ord("?") for byte in range(256))

log = logging.getLogger("punway.serve")
_locks = {AUDIT: threading.Lock(), LOG: threading.Lock()}


@dataclass
class Part:
    """A child of the supervisor.

    Its standard output goes to descriptor ``output``, with ``prefix`` before each line. ``start_at`` is when it was or
    will be started. ``delay`` is in seconds, before the next restart.
    """

    name: str
    argv: list[str]
    output: int = LOG
    prefix: bytes = b""
    process: subprocess.Popen[bytes] | None = None
    start_at: float = field(default_factory=time.monotonic)
    delay: float = MIN_RESTART_DELAY_S


class Supervisor:
    """A process that starts the parts of the portal and restarts those that end.

    ``clock`` returns seconds.
    """

    def __init__(self, parts: list[Part], clock: Callable[[], float] = time.monotonic) -> None:
        self._parts, self._clock = parts, clock
        self.is_stopping = False
        self._has_failed = False

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises CannotServe if the output of a part cannot be passed on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        try:
            while not self.is_stopping:
                self.check()
                time.sleep(0.1)
        finally:
            self._end()
        if self._has_failed:
            raise CannotServe("the portal could not write its logs, so it has stopped; see the error above")

    def _stop(self, *_: object) -> None:
        self.is_stopping = True

    def check(self) -> None:
        """Start each part that is due, and note which parts have ended."""
        now = self._clock()
        for part in self._parts:
            if part.process and part.process.poll() is not None:
                if now > part.start_at + MAX_RESTART_DELAY_S:
                    part.delay = MIN_RESTART_DELAY_S
                code, delay = part.process.returncode, part.delay
                log.error("%s ended with %s; restarting it in %d s", part.name, code, delay)
                part.process, part.start_at, part.delay = None, now + delay, min(2 * delay, MAX_RESTART_DELAY_S)
            if part.process is None and now >= part.start_at:
                self._start(part)

    def _start(self, part: Part) -> None:
        # In a session of its own: Ctrl-C at the terminal reaches only the supervisor, which stops the parts in order.
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
        """Copy a child's output to ours until the child ends.

        The children write to pipes, because nginx opens /dev/stdout again and a PUN may hold no file of root's. A part
        whose output nobody reads would block, so if this fails the whole portal ends, and whoever runs it restarts it.
        """
        try:
            with stream:
                pass_on(stream.fileno(), to, prefix)
        except BaseException:
            self._has_failed = self.is_stopping = True
            log.exception("failed to pass on the output of %s; stopping the portal", threading.current_thread().name)

    def _end(self) -> None:
        """Stop all parts, nginx first so that no new requests arrive."""
        for part in reversed(self._parts):
            if part.process is None:
                continue
            part.process.terminate()
            try:
                part.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                log.error("%s does not stop; killing it", part.name)
                part.process.kill()
                part.process.wait()


def pass_on(source: int, to: int, prefix: bytes) -> None:
    """Copy lines from one descriptor to another, each in one write, with ``prefix`` before it.

    In lines with a prefix, which users' processes have written, control characters are replaced by question marks.
    """
    rest = b""
    while data := os.read(source, 64 * 1024):
        *lines, rest = (rest + data).split(b"\n")
        while len(rest) > MAX_LINE_BYTES:
            lines, rest = [*lines, rest[:MAX_LINE_BYTES]], rest[MAX_LINE_BYTES:]
        _write(lines, to, prefix)
    _write([rest] if rest else [], to, prefix)


def _write(lines: list[bytes], to: int, prefix: bytes) -> None:
    """Write whole lines to a descriptor that several threads share."""
    for line in lines:
        whole = (prefix + line.translate(_CONTROL) if prefix else line) + b"\n"
        with _locks.setdefault(to, threading.Lock()):
            while whole:
                whole = whole[os.write(to, whole) :]


def serve(config: Config) -> None:
    """Run the whole portal until SIGTERM or SIGINT. Raises CannotServe, FolderError."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="punway serve: %(message)s")
    prepare(config)
    if not config.single_user:
        nginx_group(config)
    find_nginx()
    Supervisor(parts_of(config)).run()


def parts_of(config: Config) -> list[Part]:
    """Return the parts of the portal, in the order of their start."""
    punway = [interpreter(), "-I", "-m", "punway.cli"]
    options = ["-c", str(config.source.absolute())]
    parts = [
        Part("spawner", [*punway, "spawner", *options], LOG, PUNS_PREFIX),
        Part("hook", [*punway, "hook", *options], AUDIT),
        Part("relay", [*punway, "relay", *options]),
    ]
    if config.has_mcp:
        parts.append(Part("mcp", [*punway, "mcp-server", *options]))
    elif config.mcp.enabled:
        log.warning("starting without the MCP server: the user %s (mcp.user) does not exist", config.mcp.user)
    parts.append(Part("nginx", [*punway, "nginx", *options], AUDIT))
    return parts
