"""The contract of adapters (contract.py) for every scheduler that can run on this machine.

Slurm, Grid Engine and the embedded scheduler are started here, each for its own class. A PBS or an LSF that already runs
on the machine is tested too if an environment variable names it: PUNWAY_TEST_PBS (its exec directory),
PUNWAY_TEST_TORQUE (bin directory:host) or PUNWAY_TEST_LSF (bindir:envdir:serverdir). Select its class with -k.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.contract import SLEEP, TRUE, AdapterContract, Caller, Scheduler
from tests.system.gridengine import PROGRAMS, GridEngine
from tests.system.portal import Client, Portal, User
from tests.system.slurm import SlurmCluster

SGE_COMMANDS = ("qsub", "qstat", "qacct", "qdel", "qhold", "qrls", "qconf", "qhost")
PBS = os.environ.get("PUNWAY_TEST_PBS", "")
TORQUE = os.environ.get("PUNWAY_TEST_TORQUE", "")
LSF = os.environ.get("PUNWAY_TEST_LSF", "")


@pytest.fixture(scope="module")
def gridengine(folder: Path, alice: User, bob: User) -> Iterator[GridEngine]:
    """Start a Grid Engine, and end it after the tests."""
    (folder / "sge").mkdir()
    cell = GridEngine(folder / "sge", [alice.name, bob.name])
    try:
        cell.start()
        yield cell
    finally:
        cell.stop()


def program(path: Path, text: str) -> Path:
    """Write an executable shell script, and return its path."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def silent_submit(folder: Path, name: str, submit: Path | str) -> str:
    """Return the path of a submit command that submits, and then prints nothing and never ends."""
    wrapper = program(folder / f"lost-{name}", f'{submit} "$@" >/dev/null\nexec sleep 100')
    return str(wrapper)


@pytest.fixture(scope="class")
def schedulers(folder: Path, hook_user: str, request: pytest.FixtureRequest) -> Iterator[Portal]:
    """Start a portal with the clusters of one class: its scheduler, and one with a silent submit command."""
    clusters: dict[str, str] = request.cls.clusters(folder, request)
    files = {name: f"v2:\n  job: {{{job}}}\n" for name, job in clusters.items()}
    # A time zone that differs from the schedulers' by hours and half an hour.
    environment = {"environment": {"TZ": "America/St_Johns"}}
    portal = Portal(folder / f"a-{next(iter(clusters))}", hook_user, files, environment)
    try:
        yield portal.start()
    finally:
        portal.stop()


