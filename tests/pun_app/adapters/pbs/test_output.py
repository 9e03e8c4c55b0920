"""pun_app/adapters/pbs/output.py."""

from __future__ import annotations

import pytest

from pun_app.adapters.model import OutputFiles
from pun_app.adapters.pbs.output import output_files


@pytest.mark.parametrize(
    ("job_id", "paths", "join_path", "expected"),
    [
        ("7.vm", ("vm:/o", "vm:/e"), "n", ("/o", "/e")),
        ("7.vm", ("vm:/o", "vm:/e"), "oe", ("/o", "/o")),
        ("7.vm", ("vm:/o", "vm:/e"), "eo", ("/e", "/e")),
        ("7[3].vm", ("vm:/o.^array_index^", "vm:/f/"), "n", ("/o.3", "/f/7[3].vm.ER")),
    ],
    ids=["separate", "joined in the output", "joined in the errors", "task and folder"],
)
def test_output_paths(job_id: str, paths: tuple[str, str], join_path: str, expected: tuple[str, str]) -> None:
    """The host before a path is left out, and a task has its index in its path."""
    assert output_files(job_id, *paths, join_path, "n") == OutputFiles(*expected, at_end=True)


def test_files_that_are_kept_on_the_jobs_host_exist_at_once() -> None:
    """Otherwise they are in the spool folder of PBS until the job ends."""
    assert output_files("7.vm", "vm:/o", "vm:/e", "n", "oe").at_end is False
