"""The paths of a Grid Engine job's output.

qstat prints them until the job ends, and qacct never does. They are therefore kept in files in the user's home.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import msgspec

from pun_app.adapters.markup import document, text_of
from pun_app.adapters.model import OutputFiles
from pun_app.adapters.parse import number
from pun_app.adapters.sge.qstat import PRODUCT
from pun_app.expiring_files import ExpiringFiles, folder_of_user

STREAMS_TTL_S = 30 * 86_400
"""Time for which the paths of a job's output are kept."""
_ARRAY_BIT = 128
"""The bit of JB_type that an array has."""


class Streams(msgspec.Struct, frozen=True):
    """The paths of a job's streams, with qsub's variables in them. An empty path is one that qsub was not given."""

    owner: str
    name: str
    folder: str
    array: bool
    joined: bool
    output: str
    error: str

    def files(self, number: str, task: str) -> OutputFiles:
        """Return the paths of a job, or of one task of an array.

        Variables and default names are those of -o in qsub(1). A path is None where the host is part of it.
        """
        suffix = f".{task}" if task else ""
        values = {"JOB_ID": number, "TASK_ID": task or "undefined", "JOB_NAME": self.name, "USER": self.owner}
        values["HOME"] = os.environ["HOME"]
        out, error = (
            self._full_path(path, f"{self.name}.{letter}{number}{suffix}", values)
            for path, letter in ((self.output, "o"), (self.error, "e"))
        )
        return OutputFiles(out, out if self.joined else error)

    def _full_path(self, path: str, default: str, values: Mapping[str, str]) -> str | None:
        path = re.sub(r"\$(\w+)", lambda found: values.get(found[1], found[0]), path)
        if "$" in path:
            return None  # $HOSTNAME: the job's host is unknown.
        # On the job's host, ~ is the user's home and ~name that of another user.
        full_path = os.path.join(self.folder, os.path.expanduser(path))
        return os.path.join(full_path, default) if not path or os.path.isdir(full_path) else full_path


def parse_streams(text: str) -> Streams | None:
    """Return the streams in the output of ``qstat -xml -j``; None where qstat no longer knows the job."""
    found = document(text, PRODUCT).find("djob_info/element")
    if found is None:
        return None
    return Streams(
        owner=text_of(found, "JB_owner"),
        name=text_of(found, "JB_job_name"),
        folder=text_of(found, "JB_cwd") or os.environ["HOME"],
        array=bool((number(text_of(found, "JB_type")) or 0) & _ARRAY_BIT),
        joined=text_of(found, "JB_merge_stderr") in ("true", "1"),
        output=text_of(found, "JB_stdout_path_list/path_list/PN_path"),
        error=text_of(found, "JB_stderr_path_list/path_list/PN_path"),
    )


class KnownStreams:
    """The streams of the user's jobs on one cluster, by the jobs' numbers."""

    def __init__(self, cluster_id: str) -> None:
        self._files = ExpiringFiles(folder_of_user() / "streams" / cluster_id, STREAMS_TTL_S)

    def find(self, number: str, details: str | None, user: str) -> Streams | None:
        """Return a job's streams; None where they are not known.

        ``details`` is the output of ``qstat -xml -j``, or None where qstat failed. If it has the job, its streams are
        kept, unless the job belongs to another user. Otherwise the streams that were kept earlier are returned.
        """
        streams = parse_streams(details) if details is not None else None
        if streams is None:
            content = self._files.get(number)
            return msgspec.json.decode(content, type=Streams) if content else None
        if streams.owner == user:
            self._files.put(number, msgspec.json.encode(streams))
        return streams
