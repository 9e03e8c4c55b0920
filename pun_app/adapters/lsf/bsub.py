"""The command line of bsub for one submit."""

from __future__ import annotations

import re

from pun_app.adapters.arrays import parse_array
from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import JobRequest
from pun_app.adapters.script import is_one_path, last_option

_CONDITIONS = {"after": "started", "afterok": "done", "afternotok": "exit", "afterany": "ended"}


def submit_command(request: JobRequest, units: tuple[float, float]) -> list[str]:
    """argv of a submit; the script goes to its standard input. Raises Rejected. bsub(1)."""
    description = last_option(request, "#BSUB", "-Jd")
    argv = ["bsub", "-Jd", f"{description} {request.submit_tag}".strip()]
    if request.job_name is not None and re.search(r"[][]", request.job_name):
        raise Rejected("options.job_name: to LSF brackets are an array; ask for one with options.array")
    name = request.job_name
    if request.array is not None:
        name = f"{name or 'array'}{_elements(request.array)}"
    in_one = is_one_path(request) and not any(last_option(request, "#BSUB", option) for option in ("-e", "-eo"))
    for option, value in (
        ("-J", name), ("-q", request.queue_name), ("-P", request.accounting_id), ("-U", request.reservation),
        ("-e", None if in_one else request.error_path),
    ):  # fmt: skip
        if value is not None:
            argv += [option, value]
    argv += _output(request)
    if request.wall_time is not None:
        # Whole minutes, and no less than was asked for.
        argv += ["-W", str(-(-request.wall_time // 60))]
    argv += _resources(request, units)
    if request.hold:
        argv.append("-H")
    if request.email is not None:
        argv += ["-u", request.email, "-N"]
    waits = [f"{condition}({job})" for field, condition in _CONDITIONS.items() for job in getattr(request, field)]
    if waits:
        argv += ["-w", " && ".join(waits)]
    return [*argv, *request.native]


def _elements(array: str) -> str:
    """``[1-9:2]%5``. Checked here: of a list that it does not like volclava makes a job that is no array."""
    if parse_array(array).ranges[0].start < 1:
        raise Rejected("options.array: LSF takes elements from 1 on, such as 1-9, 1,3,5-9:2 or 1-100%10")
    elements, has_limit, limit = array.partition("%")
    return f"[{elements}]{has_limit}{limit}"


def _output(request: JobRequest) -> list[str]:
    """Where the output goes: without -o LSF sends it by mail."""
    if request.output_path is not None:
        return ["-o", request.output_path]
    given = any(last_option(request, "#BSUB", option) for option in ("-o", "-oo")) or {"-o", "-oo"} & set(
        request.native
    )
    return [] if given else ["-o", "lsf-%J.%I.out" if request.array is not None else "lsf-%J.out"]


def _resources(request: JobRequest, units: tuple[float, float]) -> list[str]:
    argv, needs = [], []
    nodes, cores = request.nodes, request.cores or request.nodes
    if cores is not None:
        argv += ["-n", str(cores)]
    if nodes is not None:
        if cores is None or cores % nodes:
            raise Rejected(f"options.cores: LSF puts as many cores on each node; {cores} do not go into {nodes}")
        needs.append("span[hosts=1]" if nodes == 1 else f"span[ptile={cores // nodes}]")
    if request.memory is not None:
        limit, reserved = (max(1, round(request.memory * unit)) for unit in units)
        argv += ["-M", str(limit)]
        needs.append(f"rusage[mem={reserved}]")
    if needs:
        # In one -R: not every LSF takes more.
        argv += ["-R", " ".join(needs)]
    if request.gpus is not None:
        argv += ["-gpu", f"num={request.gpus}"]
    return argv
