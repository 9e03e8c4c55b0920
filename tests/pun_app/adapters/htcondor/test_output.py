"""pun_app/adapters/htcondor/output.py."""

from __future__ import annotations

from typing import Any

import pytest

from pun_app.adapters.htcondor.condor_q import Ad
from pun_app.adapters.htcondor.output import output_files
from pun_app.adapters.model import OutputFiles


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ({"output": "o", "error": "/e"}, ("/home/a/o", "/e")),
        ({"output": "/dev/null", "error": None}, (None, None)),
    ],
    ids=["relative and absolute", "discarded"],
)
def test_output_paths(paths: dict[str, Any], expected: tuple[str | None, str | None]) -> None:
    """A relative path begins in the job's directory. HTCondor writes the files when the job ends."""
    assert output_files(Ad(workdir="/home/a", **paths)) == OutputFiles(*expected, at_end=True)
