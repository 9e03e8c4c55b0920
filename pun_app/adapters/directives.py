"""A parser of what a script's directives and the native options request, beyond the options of the submit.

With it the response to a submit can show the job's name, queue, account and wall time without another command. A value
that is not certain is None.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pun_app.adapters.model import JobRequest
from pun_app.adapters.parse import clock, duration


@dataclass(frozen=True)
class Directives:
    """The syntax of the directives in a scheduler's scripts, and of the same options on its submit command."""

    prefix: str
    """The beginning of a line with directives, such as ``#SBATCH``."""
    names: Mapping[str, tuple[str, ...]]
    """A table of the scheduler's options for each field of JobRequest."""
    hold: tuple[str, ...] = ()
    """The options that hold a job."""
    wall_time: Callable[[str], int | None] = clock
    """A function from the value of the ``wall_time`` option to seconds. It returns None if the value has no wall time,
    and 0 if the wall time in it is unknown."""
    is_glued: bool = True
    """True if a value may follow a short option without a blank, as in ``-pshort``."""
    whole_script: bool = False
    """True if the scheduler reads directives in the whole script. Most schedulers stop at the first command."""
    default_name: str | None = None
    """The name of a job for which the submit gives no name; None if it is unknown."""
    array_in_name: bool = False
    """True if the name may end with the indices of an array in brackets."""
    foreign: str = ""
    """A pattern of another scheduler's directives, which this scheduler may read too."""


@dataclass(frozen=True)
class Requested:
    """The result of asked(). ``wall_time`` is in seconds. A value that was not requested or is uncertain is None."""

    job_name: str | None
    queue_name: str | None
    accounting_id: str | None
    wall_time: int | None
    is_held: bool


def asked(request: JobRequest, directives: Directives | None) -> Requested:
    """Return what a submit requests with its script, its options and its native options together.

    If two of them disagree, the later one in this order wins, as it does in the schedulers.
    """
    if directives is None:
        name, queue, account = request.job_name, request.queue_name, request.accounting_id
        return Requested(name, queue, account, request.wall_time, request.hold)
    script, native = list(_script_words(request, directives)), list(request.native)
    is_foreign = bool(directives.foreign) and bool(re.search(rf"(?m)^{directives.foreign}", request.content))
    found = {}
    for name in ("job_name", "queue_name", "accounting_id"):
        options = directives.names.get(name, ())
        late = _values(native, options, directives.is_glued)
        early = [] if is_foreign else _values(script, options, directives.is_glued)
        given = getattr(request, name)
        found[name] = [*early, *([] if given is None else [given]), *late][-1:]
    if request.reservation is not None and request.queue_name is None:
        found["queue_name"] = []  # A reservation may be a queue of its own.
    options = directives.names.get("wall_time", ())
    times = [] if is_foreign else _times(script, options, directives)
    times += [] if request.wall_time is None else [request.wall_time]
    times += _times(native, options, directives)
    name = "".join(found["job_name"]).partition("[" if directives.array_in_name else "\n")[0]
    words = {*script, *native}
    return Requested(
        job_name=name or (None if is_foreign else directives.default_name),
        queue_name=_one_queue("".join(found["queue_name"])),
        accounting_id="".join(found["accounting_id"]) or None,
        wall_time=(times[-1] or None) if times else None,
        is_held=request.hold
        or bool(words & set(directives.hold))
        or (is_foreign and bool(re.search(rf"(?m)^{directives.foreign}.*\s-[hH](?:\s|$)", request.content))),
    )


def _script_words(request: JobRequest, directives: Directives) -> Iterator[str]:
    for line in request.content.splitlines():
        if line.startswith(directives.prefix):
            try:
                yield from shlex.split(line[len(directives.prefix) :], comments=True)
            except ValueError:
                continue  # The scheduler reports the error.
        elif line.strip() and not line.lstrip().startswith("#") and not directives.whole_script:
            return


