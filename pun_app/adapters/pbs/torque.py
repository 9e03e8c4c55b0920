"""Torque: qsub, qselect, qstat, qdel, qhold, qrls and pbsnodes, as the user.

Written by Torque 6's manual pages and source. Jobs are asked for as XML, by id, whose times are Unix seconds; a job
that has ended stands there for the time that its queue keeps it (keep_completed).
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from pun_app.adapters.arrays import parse_array
from pun_app.adapters.command import Output
from pun_app.adapters.command_line import LOOKUP_TIMEOUT_S, CommandLineAdapter
from pun_app.adapters.directives import PBS
from pun_app.adapters.errors import JobNotFound, NotSent, Rejected, Unanswered
from pun_app.adapters.markup import Element, document, text_of
from pun_app.adapters.model import (
    COMPLETED,
    OPTIONS,
    QUEUED,
    QUEUED_HELD,
    RUNNING,
    SUSPENDED,
    ClusterInfo,
    Job,
    JobRequest,
    OutputFiles,
    Queue,
)
from pun_app.adapters.native import TORQUE_QSUB
from pun_app.adapters.parse import clock, number
from pun_app.adapters.pbs.qsub import common_options, dependencies, environment, output_files

STATUS = {
    "Q": QUEUED, "W": QUEUED, "T": QUEUED, "H": QUEUED_HELD, "R": RUNNING, "E": RUNNING, "S": SUSPENDED, "C": COMPLETED,
}  # fmt: skip
"""Job states of qstat(1B) → the contract's status."""

LIMITS = {-10: "out_of_memory", -11: "timed_out", -12: "timed_out"}
"""exit_status of a job that Torque ended for its mem, walltime or cput (pbs_job.h, JOB_EXEC_OVERLIMIT)."""

UNKNOWN_JOB, NOT_YOURS = 153, 159
"""Exit statuses of the commands: Torque's error number modulo 256."""

_NEVER_SENT = re.compile(r"connection refused|cannot connect to|cannot resolve|unable to communicate", re.I)
_UNREACHABLE = re.compile(r"time[d]? ?out|connection|munge|trqauthd|end of file|errno=15\d{3}", re.I)
_IN_ONE_COMMAND = 2000


