"""punway/serve.py: what becomes of the parts' output, and of parts that keep ending."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from punway import serve
from punway.serve import PUNS, Part, Supervisor, pass_on


def passed(monkeypatch: pytest.MonkeyPatch, prefix: bytes, *written: bytes) -> bytes:
    """What comes out of what was written, each in a write of its own."""
    source, theirs = os.pipe()
    ours, to = os.pipe()
    monkeypatch.setitem(serve._writing, to, threading.Lock())
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
    ids=["a line", "in two writes", "without an end", "control characters", "empty", "text"],
)
def test_each_line_of_a_pun_is_marked(monkeypatch: pytest.MonkeyPatch, written: list[bytes], came: bytes) -> None:
    """However it is written, and whatever a terminal would make of it."""
    assert passed(monkeypatch, PUNS, *written) == came


def test_a_line_without_end_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes in pieces, each marked."""
    monkeypatch.setattr(serve, "LINE_LENGTH", 100)
    came = passed(monkeypatch, PUNS, b"x" * 1000)
    assert came.splitlines() == [PUNS + b"x" * 100] * 10


def test_the_lines_of_other_parts_are_whole_and_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    assert passed(monkeypatch, b"", b'{"a": 1}\n{"b"', b": 2}\n") == b'{"a": 1}\n{"b": 2}\n'


@pytest.fixture
def supervisor() -> Callable[[list[Part]], Any]:
    def make(parts: list[Part]) -> Supervisor:
        supervisor = Supervisor.__new__(Supervisor)
        supervisor._parts, supervisor._leaving, supervisor._failed = parts, False, False
        return supervisor

    return make


def test_a_part_that_keeps_ending_is_started_less_and_less_often(
    supervisor: Callable[[list[Part]], Supervisor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Twice the interval each time up to the longest, said in the log; one that ran for long begins again."""
    part = Part("x", ["/bin/false"], interval=1.0)
    supervised = supervisor([part])
    waits = []
    for _ in range(7):
        part.start_at = time.monotonic()
        supervised._look()
        assert part.process
        part.process.wait()
        supervised._look()
        waits.append(round(part.start_at - time.monotonic()))
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    assert "x ended with 1; it is started again in 30 s" in caplog.text
    part.start_at = time.monotonic()
    supervised._look()
    assert part.process
    part.process.wait()
    part.start_at -= 31
    supervised._look()
    assert round(part.start_at - time.monotonic()) == 1


def test_a_part_is_given_an_environment_built_from_nothing(
    supervisor: Callable[[list[Part]], Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that the caller has: no proxy, no PYTHONPATH, no LD_PRELOAD."""
    for name in ("HTTPS_PROXY", "PYTHONPATH", "LD_LIBRARY_PATH", "SECRET"):
        monkeypatch.setenv(name, "/of-the-caller")
    ours, to = os.pipe()
    monkeypatch.setitem(serve._writing, to, threading.Lock())
    part = Part("x", ["/usr/bin/env"], output=to)
    supervisor([part])._look()
    for thread in [thread for thread in threading.enumerate() if thread.name == "x"]:
        thread.join()
    os.close(to)
    with os.fdopen(ours) as output:
        assert {line.partition("=")[0] for line in output} == {"PATH", "LANG"}
    assert part.process
    part.process.wait()


def test_output_that_cannot_be_passed_on_ends_the_portal(
    supervisor: Callable[[list[Part]], Supervisor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No thread ends silently: without a reader a part would stand still, so whoever runs the portal is told."""
    ours, to = os.pipe()
    os.close(ours)
    monkeypatch.setitem(serve._writing, to, threading.Lock())
    part = Part("x", ["/bin/echo", "said"], output=to)
    supervised = supervisor([part])
    supervised._look()
    for thread in [thread for thread in threading.enumerate() if thread.name == "x"]:
        thread.join()
    os.close(to)
    assert part.process
    part.process.wait()
    assert supervised._leaving
    assert supervised._failed
    assert "the output of x cannot be passed on" in caplog.text