def peak_memory(pid: int) -> int:
    """Return the peak memory of a process, in kB."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0])


@pytest.fixture
def as_scheduler_alice(schedulers: Portal, alice: User) -> Client:
    return schedulers.client(alice)


@pytest.fixture
def as_scheduler_bob(schedulers: Portal, bob: User) -> Client:
    return schedulers.client(bob)


class TestSlurm(AdapterContract):
    @staticmethod
    def clusters(folder: Path, request: pytest.FixtureRequest) -> dict[str, str]:
        job = f"adapter: slurm, bin: /usr/bin, conf: {request.getfixturevalue('slurm').conf}"
        lost = silent_submit(folder, "sbatch", "/usr/bin/sbatch")
        return {"slurm": job, "slurm-lost": f"{job}, bin_overrides: {{sbatch: {lost}}}"}

    @pytest.fixture
    def scheduler(self, slurm: SlurmCluster) -> Scheduler:
        site = {"queues": {"batch": None, "short": 60}, "account": "chem", "native": ["--nice=5"]}
        # The second script holds its own job.
        site["directives"] = ["#SBATCH -J scripted -p batch -A chem -t 0:45", "#SBATCH --hold --job-name=scripted"]
        return Scheduler(
            "slurm", "slurm", "SLURM_ARRAY_TASK_ID", site, stop=slurm.stop_controller, start=slurm.start_controller,
            hang=slurm.hang_controller, resume=slurm.resume_controller, task_id="{number}_{task}",
        )  # fmt: skip

    def test_jobs_of_others_cost_no_memory(
        self, mine: Caller, others: Caller, schedulers: Portal, alice: User, bob: User, slurm: SlurmCluster
    ) -> None:
        """With 100,000 jobs of another user, the PUN neither lists nor reads them."""
        own = mine.submit(SLEEP, hold=True)["job_id"]
        mine.listed()
        before = peak_memory(schedulers.pid_of(alice))
        for _ in range(6):
            others.submit(SLEEP, hold=True, array="1-18000")
        queue = slurm.run("squeue", "--array", "--noheader", f"--user={bob.name}", "--format=%A")
        assert queue.count("\n") > 100_000
        listed = mine.listed()
        assert own in [job["job_id"] for job in listed]
        assert {job["job_owner"] for job in listed} == {alice.name}
        assert mine.job(own)["status"] == "queued_held"
        # Reading them would take hundreds of megabytes.
        assert peak_memory(schedulers.pid_of(alice)) - before < 30_000
        slurm.run("scancel", f"--user={bob.name}")
        mine.cancel(own)


class TestGridEngine(AdapterContract):
    @staticmethod
    def clusters(folder: Path, request: pytest.FixtureRequest) -> dict[str, str]:
        gridengine = request.getfixturevalue("gridengine")
        environment = gridengine.environment.items()
        settings = "".join(f"export {name}={value}\n" for name, value in environment if name != "PATH")
        sge = gridengine.root / "wrapped"
        sge.mkdir()
        for name in SGE_COMMANDS:
            program(sge / name, f'{settings}exec {PROGRAMS}/{name} "$@"')
        job = f"adapter: sge, bin: {sge}, sge_root: {gridengine.root}"
        return {
            "sge": job,
            "sge-lost": f"{job}, bin_overrides: {{qsub: {silent_submit(folder, 'sge', sge / 'qsub')}}}",
        }

    @pytest.fixture
    def scheduler(self, gridengine: GridEngine) -> Scheduler:
        site = {"queues": {"all.q": None, "short.q": 60}, "account": "physics", "native": ["-p", "-5"]}
        site["directives"] = ["#$ -N scripted -q short.q -P physics -l h_rt=45", "#$ -N scripted -h  # hold"]
        return Scheduler(
            "sge", "sge", "SGE_TASK_ID", site, stop=gridengine.stop_master, start=gridengine.start_master,
            hang=gridengine.hang_master, resume=gridengine.resume_master, task_id="{number}.{task}",
        )  # fmt: skip

    def test_a_job_in_the_error_state_cannot_start(self, mine: Caller, alice: User) -> None:
        """Grid Engine tries once, and then leaves the job queued in the state Eqw."""
        job = mine.submit(TRUE, output_path=str(alice.home / "no" / "such" / "folder"))["job_id"]
        stuck = mine.wait(job, lambda now: now["native_state"] == "Eqw")
        assert (stuck["status"], stuck["can_start"]) == ("queued", False)
        assert f"{alice.home}/no/such/folder" in stuck["native_reason"]
        assert "does not try again" in stuck["reason"]
        assert {one["job_id"]: one["can_start"] for one in mine.listed()}[job] is False
        waited = mine.client("GET", f"{mine.path(job)}&wait=100&until=completed")
        assert waited.json()["data"]["can_start"] is False
        mine.cancel(job)


class TestLocal(AdapterContract):
    @staticmethod
    def clusters(folder: Path, request: pytest.FixtureRequest) -> dict[str, str]:
        return {"box": "adapter: local, slots: 4"}

    @pytest.fixture
    def scheduler(self) -> Scheduler:
        return Scheduler("box", "local", None, {"queues": {"local": None}})

    def test_a_submit_whose_answer_was_lost_is_found_by_its_submit_tag(self) -> None:  # type: ignore[override]
        """The embedded scheduler has no submit command."""


if PBS:

    class TestPbs(AdapterContract):
        @staticmethod
        def clusters(folder: Path, request: pytest.FixtureRequest) -> dict[str, str]:
            job, lost = f"adapter: pbspro, exec: {PBS}", silent_submit(folder, "pbs", f"{PBS}/bin/qsub")
            return {"pbs": job, "pbs-lost": f"{job}, bin_overrides: {{qsub: {lost}}}"}

        @pytest.fixture
        def scheduler(self) -> Scheduler:
            site = {"queues": {"workq": None, "debug": 3600}, "account": "a", "native": ["-p", "5"]}
            return Scheduler("pbs", "pbspro", "PBS_ARRAY_INDEX", site)


if TORQUE:

    class TestTorque(AdapterContract):
        @staticmethod
        def clusters(folder: Path, request: pytest.FixtureRequest) -> dict[str, str]:
            bindir, host = TORQUE.split(":")
            job, lost = (
                f"adapter: torque, bin: {bindir}, host: {host}",
                silent_submit(folder, "torque", f"{bindir}/qsub"),
            )
            return {"torque": job, "torque-lost": f"{job}, bin_overrides: {{qsub: {lost}}}"}

        @pytest.fixture
        def scheduler(self) -> Scheduler:
            site = {"queues": {"batch": None, "short": 600}, "account": "a", "native": ["-p", "5"]}
            return Scheduler("torque", "torque", "PBS_ARRAYID", site)


if LSF:

    class TestLsf(AdapterContract):
        @staticmethod
        def clusters(folder: Path, request: pytest.FixtureRequest) -> dict[str, str]:
            bindir, envdir, serverdir = LSF.split(":")
            job = f"adapter: lsf, bindir: {bindir}, envdir: {envdir}, serverdir: {serverdir}"
            lost = silent_submit(folder, "lsf", f"{bindir}/bsub")
            return {"lsf": job, "lsf-lost": f"{job}, bin_overrides: {{bsub: {lost}}}"}

        @pytest.fixture
        def scheduler(self) -> Scheduler:
            site = {"queues": {"normal": None, "short": 3600}, "account": "a", "native": ["-r"]}
            return Scheduler("lsf", "lsf", "LSB_JOBINDEX", site)
