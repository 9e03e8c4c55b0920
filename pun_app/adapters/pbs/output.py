"""The paths of a job's output, from its attributes in PBS and Torque."""

from __future__ import annotations

import os
import re

from pun_app.adapters.model import OutputFiles


def output_files(job_id: str, output_path: str, error_path: str, join_path: str, keep_files: str) -> OutputFiles:
    """Return the paths of a job's or a task's output, from its attributes of these names. pbs_job_attributes(7B).

    A path in an attribute follows the name of a host. The files are in a spool folder of PBS until the job ends, unless
    they are kept where the job runs.
    """
    index = (re.findall(r"\[(\d+)\]", job_id) or [""])[0]
    paths = []
    for path, suffix in ((output_path, "OU"), (error_path, "ER")):
        path = path.partition(":")[2] if ":" in path else path
        path = path.replace("^array_index^", index)
        # In a folder, the file has the job's id as its name.
        paths.append(os.path.join(path, f"{job_id}.{suffix}") if path.endswith("/") else path or None)
    joined = {"oe": paths[0], "eo": paths[1]}.get(join_path)
    out, error = (joined, joined) if joined else paths
    return OutputFiles(out, error, at_end=keep_files == "n")
