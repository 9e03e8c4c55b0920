"""Where the output of Grid Engine's jobs is. Of a job that has ended it does not tell, so that it is written down."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import msgspec

from pun_app.adapters.errors import SchedulerUnavailable
from pun_app.adapters.markup import document, text_of
from pun_app.adapters.model import OutputFiles
from pun_app.adapters.parse import number
from pun_app.adapters.sge.parse import PRODUCT
from pun_app.expiring_files import ExpiringFiles, folder_of_user

KEPT = 30 * 86_400
"""Seconds for which it is known where a job's output went."""
ARRAY = 128
"""The bit of JB_type that an array has."""


class Streams(msgspec.Struct, frozen=True):
    """Where a job's streams go, as the job has it: its own paths, with variables in them, or none."""

    owner: str
    name: str
    folder: str
    array: bool
    joined: bool
    output: str
    error: str

    def files(self, number: str, task: str) -> OutputFiles:
        """Of one task. -o in qsub(1): what a path may have in it, and what there is without one."""
        behind = f".{task}" if task else ""
        values = {"JOB_ID": number, "TASK_ID": task or "undefined", "JOB_NAME": self.name, "USER": self.owner}
        values["HOME"] = os.environ["HOME"]
        out, error = (
            self._whole(path, f"{self.name}.{letter}{number}{behind}", values)
            for path, letter in ((self.output, "o"), (self.error, "e"))
        )
        return OutputFiles(out, out if self.joined else error)

    def _whole(self, path: str, default: str, values: Mapping[str, str]) -> str | None:
        path = re.sub(r"\$(\w+)", lambda found: values.get(found[1], found[0]), path)
        if "$" in path:
            return None  # On which host it will run, or has, nobody knows here.
        # Where the job runs, ~ is the user's home, and ~name another one's.
        whole = os.path.join(self.folder, os.path.expanduser(path))
        return os.path.join(whole, default) if not path or os.path.isdir(whole) else whole


def streams_of(text: str) -> Streams | None:
    """Of ``qstat -xml -j``; None where it knows the job no more."""
    found = document(text, PRODUCT).find("djob_info/element")
    if found is None:
        return None
    owner = text_of(found, "JB_owner")
    return Streams(
        owner=owner,
        name=text_of(found, "JB_job_name"),
        folder=text_of(found, "JB_cwd") or os.environ["HOME"],
        array=bool((number(text_of(found, "JB_type")) or 0) & ARRAY),
        joined=text_of(found, "JB_merge_stderr") in ("true", "1"),
        output=text_of(found, "JB_stdout_path_list/path_list/PN_path"),
        error=text_of(found, "JB_stderr_path_list/path_list/PN_path"),
    )


class KnownStreams:
    """Of one cluster's jobs of the user, by their numbers."""

    def __init__(self, cluster_id: str) -> None:
        self._kept = ExpiringFiles(folder_of_user() / "streams" / cluster_id, KEPT, SchedulerUnavailable)

    def of(self, job: str, told: str | None, user: str) -> Streams | None:
        """By what ``qstat -xml -j`` told, which is remembered; by what it told before, where it tells nothing now."""
        streams = streams_of(told) if told is not None else None
        if streams is None:
            kept = self._kept.get(job)
            return msgspec.json.decode(kept, type=Streams) if kept else None
        if streams.owner == user:
            self._kept.put(job, msgspec.json.encode(streams))
        return streams
