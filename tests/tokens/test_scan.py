"""tokens/scan.py: texts that look like a token are found anywhere in a file, and reported by their hash."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokens.scan import TOKEN_PATTERN, Found, find, scan
from tokens.token import sha256_of

SECRET = "0123456789abcdef" * 4
HASH = sha256_of(SECRET)


def found(text: str | bytes) -> list[int]:
    data = text.encode() if isinstance(text, str) else text
    return [place.line for place in scan(io.BytesIO(data), "x") if place.sha256 == HASH]


@pytest.mark.parametrize(
    ("text", "lines"),
    [(SECRET, [1]), (f"TOKEN={SECRET}\n", [1]), (f"a\nb\n'{SECRET}'", [3]), (f"{SECRET}\n{SECRET}", [1, 2]),
     (f"Bearer%20{SECRET}%22", [1]), (f'"x\\n{SECRET}\\n"', [1]), (f"my_token_{SECRET}_x", [1]), (f"xyz{SECRET}xyz", [1]),
     (b"\0\xff\xfe" + SECRET.encode() + b"\0", [1]), ("", []), (SECRET[:-1], []), (SECRET + "0", []),
     ("0" + SECRET, []), (SECRET.upper(), []), (SECRET[:32] + "\n" + SECRET[32:], [])],
    ids=["alone", "assigned", "quoted on line 3", "on two lines", "URL-encoded", "JSON-escaped", "between underscores",
         "between letters", "in binary", "empty file", "one digit short", "one digit more", "one digit before",
         "upper case", "broken over two lines"],
)  # fmt: skip
def test_where_a_token_stands(text: str | bytes, lines: list[int]) -> None:
    assert found(text) == lines


@settings(max_examples=300)
@given(
    piece=st.integers(1, 200),
    parts=st.lists(st.sampled_from([SECRET, SECRET[:63], SECRET + "a", "\n", " ", "%20", "%3d", "x", "a", ""]), max_size=12),
)  # fmt: skip
def test_it_does_not_matter_how_the_file_is_read(piece: int, parts: list[str]) -> None:
    """Reading in pieces of any size finds the same as reading the whole text at once."""
    text = "".join(parts)
    expected = [
        (text.count("\n", 0, match.start()) + 1, sha256_of(match[0]))
        for match in re.finditer(TOKEN_PATTERN.pattern.decode(), text)
    ]
    assert [(place.line, place.sha256) for place in scan(io.BytesIO(text.encode()), "x", piece)] == expected


def test_folders_and_what_cannot_be_read(tmp_path: Path) -> None:
    """Every regular file below a folder is read. Links and special files are skipped, and failures are reported."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "deep.env").write_text(f"\n{SECRET}\n")
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b" / "deep.env")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    troubles: list[Path] = []
    places = list(find([tmp_path, tmp_path / "absent", tmp_path / "fifo"], lambda path, _: troubles.append(path)))
    assert places == [Found(str(tmp_path / "a" / "b" / "deep.env"), 2, HASH)]
    assert troubles == [tmp_path / "absent"]
