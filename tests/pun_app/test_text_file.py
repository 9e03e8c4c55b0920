"""Tests of pieces of files: whole characters, the complete file, and no hang on a FIFO."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pun_app.errors import Refused
from pun_app.text_file import NoFile, last_lines, piece

TEXT = st.text(alphabet=st.sampled_from("aé€😀\n\0"), max_size=60)


def write(folder: Path, content: bytes) -> str:
    path = folder / "f"
    path.write_bytes(content)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("f")


@given(text=TEXT, limit=st.integers(1, 9))
def test_pieces_put_together_are_the_file(folder: Path, text: str, limit: int) -> None:
    """This holds for every size of the pieces, whether the file may grow or not."""
    for may_grow in (False, True):
        path, read, offset = write(folder, text.encode()), "", 0
        while offset < len(text.encode()):
            part = piece(path, offset, limit, may_grow=may_grow)
            assert (part.offset, part.lossy) == (offset, False)
            assert part.next_offset > offset
            read, offset = read + part.text, part.next_offset
        assert read == text


@given(content=st.binary(max_size=80), limit=st.integers(1, 9))
def test_bytes_that_are_not_utf8_are_read_to_the_end(folder: Path, content: bytes, limit: int) -> None:
    """Each piece starts where the last one ended, up to the end of the file."""
    path, offset, seen = write(folder, content), 0, 0
    while offset < len(content):
        part = piece(path, offset, limit, may_grow=False)
        assert part.next_offset > offset
        seen += part.next_offset - part.offset
        offset = part.next_offset
    assert seen == len(content)


@given(text=TEXT, lines=st.integers(1, 5), offset=st.integers(0, 40))
def test_the_last_lines_of_a_piece(folder: Path, text: str, lines: int, offset: int) -> None:
    """Their offset is right, and the next piece follows them."""
    path = write(folder, text.encode())
    part = piece(path, offset, 20, may_grow=False)
    last = part.last(lines)
    assert last.next_offset == part.next_offset and part.text.endswith(last.text)
    assert last.text == "".join(_lines(part.text)[-lines:])
    assert text.encode()[last.offset : last.next_offset].decode() == last.text


@given(text=TEXT, lines=st.integers(1, 5))
def test_the_last_lines(folder: Path, text: str, lines: int) -> None:
    part = last_lines(write(folder, text.encode()), lines, 1000, may_grow=False)
    assert part.text == "".join(text.splitlines(keepends=True)[-lines:] if "\0" not in text else _lines(text)[-lines:])
    assert part.next_offset == part.size == len(text.encode())


def _lines(text: str) -> list[str]:
    parts = text.split("\n")
    return [f"{part}\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def test_last_lines_of_a_large_file(tmp_path: Path) -> None:
    """The file is read from its end. A line longer than the limit begins in its middle, with a whole character."""
    rows = [f"{n} {'ö' * random.Random(n).randrange(900)}" for n in range(3000)]
    path = write(tmp_path, "\n".join(rows).encode() + b"\n")
    assert last_lines(path, 1500, 2**30, may_grow=True).text == "\n".join(rows[-1500:]) + "\n"
    cut = last_lines(write(tmp_path, "€".encode() * 1000), 5, 100, may_grow=False)
    assert (cut.text, cut.lossy) == ("€" * 33, False)


@pytest.mark.parametrize(
    ("content", "lines", "most", "shown", "truncated"),
    [
        (b"10%\r50%\r100%\n", 5, 100, "100%\n", True),
        (b"10%\r50%", 5, 100, "50%", True),
        (b"10%\r50%\r", 5, 100, "50%\r", True),  # Written, and about to be written over.
        (b"50%\r", 5, 100, "50%\r", False),
        (b"\r50%\r\n", 5, 100, "50%\r\n", True),
        (b"one\r\ntwo\r\n", 5, 100, "one\r\ntwo\r\n", False),
        (b"1\r2\r\r\n\r\n", 5, 100, "2\r\r\n\r\n", True),
        ("ä\r€\n😀\rö".encode(), 5, 100, "€\nö", True),
        (b"a\nb\nc\n", 2, 100, "b\nc\n", False),  # What is before was not asked for.
        (b"a\nb\nc\n", 3, 4, "b\nc\n", True),
        (b"a\nbcd\n", 3, 3, "cd\n", True),
        ("a\n€€\n".encode(), 3, 5, "€\n", True),
        (b"\r\r\r", 5, 2, "\r\r", True),
        (b"\n\n\n", 2, 100, "\n\n", False),
        (b"", 5, 100, "", False),
    ],
)
def test_the_last_lines_as_a_terminal_shows_them(
    tmp_path: Path, content: bytes, lines: int, most: int, shown: str, truncated: bool
) -> None:
    part = last_lines(write(tmp_path, content), lines, most, may_grow=False)
    assert (part.text, part.truncated) == (shown, truncated)
    assert content[part.offset :].startswith(shown[: shown.find("\n") + 1 or None].encode())
    assert (part.next_offset, part.size, part.lossy) == (len(content), len(content), False)


def test_a_progress_bar_of_a_megabyte_is_one_line(tmp_path: Path) -> None:
    """The lines before it are there, too, and pieces are exact."""
    bar = b"".join(b"\r%7.3f %% %s" % (n / 100, b"#" * (n // 200)) for n in range(10_001))
    content = b"started\n" + bar + b"\ndone\n"
    path = write(tmp_path, content)
    part = last_lines(path, 100, 8192, may_grow=True)
    assert (part.text, part.truncated) == (f"started\n100.000 % {'#' * 50}\ndone\n", True)
    assert (part.offset, part.next_offset) == (0, len(content))
    exact = piece(path, 0, 1000, may_grow=True)
    assert (exact.text.encode(), exact.truncated) == (content[:1000], False)


def test_a_line_beyond_the_bound_is_there_with_its_end(tmp_path: Path) -> None:
    """There are as many lines as fit into the limit, whatever the size of the file."""
    path = write(tmp_path, b"x" * 3_000_000 + "€".encode() * 1000 + b"\nend\n")
    part = last_lines(path, 100, 64, may_grow=False)
    assert (part.text, part.truncated) == ("€" * 19 + "\nend\n", True)
    assert part.offset == part.size - len(part.text.encode())


def test_an_unfinished_character_waits_for_its_end(tmp_path: Path) -> None:
    """This holds while the job may still write the rest."""
    path = write(tmp_path, b"ab\xe2\x82")
    assert (piece(path, 0, 10, may_grow=True).text, piece(path, 0, 10, may_grow=True).next_offset) == ("ab", 2)
    assert last_lines(path, 5, 100, may_grow=True).next_offset == 2
    ended = piece(path, 0, 10, may_grow=False)
    assert (ended.text, ended.lossy, ended.next_offset) == ("ab�", True, 4)


def test_an_offset_in_the_middle_of_a_character(tmp_path: Path) -> None:
    part = piece(write(tmp_path, "€uro".encode()), 1, 10, may_grow=False)
    assert (part.text, part.offset, part.lossy) == ("uro", 3, False)


def test_a_file_that_is_shorter_than_the_offset(tmp_path: Path) -> None:
    part = piece(write(tmp_path, b"abc"), 10, 10, may_grow=True)
    assert (part.text, part.next_offset, part.size) == ("", 0, 3)


def test_a_path_that_is_not_a_regular_file(tmp_path: Path) -> None:
    """A FIFO, a folder and a device are rejected at once."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        with pytest.raises(Refused, match="not a regular file|cannot be read"):
            last_lines(str(path), 5, 100, may_grow=True)
    for path in (tmp_path / "none", Path(write(tmp_path, b"")) / "below"):
        with pytest.raises(NoFile):
            piece(str(path), 0, 5, may_grow=True)
    (tmp_path / "loop").symlink_to("loop")
    for name in (str(tmp_path / "loop"), "/tmp/" + "x" * 5000, "/tmp/\0"):
        with pytest.raises(Refused):
            piece(name, 0, 5, may_grow=True)


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, b"x\n" * 100_000)
    real = os.fstat

    def then_cut(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        os.truncate(path, 10)
        return status

    monkeypatch.setattr(os, "fstat", then_cut)
    assert last_lines(path, 50_000, 2**20, may_grow=True).text == ""
    write(tmp_path, b"y\n" * 100_000)
    assert piece(path, 0, 1000, may_grow=True).text == "y\n" * 5
