"""The request and response bodies of the API, as msgspec Structs. A body is validated before a handler sees it.

Clients may omit an optional field or send null; both mean the same.

The descriptions of fields are published: the OpenAPI document, the API page and the MCP tools show them. The docstrings
are for developers and are never published.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from pun_app.adapters.model import DEPENDENCIES, OUTCOMES

# One line of text for a scheduler's option: no control characters, so no NUL and no newline.
Line = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=4096,
        pattern=r"^[^\x00-\x1f\x7f]+\Z",
        extra={"write": "one line of text, of 1 to 4096 characters and without control characters"},
    ),
]
MAX_WALL_TIME_S = 10 * 365 * 86_400
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
Email = Annotated[
    str,
    Meta(
        max_length=254,
        pattern=r"^[^\x00-\x20\x7f,@]+@[^\x00-\x20\x7f,@]+\Z",
        extra={"write": "one address, such as alice@example.org"},
    ),
]
# Some clients send an id of digits as a number.
JobId = Annotated[str, Meta(min_length=1, max_length=64)] | Annotated[int, Meta(ge=0, le=10**18)]
JobIds = Annotated[list[JobId], Meta(max_length=1000)]

_RANGE = "[0-9]{1,9}(-[0-9]{1,9}(:[0-9]{1,9})?)?"
ArrayRange = Annotated[
    str,
    Meta(
        max_length=4096,
        pattern=rf"^{_RANGE}(,{_RANGE})*(%[0-9]{{1,9}})?\Z",
        extra={"write": "a string of task numbers, such as 1-10, 1,5,9, 0-20:2 or 1-100%5"},
    ),
]
Environment = Annotated[
    dict[
        Annotated[
            str,
            Meta(
                pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z",
                extra={"write": "letters, digits and underscores, such as OMP_NUM_THREADS"},
            ),
        ],
        Annotated[
            str,
            Meta(
                max_length=100_000,
                pattern=r"^[^\x00]*\Z",
                extra={"write": "a string of up to 100000 characters without NUL characters"},
            ),
        ],
    ],
    Meta(max_length=1000),
]


# The handlers reject blank text with a message of their own. Only the published schema needs the pattern.
_NOT_BLANK = Meta(extra_json_schema={"pattern": r"^[^\x00]*[!-~][^\x00]*$"})
_OUTCOMES = f"{', '.join(f'`{outcome}`' for outcome in OUTCOMES[:-1])} or `{OUTCOMES[-1]}`"


class Script(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The script of a submit and the folder to start it in."""

    content: Annotated[
        str, Meta(min_length=1, description="The whole job script, starting with its `#!` line."), _NOT_BLANK
    ]
    workdir: Annotated[
        Line | None, Meta(description="Absolute path of the folder to start in. Default: your home directory.")
    ] = None