class TorqueAdapter(CommandLineAdapter):
    """A Torque cluster. Its keys in the cluster file: host, and those of Commands."""

    product = "Torque"
    directives = PBS
    queued_state = "Q"
    job_id = re.compile(r"\d{1,12}(\[\d{0,9}\])?(\.[A-Za-z0-9][A-Za-z0-9_.-]{0,200})?")
    options = frozenset(OPTIONS)
    native = TORQUE_QSUB
    programs = ("qsub", "qselect", "qstat", "qdel", "qhold", "qrls", "pbsnodes")
    version_argv = ("qstat", "--version")
    version_pattern = r"[Vv]ersion:? (\S+)"
    cancel_command, hold_command, release_command = ("qdel",), ("qhold",), ("qrls",)
    submit_tag_location = "PBS_O_MAIL (qstat -f)"
    failures = ((NotSent, _NEVER_SENT), (Unanswered, _UNREACHABLE))
    failure_codes = MappingProxyType({UNKNOWN_JOB: JobNotFound})

    def __init__(self, cluster_id: str, job: dict[str, Any]) -> None:
        # What OOD's factory calls bin_overrides for this adapter.
        job = {"bin_overrides": job.get("custom_bin"), **job}
        super().__init__(cluster_id, job, {"PBS_DEFAULT": str(job["host"])} if job.get("host") else {}, {})

    def run_submit(self, request: JobRequest) -> Output:
        return self.submit_commands.run(
            submit_command(request), request.content, environment=environment(request), cwd=request.workdir
        )

    def parse_job_id(self, output: Output) -> str | None:
        found = self.job_id.fullmatch(output.out.strip().partition("\n")[0])
        return found[0] if found and not output.code else None

    def find_tagged(self, submit_tag: str) -> list[Job]:
        jobs = self._jobs(self._select(timeout=LOOKUP_TIMEOUT_S), timeout=LOOKUP_TIMEOUT_S)
        return [job_of(job) for job in jobs if f"PBS_O_MAIL={submit_tag}" in text_of(job, "Variable_List")]

    def array_id(self, job_id: str) -> str:
        return re.sub(r"\[\d+\]", "[]", job_id)

    def jobs(self) -> list[Job]:
        return [job_of(job) for job in self._jobs(self._select())]

    def job(self, job_id: str) -> Job:
        # An array is asked for with -t, which gives its tasks and not itself.
        found = [job_of(job) for job in self._jobs([self.check_id(job_id)], tasks="[]" in job_id)]
        mine = [job for job in found if job.owner == self.user]
        if not mine:
            raise JobNotFound()
        return self.merge(job_id, mine)

    def merge(self, job_id: str, jobs: list[Job]) -> Job:
        if "[]" not in job_id:
            return jobs[0]
        return msgspec.structs.replace(super().merge(job_id, jobs), name=re.sub(r"-\d+$", "", jobs[0].name or ""))

    def output(self, job_id: str) -> OutputFiles:
        if "[]" in self.check_id(job_id):
            raise self.array_output_error(job_id, job_id.replace("[]", "[1]").partition(".")[0])
        for job in self._jobs([job_id]):
            if job_of(job).owner == self.user:
                paths = (text_of(job, name) for name in ("Output_Path", "Error_Path", "Join_Path", "Keep_Files"))
                return output_files(text_of(job, "Job_Id"), *paths)
        raise JobNotFound()

    def normalize_id(self, job_id: str) -> str:
        return job_id.partition(".")[0]

    def look_up(self, job_ids: Sequence[str]) -> dict[str, Job]:
        # Of an array the list has the tasks; its own id would list everybody's jobs here.
        asked = [job_id for job_id in job_ids if "[]" not in job_id]
        mine = [job for job in map(job_of, self._jobs(asked)) if job.owner == self.user]
        return self.select(mine, job_ids)

    def queues(self) -> list[Queue]:
        return queues_of(self.read(["qstat", "-Q", "-f"]), self.read(["qstat", "-B", "-f"]))

    def info(self) -> ClusterInfo:
        return cluster_info(document(self.read(["pbsnodes", "-x"]), self.product))

    def _select(self, **settings: Any) -> list[str]:
        """Ids of the user's jobs, those that have ended and are still kept among them."""
        return self.parse_job_ids(self.read(["qselect", "-u", self.user], **settings))

    def _jobs(self, ids: Sequence[str], *, tasks: bool = False, **settings: Any) -> list[Element]:
        """Those of the jobs that are there. Raises SchedulerUnavailable."""
        jobs: list[Element] = []
        for start in range(0, len(ids), _IN_ONE_COMMAND):
            argv = ["qstat", "-x", *(["-t"] if tasks else []), *ids[start : start + _IN_ONE_COMMAND]]
            output = self.run(argv, **settings)
            # One that has gone makes the status that of a failure; the others are told all the same.
            if output.code not in (0, UNKNOWN_JOB, NOT_YOURS):
                raise self.read_failure(output)
            # Of several jobs each is a document of its own.
            together = re.sub(r"<\?xml[^>]*\?>", "", output.out)
            jobs += document(f"<Jobs>{together}</Jobs>", self.product).iter("Job")
        return jobs


def submit_command(request: JobRequest) -> list[str]:
    """argv of a submit; the script goes to its standard input. Raises Rejected. qsub(1B) of Torque."""
    check_own_arrays(request)
    argv = ["qsub", "-d", request.workdir, *common_options(request)]
    if request.reservation is not None:
        argv += ["-W", f"x=advres:{request.reservation}"]
    if request.qos is not None:
        argv += ["-l", f"qos={request.qos}"]
    if request.array is not None:
        argv += ["-t", _tasks(request.array)]
    return [*argv, *_nodes(request), *dependencies(request), *request.native]


def _tasks(array: str) -> str:
    """Torque takes lists and ranges, but no steps."""
    if ":" not in array:
        return array
    parsed = parse_array(array)
    return ",".join(map(str, parsed.indices())) + (f"%{parsed.at_once}" if parsed.at_once else "")


def check_own_arrays(request: JobRequest) -> None:
    """Raise Rejected for an array of the native options or of the script that would make Torque's server crash."""
    for option, value in TORQUE_QSUB.options(request.native):
        if option == "-t":
            parse_array(value, "options.native: -t")
    for value in re.findall(r"^#PBS\b.*?\s-t\s*([^\s-]\S*)", request.content, re.MULTILINE):
        parse_array(value, "script.content: #PBS -t")


def _nodes(request: JobRequest) -> list[str]:
    """Nodes, and what each of them is to have; nothing where none of it was asked for."""
    argv = []
    nodes, cores = request.nodes or 1, request.cores
    if request.nodes is not None or cores is not None or request.gpus is not None:
        if cores is not None and cores % nodes:
            raise Rejected(f"options.cores: Torque puts as many cores on each node; {cores} do not go into {nodes}")
        each = f":ppn={cores // nodes}" if cores is not None else ""
        argv += ["-l", f"nodes={nodes}{each}{f':gpus={request.gpus}' if request.gpus is not None else ''}"]
    if request.memory is not None:
        # Torque counts memory of the whole job.
        argv += ["-l", f"mem={request.memory * nodes}mb"]
    return argv


