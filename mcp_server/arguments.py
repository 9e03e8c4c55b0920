"""The types of the tools' arguments: what each is, said for a model that has read nothing else."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, StrictBool, StrictInt, ValidationError, WithJsonSchema


def _as_text(value: Any) -> Any:
    """An id as it stands in the API. Some clients send ``7`` for ``"7"``."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value


_JOB_ID = "a job's id, as submit_job and list_jobs give it"
ClusterId = Annotated[str, Field(description="a cluster's id, as list_clusters gives it", min_length=1, max_length=256)]
JobId = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(min_length=1, max_length=64),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}], "description": _JOB_ID}),
]
JobIds = Annotated[list[JobId] | None, Field(max_length=1000)]
Limit = Annotated[StrictInt, Field(ge=1, le=1000, description="how many jobs at once")]
Cursor = Annotated[str | None, Field(description="next_cursor of the page before; leave it out for the first page")]
Stream = Annotated[Literal["stdout", "stderr"], Field(description="many programs write their errors to stderr")]
Count = Annotated[StrictInt | None, Field(ge=1)]
Key = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=255,
        description="any text of your own that names this submit: should the answer get lost, the same call with the "
        "same key gives the first answer instead of a second job (24 hours)",
    ),
]


_MOST_SAID = 10
_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "model_type": "should be an object",
    "list_type": "should be a list",
    "dict_type": "should be an object",
}


def what_is_wrong(error: ValidationError) -> str:
    """The arguments at fault, and why: ``jobs[1].job_id is missing; limit: Input should be a valid integer``."""
    said = []
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    for one in errors[:_MOST_SAID]:
        place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in one["loc"]).lstrip(".")
        said.append(f"{place} {_WORDS[one['type']]}" if one["type"] in _WORDS else f"{place}: {one['msg']}")
    text = "; ".join(said)
    if len(errors) > len(said):
        text += f"; and {len(errors) - len(said)} more like these"
    if any(one["type"] == "extra_forbidden" for one in errors):
        text += f". The options are: {', '.join(Options.model_fields)}"
    return text


class JobNamed(BaseModel):
    cluster: ClusterId
    job_id: JobId


class Options(BaseModel, extra="forbid"):
    """What a job asks for. Leave out what the site's defaults are good for."""

    job_name: str | None = None
    queue_name: str | None = Field(None, description="one of list_queues")
    accounting_id: str | None = Field(None, description="the account that is charged, one of list_accounts")
    wall_time: Annotated[StrictInt, Field(ge=1)] | None = Field(
        None, description="the longest that it may run, in seconds; a job that runs longer is ended"
    )
    nodes: Count = None
    cores: Count = Field(None, description="processor cores in all (tasks)")
    memory: str | None = Field(None, description="of each node: a whole number and M, G or T, such as 4G")
    gpus: Count = Field(None, description="of each node")
    output_path: str | None = Field(
        None, description="where stdout goes; left out, the scheduler chooses. read_job_output finds it either way"
    )
    error_path: str | None = Field(None, description="where stderr goes; left out, mostly the same file as stdout")
    environment: dict[str, str] | None = Field(None, description="variables that the job gets")
    array: str | None = Field(None, description="runs the script once for each index: 1-10, 1,5,9 or 1-100%5")
    after: JobIds = Field(None, description="starts once these have started")
    afterok: JobIds = Field(None, description="starts once these have succeeded")
    afternotok: JobIds = Field(None, description="starts once these have failed")
    afterany: JobIds = Field(None, description="starts once these have ended")
    qos: str | None = None
    reservation: str | None = None
    hold: StrictBool | None = Field(None, description="submit it held; release_job lets it start")
    email: str | None = Field(None, description="is told when the job ends or fails")
    native: list[str] | None = Field(
        None, description="further options in the scheduler's own words, such as --exclusive"
    )
