"""The paths of an LSF job's output, from the long format of bjobs and bhist."""

from __future__ import annotations

import os
import re

from pun_app.adapters.lsf.long_format import LongRecord
from pun_app.adapters.model import OutputFiles


def output_files(record: LongRecord) -> OutputFiles:
    """Return the paths of a job's or a task's output, which LSF writes when the job ends.

    They are in the line of the submit. A relative path begins in the directory that bsub ran in. ``%J`` stands for the
    job's id and ``%I`` for the task's index, as bsub(1) says.
    """
    number, _, index = record.id.rstrip("]").partition("[")
    folder = record.field("CWD", ", |;") or "$HOME"
    folder = re.sub(r"^\$HOME", lambda _: os.environ["HOME"], folder)
    paths = [record.field(rf"{name} File(?: \(overwrite\))?", ", |;") for name in ("Output", "Error")]
    out, error = (
        path and os.path.join(folder, path.replace("%J", number).replace("%I", index or "0")) for path in paths
    )
    return OutputFiles(out, error or out, at_end=True)