def job_of(job: Element) -> Job:
    """A job of ``qstat -x``."""
    state = text_of(job, "job_state")
    status = STATUS.get(state)
    if status == QUEUED_HELD and "u" not in text_of(job, "Hold_Types") and text_of(job, "depend"):
        status = QUEUED  # Held by Torque until its dependencies are met.
    started = number(text_of(job, "start_time"))
    # One that never ran has no time of completion.
    ended = (number(text_of(job, "comp_time")) or number(text_of(job, "mtime"))) if status == COMPLETED else None
    used = clock(text_of(job, "resources_used/walltime"))
    if status == RUNNING and started is not None:
        used = max(used or 0, int(time.time()) - started)
    code = text_of(job, "exit_status")
    outcome = _outcome(int(code) if re.fullmatch(r"-?\d{1,9}", code) else None) if status == COMPLETED else None
    return Job(
        id=text_of(job, "Job_Id"),
        name=text_of(job, "Job_Name") or None,
        owner=text_of(job, "Job_Owner").rpartition("@")[0] or None,
        status=status,
        native_state=state or None,
        native_reason=text_of(job, "comment") or None,
        outcome=outcome,
        exit_code=number(code) if outcome in ("succeeded", "failed") else None,
        queue=text_of(job, "queue") or None,
        account=text_of(job, "Account_Name") or None,
        submitted_at=number(text_of(job, "ctime")),
        started_at=started,
        ended_at=ended,
        wallclock_time=used or 0,
        wallclock_limit=clock(text_of(job, "Resource_List/walltime")),
    )


def _outcome(status: int | None) -> str:
    if status is None or status >= 256:
        # It never ran, or Torque itself ended it by a signal (256 and its number): it was deleted.
        return "cancelled"
    return LIMITS.get(status, "failed" if status else "succeeded")


def _attributes(text: str, kind: str) -> dict[str, dict[str, str]]:
    """What ``qstat -Q -f`` and ``-B -f`` print: ``Queue: batch`` and lines of ``name = value``, by name."""
    found: dict[str, dict[str, str]] = {}
    # A long value goes on behind a tab.
    for line in text.replace("\n\t", "").splitlines():
        name, _, value = line.partition(" = ")
        if line.startswith(f"{kind}: "):
            found[line.partition(": ")[2].strip()] = {}
        elif found and value:
            found[list(found)[-1]][name.strip()] = value.strip()
    return found


def queues_of(queues: str, server: str) -> list[Queue]:
    """The queues, and which of them jobs go to by themselves."""
    default = {said.get("default_queue") for said in _attributes(server, "Server").values()}
    return [_queue(name, said, name in default) for name, said in _attributes(queues, "Queue").items()]


def _queue(name: str, said: dict[str, str], default: bool) -> Queue:
    takes, starts = said.get("enabled") == "True", said.get("started") == "True"
    words = {(True, True): "up", (True, False): "down", (False, True): "draining"}
    return Queue(
        name=name,
        state=words.get((takes, starts), "inactive"),
        native_state=f"enabled={said.get('enabled')} started={said.get('started')}",
        default=default,
        time_limit=clock(said.get("resources_max.walltime", "")),
        default_time_limit=clock(said.get("resources_default.walltime", "")),
    )


def cluster_info(nodes: Element) -> ClusterInfo:
    """The sums of ``pbsnodes -x``: a node's np processors, and the tasks of its jobs (``0-3/12.server``)."""
    listed = list(nodes.iter("Node"))
    jobs = [text_of(node, "jobs") for node in listed]
    return ClusterInfo(
        active_nodes=sum(bool(of) for of in jobs),
        total_nodes=len(listed),
        active_processors=sum(_processors(of) for of in jobs),
        total_processors=sum(number(text_of(node, "np")) or 0 for node in listed),
        total_gpus=sum(number(text_of(node, "gpus")) or 0 for node in listed),
    )


def _processors(jobs: str) -> int:
    """``0-3,6/12.server,4/13.server`` → 6."""
    count = 0
    for part in jobs.split(",") if jobs else []:
        first, _, last = part.strip().partition("/")[0].partition("-")
        count += (number(last) or number(first) or 0) - (number(first) or 0) + 1
    return count
