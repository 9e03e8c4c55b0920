"""Functions that read a job's script, or add a line to it."""

from __future__ import annotations

import os
import re
import shlex

from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import JobRequest

_SHELLS = re.compile(r"#!\s*(?:\S*/)?(?:env\s+(?:-S\s+)?)?(?:\S*/)?(?:ba|da|k|z|c|tc|a|fi)?sh(?:\s.*)?")


def in_workdir(request: JobRequest, directory: str, variable: str, product: str) -> str:
    """Return the script, with a line that changes to the requested directory if that is not the home.

    For schedulers that start every job in the user's home. The line goes behind the directives, before the first
    command, and any shell reads it. A script that names ``variable``, in which the scheduler hands the directory on,
    looks after it itself. Raises Rejected for another script.
    """
    content = request.content
    if os.path.realpath(request.workdir) == os.path.realpath(os.environ["HOME"]) or variable in content:
        return content
    lines = content.splitlines(keepends=True)
    if lines[0].startswith("#!") and not _SHELLS.fullmatch(lines[0].strip()):
        raise Rejected(
            f"script.workdir: {product} starts every job in the home directory, and this is not a shell script; "
            f"let the script change to the directory in its variable {variable}, or leave workdir out"
        )
    for place, line in enumerate(lines):
        if line.strip() and not line.lstrip().startswith("#"):
            return "".join([*lines[:place], f"cd {directory} || exit 1\n", *lines[place:]])
    return content


def is_one_path(request: JobRequest) -> bool:
    """Return True if both streams are requested to go to the same path."""
    if request.output_path is None or request.error_path is None:
        return False
    out, error = (os.path.join(request.workdir, path) for path in (request.output_path, request.error_path))
    return os.path.normpath(out) == os.path.normpath(error)


def interpreter(content: str) -> str | None:
    """Return the program of the first line if it is a plain path (``#!/bin/bash``); None otherwise."""
    first = content.partition("\n")[0].strip()
    found = re.fullmatch(r"#!\s*(/[^\s,:]+)", first)
    return found[1] if found and os.path.basename(found[1]) != "env" else None


def last_option(request: JobRequest, directive: str, option: str) -> str:
    """Return the value that the script's directives give an option (``#SBATCH --comment=TEXT``); "" without one.

    The last one wins, as in schedulers.
    """
    value = ""
    for line in request.content.splitlines():
        if not line.startswith(directive):
            continue
        try:
            words = shlex.split(line[len(directive) :], comments=True)
        except ValueError:
            continue  # The scheduler reports the error.
        for index, given in enumerate(words):
            if given.startswith(f"{option}="):
                value = given.partition("=")[2]
            elif given == option and index + 1 < len(words):
                value = words[index + 1]
    return value
