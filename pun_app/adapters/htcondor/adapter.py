"""The adapter for HTCondor: it runs condor_submit, _q, _history, _rm, _hold, _release and _status as the user.

It follows HTCondor's manual (25.x) and source. A job is a cluster of procs, and its id is the cluster's number. One
proc of an array has an id such as ``12.3``. Jobs are read as JSON, with only those attributes that are used.
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
from pun_app.adapters.htcondor.condor_q import Ad, decode, history_command, job_of, past_job, queue_command
from pun_app.adapters.htcondor.condor_submit import description, script_file, site_lines
from pun_app.adapters.htcondor.output import output_files
from pun_app.adapters.htcondor.site import (
    SCHEDDS_COMMAND,
    SLOTS_COMMAND,
    cluster_info,
    parse_accounts,
    parse_queues,
)
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
    """An HTCondor access point.

    Keys in the cluster file: cluster, default_universe, default_docker_image, user_group_map, additional_attributes,
    and those of Commands.
    """

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
        self._site = site_lines(job)

    def for_cluster(self, argv: Any) -> list[str]:
        # condor_status reads the whole pool, and condor_version nothing. The others need the name of the schedd.
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
        tagged = queue_command(["-constraint", f'PunwaySubmitTag == "{submit_tag}"'])
        return self._jobs(self._ads(tagged, timeout=LOOKUP_TIMEOUT_S), [])

    def array_id(self, job_id: str) -> str:
        return job_id.partition(".")[0]

    def jobs(self) -> list[Job]:
        # Jobs leave the queue when they end.
        return self._jobs(self._ads(queue_command([self.user])), self._ended(int(time.time()) - RECENT_S))

    def job(self, job_id: str) -> Job:
        self.check_id(job_id)
        found = self._jobs(self._ads(queue_command([job_id])), self._ads(history_command([job_id])))
        if not found:
            raise JobNotFound()
        return msgspec.structs.replace(found[0], id=job_id)

    def output(self, job_id: str) -> OutputFiles:
        self.check_id(job_id)
        found = self._ads(queue_command([job_id])) or self._ads(history_command([job_id]))
        ads = [ad for ad in found if ad.owner == self.user]
        if not ads:
            raise JobNotFound()
        if len(ads) > 1:
            raise self.array_output_error(job_id, f"{ads[0].cluster}.{ads[0].proc}")
        return output_files(ads[0])

    def look_up(self, job_ids: Sequence[str]) -> dict[str, Job]:
        queued, ended = self._ads(queue_command(job_ids)), self._ads(history_command(job_ids))
        procs = {f"{ad.cluster}.{ad.proc}": job_of(ad, has_left=True) for ad in ended if ad.owner == self.user}
        procs |= {f"{ad.cluster}.{ad.proc}": job_of(ad, has_left=False) for ad in queued if ad.owner == self.user}
        return self.select(list(procs.values()), job_ids)

    def history(self, period: Period) -> list[PastJob]:
        past = [past_job(ad) for ad in self._ended(period.start) if ad.owner == self.user]
        return [one for one in past if period.holds(one.job)]

    def queues(self) -> list[Queue]:
        """Return the schedds of the pool, one of which options.queue_name chooses."""
        return parse_queues(self.read(SCHEDDS_COMMAND), self._schedd[1] if self._schedd else None)

    def accounts(self) -> list[Account]:
        """Return the user's accounts in the file that user_group_map names."""
        if not self._group_map:
            raise Unsupported(
                f"HTCondor has no list of accounts on cluster {self.cluster_id}. An administrator can name a file of "
                "them in the cluster file (user_group_map)."
            )
        try:
            text = Path(str(self._group_map)).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise SchedulerUnavailable(f"The cluster's user_group_map cannot be read: {error.strerror}") from error
        return parse_accounts(text, self.user)

    def info(self) -> ClusterInfo:
        return cluster_info(self.read(SLOTS_COMMAND))

    def _ads(self, argv: list[str], **settings: Any) -> list[Ad]:
        return decode(self.read(argv, **settings), Ad)

    def _ended(self, since: int) -> list[Ad]:
        """Return the ads of the user's jobs that left the queue after ``since`` (Unix seconds), the latest first.

        Not with -completedsince: it stops at the first removed job, which has no date of completion.
        """
        return self._ads(history_command([self.user, "-since", f"EnteredCurrentStatus < {since}"]))

    def _jobs(self, queued: list[Ad], ended: list[Ad]) -> list[Job]:
        """Return one job for each of the user's clusters. A proc that is in both lists is as in the queue."""
        clusters: dict[int, dict[int, Job]] = {}
        for ads, has_left in ((ended, True), (queued, False)):
            for ad in ads:
                if ad.owner == self.user:
                    clusters.setdefault(ad.cluster, {})[ad.proc] = job_of(ad, has_left=has_left)
        return [
            msgspec.structs.replace(merge_tasks(str(number), list(procs.values())), id=str(number))
            for number, procs in clusters.items()
        ]
