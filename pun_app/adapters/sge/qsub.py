"""Options of qsub that are made of more than one value: streams, tasks, the shell."""

from __future__ import annotations

import re

from pun_app.adapters.arrays import parse_array
from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import JobRequest
from pun_app.adapters.script import interpreter, is_one_path, last_option


def stream_options(request: JobRequest) -> list[str]:
    """Return where the output goes: one stream where no path is given for errors."""
    argv = []
    in_one = is_one_path(request)
    for field, option in (("output_path", "-o"), ("error_path", "-e")):
        path = getattr(request, field)
        if path is not None and not (in_one and option == "-e"):
            if re.search("[:,]", path):
                raise Rejected(f"options.{field}: Grid Engine takes no path with a colon or a comma in it")
            argv += [option, path]
    own = last_option(request, "#$", "-e") or last_option(request, "#$", "-j")
    if in_one or (request.error_path is None and not own and not {"-e", "-j"} & set(request.native)):
        argv += ["-j", "y"]
    return argv


def task_options(request: JobRequest) -> list[str]:
    """Return the array's tasks. Raises Rejected for one that Grid Engine has no form for."""
    if request.array is None:
        return []
    array = parse_array(request.array)
    if len(array.ranges) > 1 or array.ranges[0].start < 1:
        raise Rejected("options.array: Grid Engine takes one range, from 1 or more, such as 1-9, 1-9:2 or 1-100%10")
    tasks = request.array.partition("%")[0]
    return ["-t", tasks, *(["-tc", str(array.at_once)] if array.at_once else [])]


def shell_options(request: JobRequest) -> list[str]:
    """The interpreter of the script's first line, which a queue in its usual mode (posix_compliant) does not read."""
    found = interpreter(request.content)
    given = last_option(request, "#$", "-S") or {"-S", "-b"} & set(request.native)
    return ["-S", found] if found and not given else []
