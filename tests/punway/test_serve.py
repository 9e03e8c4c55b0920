"""Tests of punway/serve.py: the output of the portal's parts, and parts that keep ending."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from punway import serve
from punway.errors import CannotServe
from punway.serve import PUNS_PREFIX, Part, Supervisor, pass_on


def passed(prefix: bytes, *written: bytes) -> bytes:
    """Return what pass_on writes for this input, of which each piece is a write of its own."""
    source, theirs = os.pipe()
    ours, to = os.pipe()
    passing = threading.Thread(target=pass_on, args=(source, to, prefix))
    passing.start()
    reading: list[bytes] = []
    reader = threading.Thread(target=lambda: reading.extend(iter(lambda: os.read(ours, 65_536), b"")))
    reader.start()
    for data in written:
        assert os.write(theirs, data) == len(data)
    os.close(theirs)
    passing.join()
    os.close(to)
    reader.join()
    for descriptor in (source, ours):
        os.close(descriptor)
    return b"".join(reading)


@pytest.mark.parametrize(
    ("written", "came"),
    [
        ([b'{"time": "x"}\n'], b'puns | {"time": "x"}\n'),
        ([b'no end\n{"time"', b': "x"}\n'], b'puns | no end\npuns | {"time": "x"}\n'),
        ([b"no end of line"], b"puns | no end of line\n"),
        ([b"a\r{}\n", b"\x1b[2K\x08b\x00c\x7f\td\n"], b"puns | a?{}\npuns | ?[2K?b?c?\td\n"),
        ([b"\n\n"], b"puns | \npuns | \n"),
        (["é\n".encode()], "puns | é\n".encode()),
    ],
    ids=["a line", "in two writes", "without an end", "control characters", "empty", "not ASCII"],
)
def test_each_line_of_a_pun_is_marked(written: list[bytes], came: bytes) -> None:
    """Each line has the prefix, however it is written, and no control characters that a terminal would obey."""
    assert passed(PUNS_PREFIX, *written) == came


def test_a_line_without_end_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line longer than MAX_LINE_BYTES is passed on in pieces, each with the prefix."""
    monkeypatch.setattr(serve, "MAX_LINE_BYTES", 100)
    came = passed(PUNS_PREFIX, b"x" * 1000)
    assert came.splitlines() == [PUNS_PREFIX + b"x" * 100] * 10


def test_the_lines_of_other_parts_are_whole_and_unchanged() -> None:
    """Without a prefix each line is passed on as it is, in one piece."""
    assert passed(b"", b'{"a": 1}\n{"b"', b": 2}\n") == b'{"a": 1}\n{"b": 2}\n'


def run_once(part: Part, supervisor: Supervisor) -> None:
    """Let the supervisor start a part, and wait for the end of the part and of its output."""
    supervisor.check()
    for thread in [thread for thread in threading.enumerate() if thread.name == part.name]:
        thread.join()
    assert part.process
    part.process.wait()


def test_a_part_that_keeps_ending_is_started_less_and_less_often(caplog: pytest.LogCaptureFixture) -> None:
    """The delay before a restart doubles up to the longest; it is the shortest again after a long run."""
    now = 0.0
    part = Part("x", ["/bin/false"], start_at=now)
    supervisor = Supervisor([part], lambda: now)
    delays = []
    for _ in range(7):
        run_once(part, supervisor)
        supervisor.check()
        delays.append(part.start_at - now)
        now = part.start_at
    assert delays == [1, 2, 4, 8, 16, 30, 30]
    assert "x ended with 1; restarting it in 30 s" in caplog.text
    run_once(part, supervisor)
    now += 31
    supervisor.check()
    assert part.start_at - now == 1


def test_a_part_is_given_an_environment_built_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part inherits nothing of the caller's environment: no proxy, no PYTHONPATH, no LD_PRELOAD."""
    for name in ("HTTPS_PROXY", "PYTHONPATH", "LD_LIBRARY_PATH", "SECRET"):
        monkeypatch.setenv(name, "/of-the-caller")
    ours, to = os.pipe()
    part = Part("x", ["/usr/bin/env"], output=to)
    run_once(part, Supervisor([part]))
    os.close(to)
    with os.fdopen(ours) as output:
        assert {line.partition("=")[0] for line in output} == {"PATH", "LANG"}


def test_output_that_cannot_be_passed_on_ends_the_portal(caplog: pytest.LogCaptureFixture) -> None:
    """The portal stops with an error when a part's output has no reader, since the part would block."""
    ours, to = os.pipe()
    os.close(ours)
    part = Part("x", ["/bin/echo", "hello"], output=to)
    supervisor = Supervisor([part])
    run_once(part, supervisor)
    os.close(to)
    assert supervisor.is_stopping
    assert "failed to pass on the output of x" in caplog.text
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(CannotServe, match="could not write its logs"):
            supervisor.run()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
