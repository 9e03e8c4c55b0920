"""pun_app/adapters/lsf/output.py."""

from __future__ import annotations

import pytest

from pun_app.adapters.lsf.long_format import parse_long_format
from pun_app.adapters.lsf.output import output_files
from pun_app.adapters.model import OutputFiles


@pytest.mark.parametrize(
    ("job_id", "files", "expected"),
    [
        ("7", "Output File <%J.out>", ("/home/a/w/7.out", "/home/a/w/7.out")),
        ("7[3]", "Output File <%J.%I.out>, Error File </e.%I>", ("/home/a/w/7.3.out", "/e.3")),
        ("7", "Output File (overwrite) </o>, Error File (overwrite) </e>", ("/o", "/e")),
    ],
    ids=["joined", "task", "overwritten"],
)
def test_output_paths(
    monkeypatch: pytest.MonkeyPatch, job_id: str, files: str, expected: tuple[str | None, str | None]
) -> None:
    """A relative path begins in the directory of the submit. Without a path for errors, both streams are joined."""
    monkeypatch.setenv("HOME", "/home/a")
    text = (
        f"\nJob <{job_id}>, Job Name <x>, User <a>, Project <default>, Status <RUN>, Queue <short>, Command <x>\n"
        f"Sun Nov 22 19:26:59: Submitted from host <vm>, to Queue <short>, CWD <$HOME/w>, {files};\n"
    )
    (record,) = parse_long_format(text)
    assert output_files(record) == OutputFiles(*expected, at_end=True)
