"""Tokens that stand in files: texts of a token's form, told by their hash. No secret leaves this module.

Runs with its caller's own privilege, over what that user can read.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tokens.token import sha256_of

# As much as is read at once; a token that a piece's end cuts is read with the next piece.
READ_BYTES = 1024 * 1024
# Not a part of a longer run, such as a SHA-512; but it may follow an encoded blank, as in Bearer%20.
TOKEN_PATTERN = re.compile(rb"(?:(?<![0-9a-f])|(?<=%[0-9A-Fa-f]{2}))[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True)
class Found:
    """A text of a token's form: in which file, on which line (from 1), and its hash."""

    path: str
    line: int
    sha256: str


def find(paths: Iterable[Path], trouble: Callable[[Path, OSError], None]) -> Iterator[Found]:
    """Every text of a token's form in files, and in all files below directories.

    Symbolic links below a directory are not followed; what is no regular file there is passed over. A file
    that cannot be read is told to ``trouble``.
    """
    for path in _files(paths, trouble):
        try:
            # A FIFO that was named would hold the caller for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                yield from scan(file, str(path))
        except OSError as error:
            trouble(path, error)


def scan(file: BinaryIO, name: str) -> Iterator[Found]:
    """The same in one open file."""
    line, text, judged = 1, b"", 0
    while True:
        piece = file.read(READ_BYTES) or b""
        # Three bytes before what is not judged yet are kept: what a token follows.
        kept = max(judged - 3, 0)
        line += text.count(b"\n", 0, kept)
        text, start = text[kept:] + piece, judged - kept
        # What is within a token's length of the end is judged with what follows it.
        judged = max(start, len(text) - 65) if piece else len(text)
        counted = 0
        lines = line
        for match in TOKEN_PATTERN.finditer(text, start):
            if match.start() >= judged:
                break
            lines += text.count(b"\n", counted, match.start())
            counted = match.start()
            yield Found(name, lines, sha256_of(match[0].decode()))
        if not piece:
            return


def _files(paths: Iterable[Path], trouble: Callable[[Path, OSError], None]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, _, names in os.walk(path, onerror=lambda error: trouble(Path(str(error.filename)), error)):
            for name in sorted(names):
                below = Path(folder, name)
                try:
                    if stat.S_ISREG(below.lstat().st_mode):
                        yield below
                except OSError as error:
                    trouble(below, error)
