"""The API's OpenAPI 3.1 document, from what serves the requests: ROUTES, their Structs and parameters, their words.

``python -m pun_app.openapi`` prints it; nginx/static/openapi.json is what it printed, which a test sees to. No PUN
imports it.
"""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import msgspec

from pun_app.errors import (
    ApiError,
    BadRequest,
    Conflict,
    Forbidden,
    InsufficientScope,
    Internal,
    NotFound,
    NotSupported,
    Refused,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
)
from pun_app.parameters import SEEN, Parameter
from pun_app.routes import BODY_LIMIT, ROUTES, Route
from tokens.scopes import OFFERED

VERSION = "1.0.0"
"""Of the API, not of Punway."""

_JOB = {
    "job_id": "12345",
    "cluster": "owens",
    "job_name": "my-simulation",
    "job_owner": "alice",
    "status": "running",
    "native_state": "RUNNING",
    "native_reason": None,
    "outcome": None,
    "exit_code": None,
    "queue_name": "batch",
    "accounting_id": "PAS1234",
    "submitted_at": "2024-01-15T10:30:00Z",
    "started_at": "2024-01-15T10:35:00Z",
    "ended_at": None,
    "wallclock_time": 1800,
    "wallclock_limit": 3600,
}
_OWENS = {"id": "owens", "title": "Owens Cluster", "adapter": "slurm", "login_host": "owens.osc.edu", "state": "up"}
_SUBMIT = {
    "cluster": "owens",
    "script": {
        "content": "#!/bin/bash\n#SBATCH --nodes=1\necho 'Hello World'",
        "workdir": "/users/alice/project",
    },
    "options": {
        "job_name": "my-job",
        "queue_name": "batch",
        "accounting_id": "PAS1234",
        "wall_time": 3600,
        "native": ["-N", "2"],
    },
}
EXAMPLES: dict[str, Any] = {
    "list_clusters": [_OWENS, {**_OWENS, "id": "pitzer", "title": "Pitzer Cluster", "login_host": "pitzer.osc.edu"}],
    "get_cluster": _OWENS,
    "list_jobs": [_JOB],
    "get_job": _JOB,
    "submit_job": {**_JOB, "job_id": "12346", "job_name": "my-job", "status": "queued", "native_state": "PENDING",
                   "started_at": None, "wallclock_time": 0, "dependencies_met": {}},
    "cancel_job": {"job_id": "12345", "status": "cancelled"},
}  # fmt: skip
"""Answers of the contract, by the handlers that give them."""
BODIES: dict[str, Any] = {
    "submit_job": _SUBMIT,
    "job_statuses": {"jobs": [{"cluster": "owens", "job_id": "12345"}, {"cluster": "pitzer", "job_id": "77"}]},
}
_ALWAYS: tuple[type[ApiError], ...] = (BadRequest, Unauthorized, Forbidden, Internal, Unavailable)
_PAGED = ("list_jobs", "list_historic")
_WORDS = {
    400: "The request is not of the form; the message names what is wrong.",
    401: "No credential, or one that is not good.",
    403: "The token lacks a scope, or the site's rules give this user no process.",
    404: "There is no such cluster or job, or it is not yours.",
    409: "Two things that were asked do not go together; or what became of an earlier request is not known.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    422: "The scheduler refuses; the message is its own sentence.",
    429: "Too many requests; Retry-After says when to come again.",
    500: "A fault of the portal's.",
    501: "The cluster's scheduler cannot do this.",
    503: "The scheduler, the home or a part of the portal does not answer; Retry-After says when to come again.",
}


def document() -> dict[str, Any]:
    """The document, as JSON has it."""
    kinds = [kind for route in ROUTES for kind in (route.body, route.answer, route.other) if kind is not None]
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path.replace("<id>", "{id}"), {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "HPC portal: Open OnDemand REST API",
            "version": VERSION,
            "description": "Clusters and batch jobs of an HPC site, as the user whose token it is. Success is "
            '`{"data": …}`, a refusal `{"error": CODE, "message": TEXT}`, whose message says what to do.',
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "this portal"}],
        "security": [{"token": []}],
        "tags": [{"name": name} for name in dict.fromkeys(_tag(route) for route in ROUTES)],
        "paths": paths,
        "components": {
            "schemas": {name: _plain(schema) for name, schema in sorted(components.items())} | {"Error": _ERROR},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of the portal (64 hex characters), or a JWT of the site's identity "
                    f"provider. Its scopes are among {', '.join(OFFERED)}.",
                }
            },
        },
    }


_ERROR = {
    "type": "object",
    "title": "Error",
    "properties": {"error": {"type": "string"}, "message": {"type": "string"}},
    "required": ["error", "message"],
}


