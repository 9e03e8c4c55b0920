"""pun_app/adapters/directives.py: what is known of a job from its submit alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pun_app.adapters.command import Commands, Output
from pun_app.adapters.command_line import CommandLineAdapter
from pun_app.adapters.directives import asked, lsf_minutes, slurm_time
from pun_app.adapters.lsf.adapter import LsfAdapter
from pun_app.adapters.model import QUEUED, QUEUED_HELD, JobRequest
from pun_app.adapters.pbs.pbspro import PbsProAdapter
from pun_app.adapters.pbs.torque import TorqueAdapter
from pun_app.adapters.registry import ADAPTERS, adapter_class, adapter_for
from pun_app.adapters.sge.adapter import SgeAdapter
from pun_app.adapters.slurm.adapter import SlurmAdapter

SCRIPTS: dict[type[CommandLineAdapter], tuple[str, str]] = {
    SlurmAdapter: ("#SBATCH -J one -p short\n#SBATCH --account=chem --time=2:30\n", "#SBATCH --hold\n"),
    PbsProAdapter: ("#PBS -N one -q short\n#PBS -A chem\n#PBS -l walltime=0:02:30 -l ncpus=1\n", "#PBS -h\n"),
    TorqueAdapter: ("#PBS -N one\n#PBS -q short@server -Achem\n#PBS -l nodes=1:ppn=2,walltime=150\n", "#PBS -h\n"),
    LsfAdapter: ('#BSUB -J "one[1-3]" -Jd words\n#BSUB -q short -P chem\n#BSUB -W 2\n', "#BSUB -H\n"),
    SgeAdapter: ("#$ -N one -q short\n#$ -P chem -l mem=1G,h_rt=150 -cwd\n", "#$ -h\n"),
}
NAMES = {adapter_class(name): name for name in ADAPTERS}
LIMITS: dict[type[CommandLineAdapter], int] = {SlurmAdapter: 180, LsfAdapter: 120}
SUBMITTED: dict[type[CommandLineAdapter], str] = {LsfAdapter: "Job <7> is submitted to queue <short>.\n"}


def answered(cls: type[CommandLineAdapter], request: JobRequest, monkeypatch: pytest.MonkeyPatch) -> object:
    adapter = adapter_for("c", NAMES[cls], {"adapter": "x", "host": "h"})
    monkeypatch.setattr(Commands, "run", lambda *_, **__: Output(0, SUBMITTED.get(cls, "7\n"), ""))
    return adapter.submit(request)


@pytest.mark.parametrize("cls", SCRIPTS, ids=lambda cls: cls.__name__)
def test_a_submit_tells_what_the_script_says(cls: type[CommandLineAdapter], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name, queue, account and wall time, and never queued of a job that the script holds."""
    said, hold = SCRIPTS[cls]
    request = JobRequest(f"#!/bin/sh\n{said}true\n", "/")
    job = answered(cls, request, monkeypatch)
    names = ("name", "queue", "account", "status", "wallclock_limit")
    found = tuple(getattr(job, name) for name in names)
    assert found == ("one", "short", "chem", QUEUED, LIMITS.get(cls, 150))
    held = answered(cls, replace(request, content=f"#!/bin/sh\n{said}{hold}true\n"), monkeypatch)
    assert getattr(held, "status") == QUEUED_HELD  # noqa: B009
    given = replace(request, job_name="two", queue_name="long", accounting_id="bio", wall_time=61)
    job = answered(cls, given, monkeypatch)
    found = tuple(getattr(job, name) for name in names)
    assert found == ("two", "long", "bio", QUEUED, 120 if cls in LIMITS else 61)


SLURM = SlurmAdapter.directives


@pytest.mark.parametrize(
    ("native", "expected"),
    [
        (("-p", "long"), "long"), (("-plong",), "long"), (("--partition=long",), "long"), (("--part", "long"), "long"),
        (("--partition", "a,b"), "a,b"), (("-p",), "short"), (("--parsable",), "short"), (("--p=x",), "short"), (("-N", "2"), "short"),
    ],
)  # fmt: skip
def test_native_options_come_last(native: tuple[str, ...], expected: str) -> None:
    request = JobRequest("#!/bin/sh\n#SBATCH -p fast\n", "/", queue_name="short", native=native)
    assert asked(request, SLURM).queue_name == expected


def test_native_options_may_hold_a_job_and_change_its_time() -> None:
    request = JobRequest("#!/bin/sh\n", "/", wall_time=600)
    assert asked(replace(request, native=("--hold",)), SLURM).is_held
    assert asked(replace(request, native=("-t", "1-0")), SLURM).wall_time == 86_400
    assert asked(replace(request, native=("-t", "UNLIMITED")), SLURM).wall_time is None
    pbs = PbsProAdapter.directives
    assert asked(replace(request, native=("-l", "mem=1gb")), pbs).wall_time == 600
    assert asked(replace(request, native=("-l", "walltime=1:00:00")), pbs).wall_time == 3600


def test_directives_end_with_the_first_command() -> None:
    """But not where the scheduler reads the whole script."""
    content = "#!/bin/sh\n# a comment\n\n{0} one\ntrue\n{0} two\n"
    assert asked(JobRequest(content.format("#SBATCH -J"), "/"), SLURM).job_name == "one"
    assert asked(JobRequest(content.format("#$ -N"), "/"), SgeAdapter.directives).job_name == "two"


def test_a_job_without_a_name_has_the_schedulers() -> None:
    """The name is null for schedulers whose default name is unknown."""
    names = {cls: asked(JobRequest("#!/bin/sh\n", "/"), cls.directives).job_name for cls in SCRIPTS}
    assert names == {
        SlurmAdapter: "sbatch", PbsProAdapter: "STDIN", TorqueAdapter: "STDIN", LsfAdapter: None, SgeAdapter: "STDIN"
    }  # fmt: skip


def test_what_cannot_be_told_is_null() -> None:
    """A pattern of queues; a reservation, which may be a queue; another scheduler's directives, which Slurm reads too."""
    pattern = JobRequest("#!/bin/sh\n#$ -q *@@fast\n", "/")
    assert asked(pattern, SgeAdapter.directives).queue_name is None
    reserved = JobRequest("#!/bin/sh\n#PBS -q short\n", "/", reservation="R1")
    assert asked(reserved, PbsProAdapter.directives).queue_name is None
    foreign = asked(JobRequest("#!/bin/sh\n#SBATCH -p short\n#PBS -N x -h\n", "/"), SLURM)
    assert (foreign.job_name, foreign.queue_name, foreign.is_held) == (None, None, True)
    assert asked(JobRequest("#!/bin/sh\n#SBATCH -J 'unclosed\n", "/"), SLURM).job_name == "sbatch"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 300), ("2:30", 150), ("1:02:03", 3723), ("1-0", 86_400), ("1-2:3", 93_780), ("1-2:3:4", 93_784), ("infinite", 0), ("", 0)],
)  # fmt: skip
def test_slurms_times(text: str, seconds: int) -> None:
    assert slurm_time(text) == seconds


@pytest.mark.parametrize(("text", "seconds"), [("5", 300), ("1:30", 5400), ("10/host1", 600), ("x", 0)])
def test_lsfs_times(text: str, seconds: int) -> None:
    assert lsf_minutes(text) == seconds