class Options(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The options of a submit. An adapter applies an option or rejects it by name; it drops none."""

    job_name: Annotated[Line | None, Meta(description="The job's name.")] = None
    queue_name: Annotated[
        Line | None, Meta(description="The queue (Slurm: partition). Default: the scheduler's choice.")
    ] = None
    accounting_id: Annotated[
        Line | None, Meta(description="The account (project) to charge. Default: your default account.")
    ] = None
    wall_time: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_WALL_TIME_S)] | None,
        Meta(description="Time limit in seconds. A job that exceeds it is ended."),
    ] = None
    output_path: Annotated[
        Line | None, Meta(description="The file for standard output. Default: the scheduler's choice.")
    ] = None
    error_path: Annotated[
        Line | None,
        Meta(description="The file for standard error. Default: usually the file of standard output."),
    ] = None
    array: Annotated[
        ArrayRange | None,
        Meta(description="Run the script once for each index, such as `1-10`, `1,5,9` or `1-100%5` (5 at a time)."),
    ] = None
    after: Annotated[JobIds | None, Meta(description="Start after these jobs have started.")] = None
    afterok: Annotated[JobIds | None, Meta(description="Start after these jobs have succeeded.")] = None
    afternotok: Annotated[JobIds | None, Meta(description="Start after these jobs have failed.")] = None
    afterany: Annotated[JobIds | None, Meta(description="Start after these jobs have ended in any way.")] = None
    nodes: Annotated[Count | None, Meta(description="Number of nodes.")] = None
    cores: Annotated[Count | None, Meta(description="Processor cores, over all nodes.")] = None
    memory: Annotated[
        Annotated[
            str,
            Meta(pattern=r"^[1-9][0-9]{0,8}[MGT]\Z", extra={"write": "a number with M, G or T, such as 4G"}),
        ]
        | None,
        Meta(description="Memory per node: a whole number with M, G or T, such as `4G`."),
    ] = None
    gpus: Annotated[Count | None, Meta(description="GPUs per node.")] = None
    qos: Annotated[Line | None, Meta(description="The quality of service (QOS).")] = None
    reservation: Annotated[Line | None, Meta(description="The reservation to run in.")] = None
    environment: Annotated[Environment | None, Meta(description="Environment variables of the job, by name.")] = None
    hold: Annotated[bool | None, Meta(description="Submit the job held; release it to let it start.")] = None
    email: Annotated[Email | None, Meta(description="The address to notify when the job ends or fails.")] = None
    native: Annotated[
        Annotated[list[Line], Meta(max_length=200)] | None,
        Meta(description='More command-line arguments for the scheduler, such as `["--exclusive"]`.'),
    ] = None

    def __post_init__(self) -> None:
        # Idempotency compares bodies, so a retry that writes an id as 7 must equal a first try that wrote "7".
        for name in DEPENDENCIES:
            if (job_ids := getattr(self, name)) is not None:
                setattr(self, name, [str(job_id) for job_id in job_ids])


class SubmitBody(Struct, forbid_unknown_fields=True):
    """The body of ``POST /api/v1/jobs``."""

    cluster: Annotated[str, Meta(description="The id of the cluster to run on."), _NOT_BLANK]
    script: Annotated[Script, Meta(description="The job script and the folder to start it in.")]
    options: Annotated[
        Options | None, Meta(description="Requests to the scheduler. They override directives in the script.")
    ] = msgspec.field(default_factory=Options)

    def __post_init__(self) -> None:
        if self.options is None:
            self.options = Options()


_DEPENDENCIES_MET = Meta(
    description="Dependencies already met, so not passed to the scheduler: job ids by option, such as "
    '`{"afterok": ["12345"]}`.'
)


class ValidAnswer(Struct):
    """The result of a submit with ``validate``. A refusal is a 422."""

    accepted: Annotated[bool, Meta(description="Always true, as a refusal is an error response.")]
    starts_at: Annotated[str | None, Meta(description="Estimated start, RFC 3339 in UTC; null if unknown.")]
    message: Annotated[str | None, Meta(description="The scheduler's own message; null if it has none.")]
    dependencies_met: Annotated[dict[str, list[str]], _DEPENDENCIES_MET] = {}


class ClusterAnswer(Struct):
    """A cluster. Its ``state`` comes from the caller's recent requests; reading it does not ask the scheduler."""

    id: Annotated[str, Meta(description="The cluster's id, which other calls take as `cluster`.")]
    title: Annotated[str, Meta(description="The cluster's display name.")]
    adapter: Annotated[
        str, Meta(description="The scheduler: `slurm`, `pbspro`, `torque`, `lsf`, `sge`, `htcondor` or `local`.")
    ]
    login_host: Annotated[str | None, Meta(description="The host to log in to by SSH; null if there is none.")]
    state: Annotated[
        Literal["up", "down"] | None,
        Meta(description="Whether the scheduler responded to your last request; null if you made none recently."),
    ]


_JOB_ID = Meta(description="The job's id, such as `12345`.")
_CLUSTER = Meta(description="The id of the job's cluster.")
_STATUS = Meta(
    description="`queued`, `queued_held`, `running`, `suspended` or `completed` (ended in any way); null if unknown."
)
_NATIVE_STATE = Meta(description="The scheduler's own word for the state, such as `PENDING`.")
_NATIVE_REASON = Meta(description="The scheduler's own reason why the job is queued or ended.")
_OUTCOME = Meta(description=f"How the job ended: {_OUTCOMES}. Null until then.")
_EXIT_CODE = Meta(description="The script's exit code; null unless the script ended by itself.")
_CAN_START = Meta(description="False if a queued job can never start as things are; null otherwise.")
_REASON = Meta(
    description="Why the job can never start, or that one of several jobs from this submit was kept; null otherwise."
)


class JobAnswer(Struct, gc=False):
    """A job as the API shows it. ``status`` is one of the contract's five words."""

    job_id: Annotated[str, _JOB_ID]
    cluster: Annotated[str, _CLUSTER]
    job_name: Annotated[str | None, Meta(description="The job's name.")]
    job_owner: Annotated[str | None, Meta(description="The job's owner.")]
    status: Annotated[str | None, _STATUS]
    native_state: Annotated[str | None, _NATIVE_STATE]
    native_reason: Annotated[str | None, _NATIVE_REASON]
    outcome: Annotated[str | None, _OUTCOME]
    exit_code: Annotated[int | None, _EXIT_CODE]
    queue_name: Annotated[str | None, Meta(description="The queue (Slurm: partition).")]
    accounting_id: Annotated[str | None, Meta(description="The account that is charged.")]
    submitted_at: Annotated[str | None, Meta(description="Time of the submit, RFC 3339 in UTC.")]
    started_at: Annotated[str | None, Meta(description="Time of the start, RFC 3339 in UTC; null until then.")]
    ended_at: Annotated[str | None, Meta(description="Time of the end, RFC 3339 in UTC; null until then.")]
    wallclock_time: Annotated[int | None, Meta(description="Running time so far, in seconds.")]
    wallclock_limit: Annotated[int | None, Meta(description="Time limit in seconds; null if there is none.")]
    can_start: Annotated[bool | None, _CAN_START] = None
    reason: Annotated[str | None, _REASON] = None


class SubmittedJobAnswer(JobAnswer, gc=False, kw_only=True):
    """A newly submitted job, as far as the scheduler has reported it."""

    dependencies_met: Annotated[dict[str, list[str]], _DEPENDENCIES_MET] = {}


class PastJobAnswer(JobAnswer, gc=False, kw_only=True):
    """A finished job with the resources that it used."""

    cpus: Annotated[int | None, Meta(description="Processors that the job had.")]
    cpu_time: Annotated[int | None, Meta(description="Processor time used, in seconds.")]
    cpu_efficiency: Annotated[
        float | None, Meta(description="Share of its processor time that the job used, from 0 to 1.")
    ]
    memory_used: Annotated[int | None, Meta(description="Peak memory in bytes.")]
    memory_requested: Annotated[int | None, Meta(description="Requested memory of all nodes together, in bytes.")]
    memory_efficiency: Annotated[float | None, Meta(description="Share of its memory that the job used, from 0 to 1.")]


class AccountAnswer(Struct):
    """An account that the caller may charge. Everyone who shares the account shares its minutes."""

    name: Annotated[str, Meta(description="The account's name, which a submit takes as `accounting_id`.")]
    cluster: Annotated[str, Meta(description="The id of the cluster.")]
    default: Annotated[bool, Meta(description="Whether this account is charged if a job names none.")]
    qos: Annotated[list[str], Meta(description="The QOS that you may use with this account.")]
    default_qos: Annotated[str | None, Meta(description="The QOS of a job that names none.")]
    cpu_minutes_limit: Annotated[
        int | None, Meta(description="Processor minutes for all users of the account; null if unlimited.")
    ]
    cpu_minutes_used: Annotated[int | None, Meta(description="Processor minutes used by all users of the account.")]
    cpu_minutes_left: Annotated[int | None, Meta(description="Processor minutes left; null if unlimited.")]


class JobNamed(Struct, forbid_unknown_fields=True):
    """A job by cluster and id."""

    cluster: Annotated[str, _CLUSTER]
    job_id: Annotated[JobId, _JOB_ID]

    @property
    def id(self) -> str:
        return str(self.job_id)


class StatusBody(Struct, forbid_unknown_fields=True):
    """The body of ``POST /api/v1/jobs/status``."""

    jobs: Annotated[
        list[JobNamed], Meta(min_length=1, max_length=1000, description="The jobs, of one cluster or of several.")
    ]


class StatusAnswer(Struct):
    """The status of one of several jobs, or the error that prevented it."""

    cluster: Annotated[str, _CLUSTER]
    job_id: Annotated[str, _JOB_ID]
    status: Annotated[str | None, _STATUS] = None
    native_state: Annotated[str | None, _NATIVE_STATE] = None
    native_reason: Annotated[str | None, _NATIVE_REASON] = None
    outcome: Annotated[str | None, _OUTCOME] = None
    exit_code: Annotated[int | None, _EXIT_CODE] = None
    can_start: Annotated[bool | None, _CAN_START] = None
    reason: Annotated[str | None, _REASON] = None
    error: Annotated[
        str | None, Meta(description="An error code, such as `not_found`; null if the status is known.")
    ] = None
    message: Annotated[str | None, Meta(description="The error in words; null if there is none.")] = None


class JobAction(Struct):
    """The result of a cancel, hold or release."""

    job_id: Annotated[str, _JOB_ID]
    status: Annotated[str | None, Meta(description="The new status, such as `cancelled`; null if unknown.")]


class OutputAnswer(Struct):
    """A piece of a job's output. Offsets and sizes are in bytes."""

    job_id: Annotated[str, _JOB_ID]
    cluster: Annotated[str, _CLUSTER]
    stream: Annotated[str, Meta(description="`stdout` or `stderr`.")]
    path: Annotated[str, Meta(description="The path of the output file on the cluster.")]
    content: Annotated[str, Meta(description="The text.")]
    offset: Annotated[int, Meta(description="Byte offset in the file at which `content` begins.")]
    next_offset: Annotated[int, Meta(description="Pass this as `offset` to continue reading.")]
    size: Annotated[int, Meta(description="Size of the whole file in bytes.")]
    may_grow: Annotated[bool, Meta(description="Whether the job may still write.")]
    lossy: Annotated[bool, Meta(description="Whether invalid UTF-8 was replaced by U+FFFD in `content`.")]
    truncated: Annotated[
        bool,
        Meta(
            description="Whether some of the last lines are missing: they exceed `limit`, or carriage returns "
            "overwrote them (a progress bar). `offset` reads the exact bytes."
        ),
    ]


class SiteNote(Struct):
    """A note of the site for agents."""

    source: Annotated[str, Meta(description="The file that the note comes from.")]
    content: Annotated[str, Meta(description="The note's text, in Markdown.")]
    truncated: Annotated[bool, Meta(description="Whether the end of the note was cut off.")]


class ContextAnswer(Struct):
    """The site's notes for agents."""

    notes: Annotated[list[SiteNote], Meta(description="The notes, sorted by file name.")]


class WhoAmI(Struct):
    """The caller and the credential."""

    user: Annotated[str, Meta(description="Your Unix user name on the clusters.")]
    via: Annotated[
        str, Meta(description="The credential: `token` (of this portal) or `jwt` (of the site's identity provider).")
    ]
    scopes: Annotated[list[str], Meta(description="What the credential allows, such as `jobs:read`.")]
    token_id: Annotated[str | None, Meta(description="The token's id; null for a JWT.")]
    token_name: Annotated[str | None, Meta(description="The token's name; null for a JWT.")]
    expires_at: Annotated[
        str | None, Meta(description="Expiry of the token, RFC 3339 in UTC; null if it never expires, and for a JWT.")
    ]
