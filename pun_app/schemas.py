"""Every request and response body, as msgspec Structs. They are checked before a handler sees them.

Optional fields may be left out or be null, which is the same: clients send either for what they do not set.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from pun_app.adapters.model import DEPENDENCIES

# One line of text, as a scheduler's options take it: no control characters, so no NUL and no newline.
Line = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+\Z")]
WALL_TIME_LIMIT = 10 * 365 * 86_400
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
Email = Annotated[str, Meta(max_length=254, pattern=r"^[^\x00-\x20\x7f,@]+@[^\x00-\x20\x7f,@]+\Z")]
# Some clients read an id of digits as a number.
JobId = Annotated[str, Meta(min_length=1, max_length=64)] | Annotated[int, Meta(ge=0, le=10**18)]
JobIds = Annotated[list[JobId], Meta(max_length=1000)]


_RANGE = "[0-9]{1,9}(-[0-9]{1,9}(:[0-9]{1,9})?)?"
ArrayRange = Annotated[str, Meta(max_length=4096, pattern=rf"^{_RANGE}(,{_RANGE})*(%[0-9]{{1,9}})?\Z")]
Environment = Annotated[
    dict[
        Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z")],
        Annotated[str, Meta(max_length=100_000, pattern=r"^[^\x00]*\Z")],
    ],
    Meta(max_length=1000),
]


# The handler says what is wrong with a blank one; a schema says it by a pattern.
_NOT_BLANK = Meta(extra_json_schema={"pattern": r"^[^\x00]*[!-~][^\x00]*$"})


class Script(Struct, forbid_unknown_fields=True, omit_defaults=True):
    content: Annotated[str, Meta(min_length=1), _NOT_BLANK]
    workdir: Line | None = None


class Options(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """``wall_time`` is in seconds; ``memory`` and ``gpus`` are of each node, ``cores`` of all of them."""

    job_name: Line | None = None
    queue_name: Line | None = None
    accounting_id: Line | None = None
    wall_time: Annotated[int, Meta(ge=1, le=WALL_TIME_LIMIT)] | None = None
    output_path: Line | None = None
    error_path: Line | None = None
    array: ArrayRange | None = None
    after: JobIds | None = None
    afterok: JobIds | None = None
    afternotok: JobIds | None = None
    afterany: JobIds | None = None
    nodes: Count | None = None
    cores: Count | None = None
    memory: Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,8}[MGT]\Z")] | None = None
    gpus: Count | None = None
    qos: Line | None = None
    reservation: Line | None = None
    environment: Environment | None = None
    hold: bool | None = None
    email: Email | None = None
    native: Annotated[list[Line], Meta(max_length=200)] | None = None

    def __post_init__(self) -> None:
        # One form, so that a repeated submit is the same body however its client writes ids.
        for name in DEPENDENCIES:
            if (given := getattr(self, name)) is not None:
                setattr(self, name, [str(job_id) for job_id in given])


class SubmitBody(Struct, forbid_unknown_fields=True):
    cluster: Annotated[str, _NOT_BLANK]
    script: Script
    options: Options | None = msgspec.field(default_factory=Options)

    def __post_init__(self) -> None:
        if self.options is None:
            self.options = Options()


class ValidAnswer(Struct):
    """The scheduler would take the job. ``starts_at`` is when it might start, RFC 3339 in UTC. ``dependencies_met`` is
    as in the answer of a submit.
    """

    accepted: bool
    starts_at: str | None
    message: str | None
    dependencies_met: dict[str, list[str]] = {}


class ClusterAnswer(Struct):
    """``state`` is whether the scheduler answered the last time that one of your requests asked it, which this one does
    not: ``up``, ``down``, or null where it has not been asked for some minutes.
    """

    id: str
    title: str
    adapter: str
    login_host: str | None
    state: Literal["up", "down"] | None


class JobAnswer(Struct, gc=False):
    """A job. Times are RFC 3339 in UTC, durations seconds; what is not known is null.

    ``status`` is one of the contract's five words, ``native_state`` the scheduler's own; ``outcome`` and
    ``exit_code`` say how a job ended, ``native_reason`` why it waits or ended. ``can_start`` is false for a queued job
    that the scheduler will never start as things are, and ``reason`` says why in words; both are null otherwise.
    ``reason`` also tells of a submit that the scheduler took several times, of which one job was kept.
    """

    job_id: str
    cluster: str
    job_name: str | None
    job_owner: str | None
    status: str | None
    native_state: str | None
    native_reason: str | None
    outcome: str | None
    exit_code: int | None
    queue_name: str | None
    accounting_id: str | None
    submitted_at: str | None
    started_at: str | None
    ended_at: str | None
    wallclock_time: int | None
    wallclock_limit: int | None
    can_start: bool | None = None
    reason: str | None = None


class SubmittedJobAnswer(JobAnswer, gc=False, kw_only=True):
    """A job that was just submitted, as far as it is known. ``dependencies_met`` has the conditions that were met
    already and were not passed on to the scheduler: the job ids, by the option (afterok, say).
    """

    dependencies_met: dict[str, list[str]] = {}


class PastJobAnswer(JobAnswer, gc=False, kw_only=True):
    """A job that has ended, with what it used: processor seconds and bytes; efficiencies are from 0 to 1."""

    cpus: int | None
    cpu_time: int | None
    cpu_efficiency: float | None
    memory_used: int | None
    memory_requested: int | None
    memory_efficiency: float | None


class AccountAnswer(Struct):
    """An account that the caller may charge. Minutes are of processors, of all who share the account."""

    name: str
    cluster: str
    default: bool
    qos: list[str]
    default_qos: str | None
    cpu_minutes_limit: int | None
    cpu_minutes_used: int | None
    cpu_minutes_left: int | None


class JobNamed(Struct, forbid_unknown_fields=True):
    cluster: str
    job_id: JobId

    @property
    def id(self) -> str:
        return str(self.job_id)


class StatusBody(Struct, forbid_unknown_fields=True):
    jobs: Annotated[list[JobNamed], Meta(min_length=1, max_length=1000)]


class StatusAnswer(Struct):
    """How one of many jobs is; or ``error``, one of the API's, and ``message``, why that is not known."""

    cluster: str
    job_id: str
    status: str | None = None
    native_state: str | None = None
    native_reason: str | None = None
    outcome: str | None = None
    exit_code: int | None = None
    can_start: bool | None = None
    reason: str | None = None
    error: str | None = None
    message: str | None = None


class JobAction(Struct):
    """What became of a job that was cancelled, held or released."""

    job_id: str
    status: str | None


class OutputAnswer(Struct):
    """A piece of what a job has written. Offsets and sizes are in bytes.

    The next piece is at ``next_offset``; ``may_grow`` is false once the job has ended. ``lossy`` is true where what is
    no UTF-8 stands as U+FFFD in ``content``. ``truncated`` is true where some of the last lines are left out: they are
    more than ``limit`` bytes, or were written over with carriage returns, of which the last state is here.
    """

    job_id: str
    cluster: str
    stream: str
    path: str
    content: str
    offset: int
    next_offset: int
    size: int
    may_grow: bool
    lossy: bool
    truncated: bool


class SiteNote(Struct):
    """What the site tells agents, from one file, ``source``. ``truncated`` where not all of it is here."""

    source: str
    content: str
    truncated: bool


class ContextAnswer(Struct):
    notes: list[SiteNote]


class WhoAmI(Struct):
    """``via`` is token (of this portal) or jwt (of the site's identity provider). Times are RFC 3339 in UTC."""

    user: str
    via: str
    scopes: list[str]
    token_id: str | None
    token_name: str | None
    expires_at: str | None