def _operation(route: Route) -> dict[str, Any]:
    name = route.handler.__name__
    words = inspect.getdoc(route.handler) or ""
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": [_tag(route)],
        "summary": re.split(r"[.:;](\s|$)", _one_line(words), maxsplit=1)[0],
        "description": f"{_one_line(words)} Scope: {route.scope or 'any'}.",
        "parameters": [
            _parameter(parameter) for parameter in (*route.parameters, *((SEEN,) if _is_read(route) else ()))
        ],
        "responses": _responses(route, name),
    }
    if "<id>" in route.path:
        what = "cluster" if _tag(route) == "clusters" else "job"
        example = "owens" if what == "cluster" else "12345"
        place = {"name": "id", "in": "path", "required": True, "description": f"A {what}'s id.", "example": example}
        # Of what stands between two slashes, less than there is: no address is ambiguous (match.py), or could have a
        # token in it, which may be 64 digits (nginx refuses that).
        schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_+.\\[\\]-]*$", "maxLength": 63}
        operation["parameters"].insert(0, {**place, "schema": schema})
    if route.body:
        content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{route.body.__name__}"}}
        content["examples"] = {"contract": {"value": BODIES[name]}}
        operation["requestBody"] = {
            "description": f"At most {BODY_LIMIT} bytes; with a larger `{route.large}`, as many as the site allows."
            if route.large
            else f"At most {BODY_LIMIT} bytes.",
            "required": True,
            "content": {"application/json": content},
        }
    return operation


def _responses(route: Route, name: str) -> dict[str, Any]:
    answers = {str(route.status): _good("What was asked for.", route.answer, name)}
    if route.other:
        answers["200"] = _good("With validate: the scheduler would take it.", route.other, "")
    if _is_read(route):
        answers["304"] = {"description": "It is as it was when it was seen."}
    for status in sorted({kind.status for kind in _errors(route)} | {429}):
        answer: dict[str, Any] = {"description": _WORDS[status]}
        answer["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
        if status in (429, 503):
            answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
        answers[str(status)] = answer
    return answers


def _is_read(route: Route) -> bool:
    """Whether answers have an ETag, and If-None-Match is looked at (app.py)."""
    return route.method == "GET"


def _good(description: str, answer: Any, name: str) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([answer], ref_template="#/components/schemas/{name}")
    data: dict[str, Any] = {"type": "object", "properties": {"data": _plain(schema)}, "required": ["data"]}
    if name in _PAGED:
        data["properties"]["next_cursor"] = {
            "anyOf": [{"type": "string"}, {"type": "null"}],
            "description": "Of the next page; null after the last. There is none where no page was asked for.",
        }
    content: dict[str, Any] = {"schema": data}
    if name in EXAMPLES:
        content["example"] = {"data": EXAMPLES[name]}
    return {"description": description, "content": {"application/json": content}}


def _errors(route: Route) -> set[type[ApiError]]:
    """What a request to a route may be refused with."""
    kinds = set(_ALWAYS)
    if route.scope:
        kinds.add(InsufficientScope)
    if route.body:
        kinds |= {TooLarge, UnsupportedMedia}
    if "cluster" in route.path or any(parameter.name == "cluster" for parameter in route.parameters) or route.body:
        kinds |= {NotFound, NotSupported}
    if "/jobs" in route.path:
        kinds |= {Refused}
    if {"Idempotency-Key", "from"} & {parameter.name for parameter in route.parameters}:
        kinds.add(Conflict)
    return kinds


def _parameter(parameter: Parameter) -> dict[str, Any]:
    said: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.description,
        "schema": parameter.schema,
    }
    return said if parameter.example is None else {**said, "example": parameter.example}


def _tag(route: Route) -> str:
    first = route.path.removeprefix("/api/v1/").partition("/")[0]
    return {"jobs": "jobs", "whoami": "portal", "context": "portal"}.get(first, "clusters")


def _plain(schema: Any, key: str = "") -> Any:
    """The schema as every reader understands it: what Python's \\Z is, $ is elsewhere. Docstrings become one line."""
    if isinstance(schema, dict):
        return {name: _plain(value, name) for name, value in schema.items()}
    if isinstance(schema, list):
        return [_plain(value) for value in schema]
    if key == "description" and isinstance(schema, str):
        return _one_line(schema)
    return schema.replace(r"\Z", "$") if key == "pattern" else schema


def _one_line(words: str) -> str:
    return " ".join(words.split()).replace("``", "`")


if __name__ == "__main__":
    print(json.dumps(document(), indent=1, ensure_ascii=False))
