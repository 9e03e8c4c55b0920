"""qsub of Torque: the command line of one submit. qsub(1B) of Torque 6."""

from __future__ import annotations

import re

from pun_app.adapters.arrays import parse_array
from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import JobRequest
from pun_app.adapters.native import TORQUE_QSUB
from pun_app.adapters.pbs.qsub import common_options, dependencies


def submit_command(request: JobRequest) -> list[str]:
    """Return argv of a submit. The script goes to standard input.

    Raises Rejected for an option that Torque has no form for.
    """
    check_own_arrays(request)
    argv = ["qsub", "-d", request.workdir, *common_options(request)]
    if request.reservation is not None:
        argv += ["-W", f"x=advres:{request.reservation}"]
    if request.qos is not None:
        argv += ["-l", f"qos={request.qos}"]
    if request.array is not None:
        argv += ["-t", _tasks(request.array)]
    return [*argv, *_resource_options(request), *dependencies(request), *request.native]


def _tasks(array: str) -> str:
    """Return an array as Torque takes it: with lists and ranges, but without steps."""
    if ":" not in array:
        return array
    parsed = parse_array(array)
    return ",".join(map(str, parsed.indices())) + (f"%{parsed.at_once}" if parsed.at_once else "")


def check_own_arrays(request: JobRequest) -> None:
    """Raise Rejected for an array in the native options or in the script that would crash Torque's server."""
    for option, value in TORQUE_QSUB.options(request.native):
        if option == "-t":
            parse_array(value, "options.native: -t")
    for value in re.findall(r"^#PBS\b.*?\s-t\s*([^\s-]\S*)", request.content, re.MULTILINE):
        parse_array(value, "script.content: #PBS -t")


def _resource_options(request: JobRequest) -> list[str]:
    """Return the options for nodes, cores, GPUs and memory."""
    argv = []
    nodes, cores = request.nodes or 1, request.cores
    if request.nodes is not None or cores is not None or request.gpus is not None:
        if cores is not None and cores % nodes:
            raise Rejected(
                f"options.cores: Torque puts the same number of cores on each node, and {cores} cannot be divided by "
                f"{nodes} nodes. Ask for a multiple of {nodes}."
            )
        each = f":ppn={cores // nodes}" if cores is not None else ""
        argv += ["-l", f"nodes={nodes}{each}{f':gpus={request.gpus}' if request.gpus is not None else ''}"]
    if request.memory is not None:
        # Torque's mem is the memory of the whole job.
        argv += ["-l", f"mem={request.memory * nodes}mb"]
    return argv
