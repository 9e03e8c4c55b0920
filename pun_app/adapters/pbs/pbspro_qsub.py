"""qsub of PBS: the command line of one submit. qsub(1B) of OpenPBS 23.06."""

from __future__ import annotations

import re

from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import JobRequest
from pun_app.adapters.pbs.qsub import common_options, dependencies

_RANGE = re.compile(r"(\d+)(?:-(\d+)(:\d+)?)?(%\d+)?")


def submit_command(request: JobRequest) -> list[str]:
    """Return argv of a submit. The script goes to standard input. Raises Rejected for an option that PBS has no
    form for.

    Without -f, qsub leaves a process behind whose arguments show every user of the host what was submitted.
    """
    argv = ["qsub", "-f", *common_options(request)]
    if request.reservation is not None:
        if request.queue_name is not None:
            raise Rejected("options.reservation: A reservation of PBS is a queue. Omit options.queue_name.")
        argv += ["-q", request.reservation]
    if request.array is not None:
        argv += ["-J", _array_range(request.array)]
    return [*argv, *_resource_options(request), *dependencies(request), *request.native]


def _array_range(given: str) -> str:
    """Return the value of -J, which is one range of at least two indices. Raises Rejected for several ranges."""
    match = _RANGE.fullmatch(given)
    if not match:
        raise Rejected("options.array: PBS takes one range of indices. Write it as in 0-9, 0-9:2 or 1-100%10.")
    first, last, step, at_once = match.groups()
    if last is None or int(last) == int(first):
        # A range of two indices with a step of two has one task.
        last, step = str(int(first) + 1), ":2"
    return f"{first}-{last}{step or ''}{at_once or ''}"


def _resource_options(request: JobRequest) -> list[str]:
    """Return the options for nodes, cores, GPUs and memory, as chunks of ``select``."""
    nodes, cores = request.nodes or 1, request.cores
    each = (f":mem={request.memory}mb" if request.memory is not None else "") + (
        f":ngpus={request.gpus}" if request.gpus is not None else ""
    )
    if request.nodes is None and cores is None and not each:
        return []
    if cores is None:
        select = f"{nodes}:ncpus=1{each}"
    elif cores < nodes:
        raise Rejected(
            f"options.cores: {nodes} nodes need at least {nodes} cores, and {cores} were given. Ask for more cores."
        )
    else:
        # Where the cores cannot be divided by the nodes, some of the nodes have one core more.
        per_node, rest = divmod(cores, nodes)
        parts = [(rest, per_node + 1), (nodes - rest, per_node)]
        select = "+".join(f"{count}:ncpus={cpus}{each}" for count, cpus in parts if count)
    argv = ["-l", f"select={select}"]
    return [*argv, "-l", "place=scatter"] if nodes > 1 else argv
