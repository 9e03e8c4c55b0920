"""bsub: the command line of one submit."""

from __future__ import annotations

import re
from pathlib import Path

from pun_app.adapters.arrays import parse_array
from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import JobRequest
from pun_app.adapters.script import is_one_path, last_option

_CONDITIONS = {"after": "started", "afterok": "done", "afternotok": "exit", "afterany": "ended"}
"""Kinds of dependency → the conditions of bsub -w."""
_UNITS_PER_MIB = {"KB": 1024, "MB": 1, "GB": 1 / 1024, "TB": 1 / 1024**2}


def submit_command(request: JobRequest, units_per_mib: tuple[float, float]) -> list[str]:
    """Return argv of a submit, in the form of bsub(1) of LSF 10.1. The script goes to standard input.

    ``units_per_mib`` is the number of LSF's units in one MiB, for -M and for rusage[mem]. Raises Rejected for an option
    that LSF has no form for.
    """
    description = last_option(request, "#BSUB", "-Jd")
    argv = ["bsub", "-Jd", f"{description} {request.submit_tag}".strip()]
    if request.job_name is not None and re.search(r"[][]", request.job_name):
        raise Rejected(
            "options.job_name: LSF reads brackets as an array. Use a name without brackets, and options.array for an "
            "array."
        )
    name = request.job_name
    if request.array is not None:
        name = f"{name or 'array'}{_array_elements(request.array)}"
    is_joined = is_one_path(request) and not any(last_option(request, "#BSUB", option) for option in ("-e", "-eo"))
    for option, value in (
        ("-J", name), ("-q", request.queue_name), ("-P", request.accounting_id), ("-U", request.reservation),
        ("-e", None if is_joined else request.error_path),
    ):  # fmt: skip
        if value is not None:
            argv += [option, value]
    argv += _output_options(request)
    if request.wall_time is not None:
        # bsub takes whole minutes. Round up, so that the job gets no less than it asked for.
        argv += ["-W", str(-(-request.wall_time // 60))]
    argv += _resource_options(request, units_per_mib)
    if request.hold:
        argv.append("-H")
    if request.email is not None:
        argv += ["-u", request.email, "-N"]
    conditions = [f"{condition}({job})" for field, condition in _CONDITIONS.items() for job in getattr(request, field)]
    if conditions:
        argv += ["-w", " && ".join(conditions)]
    return [*argv, *request.native]


def _array_elements(array: str) -> str:
    """Return ``[1-9:2]%5``. Raises Rejected for an array that begins below 1.

    It is checked here because volclava 2.2 makes one plain job of a list that it does not like.
    """
    if parse_array(array).ranges[0].start < 1:
        raise Rejected("options.array: LSF counts tasks from 1. Use indices such as 1-9, 1,3,5-9:2 or 1-100%10.")
    elements, has_limit, limit = array.partition("%")
    return f"[{elements}]{has_limit}{limit}"


def _output_options(request: JobRequest) -> list[str]:
    """Return -o and its path. Without -o, LSF sends the output by e-mail."""
    if request.output_path is not None:
        return ["-o", request.output_path]
    is_given = any(last_option(request, "#BSUB", option) for option in ("-o", "-oo")) or {"-o", "-oo"} & set(
        request.native
    )
    return [] if is_given else ["-o", "lsf-%J.%I.out" if request.array is not None else "lsf-%J.out"]


def _resource_options(request: JobRequest, units_per_mib: tuple[float, float]) -> list[str]:
    argv, requirements = [], []
    nodes, cores = request.nodes, request.cores or request.nodes
    if cores is not None:
        argv += ["-n", str(cores)]
    if nodes is not None:
        if cores is None or cores % nodes:
            raise Rejected(
                f"options.cores: LSF puts the same number of cores on each node, and {cores} cannot be divided by "
                f"{nodes} nodes. Ask for a multiple of {nodes}."
            )
        requirements.append("span[hosts=1]" if nodes == 1 else f"span[ptile={cores // nodes}]")
    if request.memory is not None:
        limit, reserved = (max(1, round(request.memory * units)) for units in units_per_mib)
        argv += ["-M", str(limit)]
        requirements.append(f"rusage[mem={reserved}]")
    if requirements:
        # All in one -R: not every LSF accepts several.
        argv += ["-R", " ".join(requirements)]
    if request.gpus is not None:
        argv += ["-gpu", f"num={request.gpus}"]
    return argv


def memory_units_per_mib(conf_folder: str) -> tuple[float, float]:
    """Return the number of LSF's units in one MiB, for -M and for rusage[mem].

    They are KB and MB, unless LSF_UNIT_FOR_LIMITS in lsf.conf sets one unit for both. lsf.conf(5).
    """
    try:
        text = Path(conf_folder, "lsf.conf").read_text(errors="replace")
    except OSError:
        text = ""  # The file may exist on the submit host alone.
    found = re.search(r"^\s*LSF_UNIT_FOR_LIMITS\s*=\s*\"?([KMGT]B)", text, re.M | re.I)
    return (_UNITS_PER_MIB[found[1].upper()],) * 2 if found else (_UNITS_PER_MIB["KB"], _UNITS_PER_MIB["MB"])
