"""The paths of an HTCondor job's output."""

from __future__ import annotations

import os

from pun_app.adapters.htcondor.condor_q import Ad
from pun_app.adapters.model import OutputFiles


def output_files(ad: Ad) -> OutputFiles:
    """Return the paths of one proc's output, which HTCondor transfers when the proc ends.

    A path is None where the stream is discarded: without a path, or with /dev/null.
    """
    paths = [os.path.join(str(ad.workdir or "/"), str(path)) if path else None for path in (ad.output, ad.error)]
    out, error = (None if path == os.devnull else path for path in paths)
    return OutputFiles(out, error, at_end=True)
