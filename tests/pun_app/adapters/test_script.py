"""pun_app/adapters/script.py: what is found in a script, and the one line that is put into it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import JobRequest
from pun_app.adapters.script import in_workdir, interpreter, last_option


def changed(content: str, workdir: str = "/tmp") -> str:
    return in_workdir(JobRequest(content=content, workdir=workdir), '"$PBS_O_WORKDIR"', "PBS_O_WORKDIR", "PBS")


@pytest.mark.parametrize(
    "shell",
    [
        "/bin/sh",
        "/bin/bash -l",
        "/usr/bin/env bash",
        "/usr/bin/env -S bash -e",
        "/bin/tcsh",
        "/bin/zsh",
        "/bin/ksh",
        "/bin/dash",
    ],
)
def test_a_shell_script_changes_to_its_directory(shell: str) -> None:
    """Behind the directives, which end at the first command, and before that."""
    content = f"#!{shell}\n#PBS -l ncpus=1\n\n# a comment\necho one\necho two\n"
    assert changed(content) == content.replace("echo one", 'cd "$PBS_O_WORKDIR" || exit 1\necho one')


def test_a_shell_really_does(tmp_path: Path) -> None:
    folder = tmp_path / "a dir"
    folder.mkdir()
    for shell in ("sh", "bash"):
        script = changed(f"#!/bin/{shell}\n#PBS -N x\npwd\n", str(folder))
        done = subprocess.run(
            [shell], input=script, env={"PBS_O_WORKDIR": str(folder)}, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"{folder}\n"


def test_what_needs_no_line_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The home; a script that looks after it itself, of whatever kind; one of comments alone; one without a first line."""
    monkeypatch.setenv("HOME", "/tmp")
    assert changed("#!/bin/sh\npwd\n") == "#!/bin/sh\npwd\n"
    monkeypatch.setenv("HOME", "/")
    own = "#!/usr/bin/python3\nimport os\nos.chdir(os.environ['PBS_O_WORKDIR'])\n"
    assert changed(own) == own
    assert changed("#!/bin/sh\n# nothing\n") == "#!/bin/sh\n# nothing\n"
    assert changed("echo one\n") == 'cd "$PBS_O_WORKDIR" || exit 1\necho one\n'


@pytest.mark.parametrize(
    "first", ["#!/usr/bin/python3", "#!/usr/bin/env python3", "#!/usr/bin/perl -w", "#!/opt/fish/fisher"]
)
def test_another_kind_of_script_is_refused(first: str) -> None:
    with pytest.raises(Rejected, match="PBS_O_WORKDIR"):
        changed(f"{first}\nprint()\n")


@pytest.mark.parametrize(
    ("first", "found"),
    [("#!/bin/bash", "/bin/bash"), ("#! /bin/sh", "/bin/sh"), ("#!/usr/bin/env bash", None), ("#!/bin/bash -l", None), ("echo", None), ("", None),
     ("#!/usr/bin/env", None), ("#!bash", None)],
)  # fmt: skip
def test_the_program_of_the_first_line(first: str, found: str | None) -> None:
    assert interpreter(f"{first}\necho\n") == found


def test_what_a_scripts_directives_give() -> None:
    content = '#!/bin/sh\n#BSUB -Jd \'first one\'\n#BSUB -Jd "the last" # said twice\n# #BSUB -Jd no\n#BSUB -q "unclosed\n#SBATCH --comment=x\n'
    request = JobRequest(content=content, workdir="/")
    assert last_option(request, "#BSUB", "-Jd") == "the last"
    assert last_option(request, "#SBATCH", "--comment") == "x"
    assert last_option(request, "#BSUB", "-o") == ""
