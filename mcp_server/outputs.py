"""What the tools answer, as pydantic models: their schemas are what a client is told of each tool's output.

They are the REST API's own answers (docs/users/reference.md), whose fields a test compares with these.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

Time = Annotated[str | None, Field(description="RFC 3339, UTC; null where it is not known")]
CanStart = Annotated[
    bool | None,
    Field(description="false: a queued job that can never start as things are (reason says why); do not wait for it"),
]
Reason = Annotated[str | None, Field(description="why it can never start, in words; null otherwise")]
Seconds = Annotated[int | None, Field(description="seconds")]


class WhoAmI(BaseModel):
    user: str = Field(description="the Unix user that everything is done as")
    via: str = Field(description="token (of this portal) or jwt (of the site's identity provider)")
    scopes: list[str] = Field(description="what the credential allows")
    token_id: str | None
    token_name: str | None
    expires_at: Time


class Cluster(BaseModel):
    id: str = Field(description="what the other tools take as cluster")
    title: str
    adapter: str = Field(description="the kind of scheduler: slurm, pbspro, torque, lsf, sge, htcondor, local")
    login_host: str | None
    state: str | None = Field(
        description="up or down: whether the scheduler answered when last asked; null where it was not for minutes"
    )


class Clusters(BaseModel):
    clusters: list[Cluster]


class ClusterInfo(BaseModel):
    active_nodes: int | None
    total_nodes: int | None
    active_processors: int | None
    total_processors: int | None
    active_gpus: int | None
    total_gpus: int | None


class Queue(BaseModel):
    name: str
    state: str | None = Field(
        description="up, down (takes jobs, starts none), draining (starts what it has, takes none) or inactive"
    )
    native_state: str | None
    default: bool = Field(description="where jobs go that name no queue")
    time_limit: int | None = Field(description="the longest wall time, seconds; null without a limit")
    default_time_limit: Seconds
    active_nodes: int | None
    idle_nodes: int | None
    total_nodes: int | None
    allow_accounts: list[str] | None = Field(description="null: every account")
    deny_accounts: list[str]
    allow_qos: list[str] | None = Field(description="null: every QOS")
    deny_qos: list[str]
    tres: dict[str, str] = Field(description="what it has in all, in the scheduler's own words")


class Queues(BaseModel):
    queues: list[Queue]


class Account(BaseModel):
    name: str = Field(description="what submit_job takes as accounting_id")
    cluster: str
    default: bool = Field(description="what is charged where no account is named")
    qos: list[str]
    default_qos: str | None
    cpu_minutes_limit: int | None
    cpu_minutes_used: int | None
    cpu_minutes_left: int | None


class Accounts(BaseModel):
    accounts: list[Account]


class Job(BaseModel):
    job_id: str
    cluster: str
    job_name: str | None
    job_owner: str | None
    status: str | None = Field(description="queued, queued_held, running, suspended or completed (ended in any way)")
    native_state: str | None = Field(description="the scheduler's own word")
    native_reason: str | None = Field(description="why it waits, or why it ended, as the scheduler says it")
    outcome: str | None = Field(
        description="how it ended: succeeded, failed, cancelled, timed_out, out_of_memory, node_failed or preempted; "
        "null until then"
    )
    exit_code: int | None = Field(description="of a job that ended by itself")
    queue_name: str | None
    accounting_id: str | None
    submitted_at: Time
    started_at: Time
    ended_at: Time
    wallclock_time: Seconds
    wallclock_limit: Seconds
    can_start: CanStart = None
    reason: Reason = None


DependenciesMet = Annotated[
    dict[str, list[str]],
    Field(description="conditions that were met already, and so left out: job ids by option (afterok, say)"),
]


class Submitted(Job):
    dependencies_met: DependenciesMet = {}


class Jobs(BaseModel):
    jobs: list[Job]
    next_cursor: str | None = Field(description="give it as cursor to get the next page; null after the last")


class PastJob(Job):
    cpus: int | None
    cpu_time: Annotated[int | None, Field(description="processor seconds used")]
    cpu_efficiency: float | None = Field(description="from 0 to 1: of the processors' time, how much was used")
    memory_used: int | None = Field(description="bytes")
    memory_requested: int | None = Field(description="bytes")
    memory_efficiency: float | None = Field(description="from 0 to 1")


class PastJobs(BaseModel):
    jobs: list[PastJob]
    next_cursor: str | None = Field(description="give it as cursor to get the next page; null after the last")


class Status(BaseModel):
    cluster: str
    job_id: str
    status: str | None = Field(description="as in get_job; null where it is not known, and error says why")
    native_state: str | None
    native_reason: str | None
    outcome: str | None
    exit_code: int | None
    can_start: CanStart = None
    reason: Reason = None
    error: str | None = Field(description="not_found, or another error")
    message: str | None


class Statuses(BaseModel):
    jobs: list[Status]


class Waited(BaseModel):
    reached: bool = Field(
        description="false: the time was up before the job got there; call again to wait on, unless can_start is false"
    )
    job: Job


class Validated(BaseModel):
    accepted: bool = Field(description="true; what the scheduler would refuse is an error that says why")
    starts_at: Time
    message: str | None = Field(description="what the scheduler says")
    dependencies_met: DependenciesMet = {}


class Action(BaseModel):
    job_id: str
    status: str | None = Field(description="what became of it: cancelled, queued_held, queued …")


class Output(BaseModel):
    job_id: str
    cluster: str
    stream: str
    path: str = Field(description="the file on the cluster")
    content: str
    offset: int = Field(description="byte at which content begins")
    next_offset: int = Field(description="give it as offset to read on")
    size: int = Field(description="bytes of the whole file")
    may_grow: bool = Field(description="true while the job may still write")
    lossy: bool = Field(description="true where bytes that are no UTF-8 stand as U+FFFD")
    truncated: bool = Field(
        description="true where some of the last lines are left out: they are more than limit bytes, or a progress bar "
        "wrote over them (its last state is here). offset=0 reads the file as it is"
    )


class Note(BaseModel):
    source: str = Field(description="the file that the site's staff wrote it in")
    content: str
    truncated: bool


class Notes(BaseModel):
    notes: list[Note]
