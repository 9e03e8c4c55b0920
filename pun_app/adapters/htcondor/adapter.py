"""HTCondor: condor_submit, _q, _history, _rm, _hold, _release and _status, as the user.

Written by HTCondor's manual (25.x) and source. A job is a cluster of procs, its id the cluster's number; one proc of an
array is ``12.3``. Jobs are asked for as JSON, with the attributes that are read here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from pun_app.adapters.command import Output
from pun_app.adapters.command_line import LOOKUP_TIMEOUT_S, RECENT_S, CommandLineAdapter
from pun_app.adapters.errors import (
    JobNotFound,
    NotSent,
    SchedulerUnavailable,
    Unanswered,
    Unsupported,
)
from pun_app.adapters.htcondor.ads import ATTRIBUTES, Ad, Schedd, Slot, job_of, output_files, past_job, whole
from pun_app.adapters.htcondor.submit import description, script_file
from pun_app.adapters.model import (
    OPTIONS,
    Account,
    ClusterInfo,
    Job,
    JobRequest,
    OutputFiles,
    PastJob,
    Period,
    Queue,
    merge_tasks,
)
from pun_app.adapters.native import CONDOR_SUBMIT

_NEVER_SENT = re.compile(
    r"can't find address|couldn't find|no such (schedd|file)|failed to connect|cannot locate", re.I
)
_UNREACHABLE = re.compile(r"failed to fetch|communication|can't connect|failed to|couldn't contact|timed? ?out", re.I)
_NO_SUCH_JOB = re.compile("Couldn't find/")
_SUBMITTED = re.compile(r"^(\d+)\.\d+ - (\d+)\.\d+\s*$", re.M)


class HTCondorAdapter(CommandLineAdapter):
    """An HTCondor access point. Its keys in the cluster file: cluster, default_universe, default_docker_image,
    user_group_map, additional_attributes, and those of Commands."""

    product = "HTCondor"
    queued_state = "IDLE"
    job_id = re.compile(r"[1-9]\d{0,9}(\.\d{1,9})?")
    options = frozenset(OPTIONS) - {"nodes", "qos", "reservation", "after", "afterok", "afternotok", "afterany"}
    native = CONDOR_SUBMIT
    programs = (
        "condor_submit", "condor_q", "condor_history", "condor_rm", "condor_hold", "condor_release", "condor_status",
        "condor_version",
    )  # fmt: skip
    version_argv = ("condor_version",)
    version_pattern = r"CondorVersion: (\S+)"
    cancel_command, hold_command, release_command = ("condor_rm",), ("condor_hold",), ("condor_release",)
    submit_tag_location = "attribute PunwaySubmitTag (condor_q -af ClusterId PunwaySubmitTag)"
    failures = ((JobNotFound, _NO_SUCH_JOB), (NotSent, _NEVER_SENT), (Unanswered, _UNREACHABLE))
    failure_noise = re.compile("^ERROR: ")

    def __init__(self, cluster_id: str, job: dict[str, Any]) -> None:
        super().__init__(cluster_id, job, {}, {})
        self._group_map = job.get("user_group_map")
        self._schedd = ["-name", str(job["cluster"])] if job.get("cluster") else []
        more = job.get("additional_attributes") or {}
        if not isinstance(more, dict):
            raise SchedulerUnavailable(
                "The cluster's configuration is wrong: job.additional_attributes must be a mapping"
            )
        site = {"universe": str(job.get("default_universe") or "vanilla")}
        if site["universe"] == "docker":
            site["docker_image"] = str(job.get("default_docker_image") or "ubuntu:latest")
        self._site = {**site, **{str(name): str(value) for name, value in more.items()}}

    def for_cluster(self, argv: Any) -> list[str]:
        # condor_status asks the pool; the others a schedd.
        return list(argv) if argv[0] in ("condor_status", "condor_version") else [argv[0], *self._schedd, *argv[1:]]

    def run_submit(self, request: JobRequest) -> Output:
        schedd = ["-name", request.queue_name] if request.queue_name is not None else self._schedd
        with script_file(request.content) as path:
            text = description(request, path, self._site)
            return self.submit_commands.run(
                ["condor_submit", *schedd, "-terse", *request.native, "-"], text, cwd=request.workdir
            )

    def parse_job_id(self, output: Output) -> str | None:
        found = _SUBMITTED.search(output.out)
        return found[1] if found and not output.code else None

    def find_tagged(self, submit_tag: str) -> list[Job]:
        tagged = ["condor_q", "-constraint", f'PunwaySubmitTag == "{submit_tag}"']
        return self._jobs(self._ads(tagged, timeout=LOOKUP_TIMEOUT_S), [])

    def array_id(self, job_id: str) -> str:
        return job_id.partition(".")[0]

    def jobs(self) -> list[Job]:
        # Jobs leave the queue at their ends.
        return self._jobs(self._ads(["condor_q", self.user]), self._ended(int(time.time()) - RECENT_S))

    def job(self, job_id: str) -> Job:
        self.check_id(job_id)
        found = self._jobs(self._ads(["condor_q", job_id]), self._ads(["condor_history", job_id]))
        if not found:
            raise JobNotFound()
        return msgspec.structs.replace(found[0], id=job_id)

    def output(self, job_id: str) -> OutputFiles:
        self.check_id(job_id)
        found = self._ads(["condor_q", job_id]) or self._ads(["condor_history", job_id])
        ads = [ad for ad in found if ad.owner == self.user]
        if not ads:
            raise JobNotFound()
        if len(ads) > 1:
            raise self.array_output_error(job_id, f"{ads[0].cluster}.{ads[0].proc}")
        return output_files(ads[0])

    def look_up(self, job_ids: Sequence[str]) -> dict[str, Job]:
        queued, ended = self._ads(["condor_q", *job_ids]), self._ads(["condor_history", *job_ids])
        procs = {f"{ad.cluster}.{ad.proc}": job_of(ad, has_left=True) for ad in ended if ad.owner == self.user}
        procs |= {f"{ad.cluster}.{ad.proc}": job_of(ad, has_left=False) for ad in queued if ad.owner == self.user}
        return self.select(list(procs.values()), job_ids)

    def history(self, period: Period) -> list[PastJob]:
        past = [past_job(ad) for ad in self._ended(period.start) if ad.owner == self.user]
        return [one for one in past if period.holds(one.job)]

    def queues(self) -> list[Queue]:
        """The schedds of the pool, which is what options.queue_name chooses."""
        found = self._read(self.read(["condor_status", "-schedd", "-json", "-attributes", "Name"]), Schedd)
        default = self._schedd[1] if self._schedd else None
        return [Queue(name=schedd.name, state="up", default=schedd.name == default) for schedd in found]

    def accounts(self) -> list[Account]:
        """Of the file that user_group_map names, a line for each user: ``* USER GROUP,GROUP``."""
        if not self._group_map:
            raise Unsupported(f"HTCondor has no list of accounts on cluster {self.cluster_id} (user_group_map)")
        try:
            text = Path(str(self._group_map)).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise SchedulerUnavailable(f"The cluster's user_group_map cannot be read: {error.strerror}") from error
        names: dict[str, None] = {}
        for line in text.splitlines():
            _, user, groups = (*line.split(None, 2), "", "", "")[:3]
            if user == self.user and not line.startswith("#"):
                names |= dict.fromkeys(name.strip() for name in groups.split(",") if name.strip())
        return [Account(name, default=index == 0) for index, name in enumerate(names)]

    def info(self) -> ClusterInfo:
        text = self.read(["condor_status", "-json", "-attributes", "Machine,State,Cpus,Gpus"])
        slots = self._read(text, Slot)
        used = [slot for slot in slots if slot.state == "Claimed"]
        return ClusterInfo(
            active_nodes=len({slot.machine for slot in used}),
            total_nodes=len({slot.machine for slot in slots}),
            active_processors=sum(slot.cpus for slot in used),
            total_processors=sum(slot.cpus for slot in slots),
            active_gpus=sum(whole(slot.gpus) or 0 for slot in used),
            total_gpus=sum(whole(slot.gpus) or 0 for slot in slots),
        )

    def _ads(self, argv: list[str], **settings: Any) -> list[Ad]:
        return self._read(self.read([*argv, "-json", "-attributes", ATTRIBUTES], **settings), Ad)

    def _ended(self, since: int) -> list[Ad]:
        """Jobs of the user that have left the queue, the latest first. Not by -completedsince: it ends at the first job
        that was removed, which has no date of completion."""
        return self._ads(["condor_history", self.user, "-since", f"EnteredCurrentStatus < {since}"])

    def _read(self, text: str, form: type[Any]) -> list[Any]:
        """Return the ads of a JSON text. For no ads HTCondor prints nothing.

        Raises SchedulerUnavailable for text that was cut off, or is not JSON.
        """
        try:
            return msgspec.json.decode(text, type=list[form]) if text.strip() else []  # type: ignore[valid-type]
        except msgspec.DecodeError as error:
            raise SchedulerUnavailable(f"HTCondor's answer cannot be read: {error}") from error

    def _jobs(self, queued: list[Ad], ended: list[Ad]) -> list[Job]:
        """One job for each cluster of the user's."""
        clusters: dict[int, dict[int, Job]] = {}
        for ads, has_left in ((ended, True), (queued, False)):
            for ad in ads:
                if ad.owner == self.user:
                    clusters.setdefault(ad.cluster, {})[ad.proc] = job_of(ad, has_left=has_left)
        return [
            msgspec.structs.replace(merge_tasks(str(number), list(procs.values())), id=str(number))
            for number, procs in clusters.items()
        ]
