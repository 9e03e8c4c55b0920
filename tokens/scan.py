"""A search for leaked tokens in files. It reports a text that looks like a token by its hash, never by the text itself.

It runs with the privilege of its caller, and searches the files that this user can read.
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

# The size of the pieces in which a file is read. A token that crosses the end of a piece is found with the next piece.
READ_BYTES = 1024 * 1024
# The pattern excludes parts of longer runs of hex digits, such as a SHA-512. A token may follow an encoded space, as in
# Bearer%20, although that ends with a digit.
TOKEN_PATTERN = re.compile(rb"(?:(?<![0-9a-f])|(?<=%[0-9A-Fa-f]{2}))[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True)
class Found:
    """A text that looks like a token: its file, its line (counted from 1), and its hash."""

    path: str
    line: int
    sha256: str


def find(paths: Iterable[Path], on_error: Callable[[Path, OSError], None]) -> Iterator[Found]:
    """Yield every text that looks like a token, from the given files and all files below the given directories.

    Symbolic links and special files below a directory are skipped. ``on_error`` is called for each file or directory
    that cannot be read.
    """
    for path in _files(paths, on_error):
        try:
            # Opening a FIFO would block forever without O_NONBLOCK.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                yield from scan(file, str(path))
        except OSError as error:
            on_error(path, error)


def scan(file: BinaryIO, name: str, read_bytes: int = READ_BYTES) -> Iterator[Found]:
    """Yield every text that looks like a token, from one open file. ``name`` becomes ``Found.path``."""
    line, text, searched = 1, b"", 0
    while True:
        piece = file.read(read_bytes) or b""
        # Keep three bytes before the unsearched part: TOKEN_PATTERN looks at what precedes a token.
        kept = max(searched - 3, 0)
        line += text.count(b"\n", 0, kept)
        text, start = text[kept:] + piece, searched - kept
        # Keep the last bytes, as many as a token has, and search them together with the next piece.
        searched = max(start, len(text) - 65) if piece else len(text)
        counted = 0
        lines = line
        for match in TOKEN_PATTERN.finditer(text, start):
            if match.start() >= searched:
                break
            lines += text.count(b"\n", counted, match.start())
            counted = match.start()
            yield Found(name, lines, sha256_of(match[0].decode()))
        if not piece:
            return


def _files(paths: Iterable[Path], on_error: Callable[[Path, OSError], None]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, _, names in os.walk(path, onerror=lambda error: on_error(Path(str(error.filename)), error)):
            for name in sorted(names):
                below = Path(folder, name)
                try:
                    if stat.S_ISREG(below.lstat().st_mode):
                        yield below
                except OSError as error:
                    on_error(below, error)