def _values(words: list[str], options: tuple[str, ...], is_glued: bool) -> list[str]:
    """Return the values of these options among the words, in their order: ``-p x``, ``-px``, ``--part=x``."""
    values = []
    for index, word in enumerate(words):
        name, equals, after = word.partition("=")
        for option in options:
            # getopt_long(3) accepts the beginning of a long option.
            is_long = option.startswith("--") and len(name) > 3 and option.startswith(name)
            if is_long and equals:
                values.append(after)
            elif (is_long or word == option) and index + 1 < len(words):
                values.append(words[index + 1])
            elif is_glued and len(option) == 2 and word.startswith(option) and word != option:
                values.append(word[2:])
    return values


def _times(words: list[str], options: tuple[str, ...], directives: Directives) -> list[int]:
    values = _values(words, options, directives.is_glued)
    return [time for value in values if (time := directives.wall_time(value)) is not None]


def _one_queue(name: str) -> str | None:
    """Return the name of the queue without ``@server``; None for several queues, or for a pattern of names."""
    queue = name.partition("@")[0].strip()
    return queue if queue and not re.search(r"[\s*?]", queue) else None


def slurm_time(text: str) -> int:
    """Return the seconds of a time limit of sbatch; 0 if it is unlimited or unknown.

    The forms are minutes, minutes:seconds, hours:minutes:seconds and days-hours[:minutes[:seconds]]. sbatch(1), --time.
    """
    if re.fullmatch(r"\d{1,9}", text):
        return int(text) * 60
    days = re.fullmatch(r"(\d{1,6})-(\d{1,2})(?::(\d{1,2}))?(?::(\d{1,2}))?", text)
    if days:
        return ((int(days[1]) * 24 + int(days[2])) * 60 + int(days[3] or 0)) * 60 + int(days[4] or 0)
    return duration(text) or 0


def resource(name: str) -> Callable[[str], int | None]:
    """Return a function that finds the duration of a resource in ``nodes=1:ppn=2,walltime=1:00:00``, in seconds.

    The function returns None without the resource, and 0 for a value that is not a duration.
    """

    def read(text: str) -> int | None:
        found = re.search(rf"(?:^|,){name}=([^,]*)", text)
        return (clock(found[1]) or 0) if found else None

    return read


def lsf_minutes(text: str) -> int:
    """Return the seconds of bsub's ``[hours:]minutes[/host]``; 0 for other text. bsub(1), -W."""
    found = re.fullmatch(r"(?:(\d{1,6}):)?(\d{1,9})(?:/.*)?", text)
    return (int(found[1] or 0) * 60 + int(found[2])) * 60 if found else 0


SLURM = Directives(
    "#SBATCH",
    {
        "job_name": ("-J", "--job-name"),
        "queue_name": ("-p", "--partition"),
        "accounting_id": ("-A", "--account"),
        "wall_time": ("-t", "--time"),
    },
    hold=("-H", "--hold"),
    wall_time=slurm_time,
    default_name="sbatch",
    foreign="#(?:PBS|BSUB)",
)
PBS = Directives(
    "#PBS",
    {"job_name": ("-N",), "queue_name": ("-q",), "accounting_id": ("-A",), "wall_time": ("-l",)},
    hold=("-h",),
    wall_time=resource("walltime"),
    default_name="STDIN",
)
LSF = Directives(
    "#BSUB",
    {"job_name": ("-J",), "queue_name": ("-q",), "accounting_id": ("-P",), "wall_time": ("-W",)},
    hold=("-H",),
    wall_time=lsf_minutes,
    is_glued=False,
    whole_script=True,
    array_in_name=True,
)
GRID_ENGINE = Directives(
    "#$",
    {"job_name": ("-N",), "queue_name": ("-q",), "accounting_id": ("-P",), "wall_time": ("-l",)},
    hold=("-h",),
    wall_time=resource("h_rt"),
    is_glued=False,
    whole_script=True,
    default_name="STDIN",
)
