"""The types of the tools' arguments, and the message about wrong ones.

Descriptions are not here: schemas.py takes them from the API's document, by the names of the models and their fields.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, StrictBool, StrictInt, ValidationError, WithJsonSchema


def _as_text(value: Any) -> Any:
    """Return an id as the API's text. Some clients send ``7`` or ``7.0`` for ``"7"``."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value


ClusterId = Annotated[str, Field(min_length=1, max_length=256)]
JobId = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(min_length=1, max_length=64),
    WithJsonSchema({"type": "string"}),
]
JobIds = Annotated[list[JobId] | None, Field(max_length=1000)]
Limit = Annotated[StrictInt, Field(ge=1, le=1000)]
Cursor = str | None
Stream = Literal["stdout", "stderr"]
Count = Annotated[StrictInt | None, Field(ge=1)]
IdempotencyKey = Annotated[str | None, Field(min_length=1, max_length=255)]


class JobNamed(BaseModel):
    """A job by cluster and id."""

    cluster: ClusterId
    job_id: JobId


class Options(BaseModel, extra="forbid"):
    """The options of a submit."""

    job_name: str | None = None
    queue_name: str | None = None
    accounting_id: str | None = None
    wall_time: Count = None
    nodes: Count = None
    cores: Count = None
    memory: str | None = None
    gpus: Count = None
    output_path: str | None = None
    error_path: str | None = None
    environment: dict[str, str] | None = None
    array: str | None = None
    after: JobIds = None
    afterok: JobIds = None
    afternotok: JobIds = None
    afterany: JobIds = None
    qos: str | None = None
    reservation: str | None = None
    hold: StrictBool | None = None
    email: str | None = None
    native: list[str] | None = None


_MAX_ERRORS_NAMED = 10
_MESSAGES = {
    "missing": "is missing",
    "extra_forbidden": "is unknown",
    "model_type": "should be an object",
    "list_type": "should be a list",
    "dict_type": "should be an object",
}


def argument_errors(error: ValidationError) -> str:
    """Return which arguments are wrong, and why: ``jobs[1].job_id is missing; limit: Input should be an integer``."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    parts = []
    for detail in errors[:_MAX_ERRORS_NAMED]:
        place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in detail["loc"]).lstrip(".")
        message = _MESSAGES.get(detail["type"])
        parts.append(f"{place} {message}" if message else f"{place}: {detail['msg']}")
    text = "; ".join(parts)
    if len(errors) > len(parts):
        text += f"; and {len(errors) - len(parts)} more errors"
    if any(detail["type"] == "extra_forbidden" for detail in errors):
        text += f". The options are: {', '.join(Options.model_fields)}"
    return text
