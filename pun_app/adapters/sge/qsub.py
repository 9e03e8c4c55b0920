"""qsub: the command line of one submit, in the form of submit(1) of Son of Grid Engine 8.1.9."""

from __future__ import annotations

import re

from pun_app.adapters.arrays import parse_array
from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import JobRequest
from pun_app.adapters.script import interpreter, is_one_path, last_option

_JOB_NAME = re.compile(r"(?!\d)[!-~]+")


def submit_command(request: JobRequest, parallel_environment: str | None) -> list[str]:
    """Return argv of a submit. The script goes to standard input.

    ``parallel_environment`` is for a job of several cores. Raises Rejected for an option that Grid Engine has no form
    for.
    """
    argv = ["qsub", "-terse", "-ac", f"PUNWAY={request.submit_tag}", "-wd", request.workdir]
    if request.job_name is not None:
        if not _JOB_NAME.fullmatch(request.job_name):
            raise Rejected(
                "options.job_name: Grid Engine does not take this name. Use ASCII characters without blanks, and do "
                "not begin with a digit."
            )
        argv += ["-N", request.job_name]
    for option, value in (("-q", request.queue_name), ("-P", request.accounting_id), ("-ar", request.reservation)):
        if value is not None:
            argv += [option, value]
    argv += _stream_options(request)
    if request.wall_time is not None:
        argv += ["-l", f"h_rt={request.wall_time}"]
    if request.memory is not None:
        # h_vmem is the memory of each slot.
        argv += ["-l", f"h_vmem={-(-request.memory // (request.cores or 1))}M"]
    if parallel_environment is not None:
        argv += ["-pe", parallel_environment, str(request.cores)]
    argv += _task_options(request)
    if request.hold:
        argv.append("-h")
    if request.email is not None:
        argv += ["-M", request.email, "-m", "ea"]
    if request.afterany:
        argv += ["-hold_jid", ",".join(job.partition(".")[0] for job in request.afterany)]
    if request.environment:
        # Only the names: qsub takes the values from its own environment, where nobody else can read them.
        argv += ["-v", ",".join(request.environment)]
    return [*argv, *_shell_options(request), *request.native]


def _stream_options(request: JobRequest) -> list[str]:
    """Return the options for output and errors, which are joined where no path is given for errors."""
    argv = []
    is_joined = is_one_path(request)
    for field, option in (("output_path", "-o"), ("error_path", "-e")):
        path = getattr(request, field)
        if path is not None and not (is_joined and option == "-e"):
            if re.search("[:,]", path):
                raise Rejected(
                    f"options.{field}: Grid Engine does not take a colon or a comma in a path. Choose another path."
                )
            argv += [option, path]
    is_given = (
        last_option(request, "#$", "-e") or last_option(request, "#$", "-j") or {"-e", "-j"} & set(request.native)
    )
    if is_joined or (request.error_path is None and not is_given):
        argv += ["-j", "y"]
    return argv


def _task_options(request: JobRequest) -> list[str]:
    """Return the options for the tasks of an array. Raises Rejected for several ranges, or one that begins below 1."""
    if request.array is None:
        return []
    array = parse_array(request.array)
    if len(array.ranges) > 1 or array.ranges[0].start < 1:
        raise Rejected(
            "options.array: Grid Engine takes one range that begins at 1 or later, such as 1-9, 1-9:2 or 1-100%10."
        )
    tasks = request.array.partition("%")[0]
    return ["-t", tasks, *(["-tc", str(array.at_once)] if array.at_once else [])]


def _shell_options(request: JobRequest) -> list[str]:
    """Return -S with the interpreter of the script's first line.

    A queue in its default mode (shell_start_mode posix_compliant, queue_conf(5)) does not read that line.
    """
    found = interpreter(request.content)
    is_given = last_option(request, "#$", "-S") or {"-S", "-b"} & set(request.native)
    return ["-S", found] if found and not is_given else []
