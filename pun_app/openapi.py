"""The generator of the API's OpenAPI 3.1 document, from the tables and types that serve the requests.

``python -m pun_app.openapi`` prints the document. The file nginx/static/openapi.json is that output; a test compares
them. Every text comes from ROUTES, from the Meta of a field or from this module, and none from a docstring. No PUN
imports this module.
"""

from __future__ import annotations

import json
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
from pun_app.queries import ClusterQuery, HistoryQuery
from pun_app.routes import BODY_LIMIT, ROUTES, Route
from tokens.scopes import OFFERED

VERSION = "1.0.0"
"""The version of the API, which is not Punway's."""

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
"""An example of ``data`` by operation, from the original ood-api's documentation."""
BODIES: dict[str, Any] = {
    "submit_job": _SUBMIT,
    "job_statuses": {"jobs": [{"cluster": "owens", "job_id": "12345"}, {"cluster": "pitzer", "job_id": "77"}]},
}
"""An example of a request body by operation."""
_ALWAYS: tuple[type[ApiError], ...] = (BadRequest, Unauthorized, Forbidden, Internal, Unavailable)
_PAGED = ("list_jobs", "list_historic")
_STATUS_DESCRIPTIONS = {
    400: "The request is malformed; the message names the field or parameter.",
    401: "The credential is missing, invalid or expired.",
    403: "The token lacks a scope, or the site's rules do not let this user use the API.",
    404: "The cluster or job does not exist, or it is not yours.",
    409: "Two values contradict each other, or the result of an earlier request with this key is unknown.",
    413: "The body is too large.",
    415: "The Content-Type is not application/json.",
    422: "The scheduler refused the request; the message is its own.",
    429: "Too many requests; try again after the time in Retry-After.",
    500: "An unexpected error in the portal.",
    501: "The cluster's scheduler does not support this.",
    503: "The scheduler, your home directory or a part of the portal does not respond; try again after the time in "
    "Retry-After.",
}


IF_NONE_MATCH: dict[str, Any] = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "ETags of earlier responses. The response is a 304 if the result still has one of them.",
    "schema": {"type": "string"},
}
IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A text of your choice that identifies this submit. For 24 hours, a repeated request with the same "
    "key returns the first response and submits nothing.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


def document() -> dict[str, Any]:
    """Return the document as it is written to JSON."""
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
            "description": "Clusters and batch jobs of an HPC site. Every request acts as the user whose token it "
            'carries. A successful response is `{"data": …}`; an error is `{"error": CODE, "message": TEXT}`, and the '
            "message says what to do.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "this portal"}],
        "security": [{"token": []}],
        "tags": [{"name": name} for name in dict.fromkeys(_tag(route) for route in ROUTES)],
        "paths": paths,
        "components": {
            "schemas": {name: _component(schema) for name, schema in sorted(components.items())} | {"Error": _ERROR},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token from the portal's API Tokens page (64 hex characters), or a JWT from the "
                    f"site's identity provider. Scopes: {', '.join(OFFERED)}.",
                }
            },
        },
    }


_ERROR = {
    "type": "object",
    "title": "Error",
    "properties": {
        "error": {"type": "string", "description": "The error code, such as `not_found`."},
        "message": {"type": "string", "description": "What is wrong and what to do, for people."},
    },
    "required": ["error", "message"],
}


def _operation(route: Route) -> dict[str, Any]:
    name = route.handler.__name__
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": [_tag(route)],
        "summary": route.summary,
        "description": f"{route.description} Scope: {route.scope or 'any'}.",
        "parameters": _parameters(route),
        "responses": _responses(route, name),
    }
    if "<id>" in route.path:
        noun, example = ("cluster", "owens") if _tag(route) == "clusters" else ("job", "12345")
        place = {"name": "id", "in": "path", "required": True, "description": f"The {noun}'s id.", "example": example}
        # Narrower than what lies between two slashes: match.py rejects ambiguous addresses, and nginx rejects any that
        # could contain a token (64 hex digits).
        schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_+.\\[\\]-]*$", "maxLength": 63}
        operation["parameters"].insert(0, {**place, "schema": schema})
    if route.body:
        content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{route.body.__name__}"}}
        content["examples"] = {"contract": {"value": BODIES[name]}}
        operation["requestBody"] = {
            "description": f"At most {BODY_LIMIT:,} bytes without `{route.large}`, which may be as large as the site "
            "allows."
            if route.large
            else f"At most {BODY_LIMIT:,} bytes.",
            "required": True,
            "content": {"application/json": content},
        }
    return operation


def _responses(route: Route, name: str) -> dict[str, Any]:
    responses = {str(route.status): _success("Success.", route.answer, name)}
    if route.other:
        responses["200"] = _success("With `validate`: the scheduler would accept the job.", route.other, "")
    if _is_read(route):
        responses["304"] = {"description": "Not modified: the ETag is one of If-None-Match."}
    for status in sorted({kind.status for kind in _errors(route)} | {429}):
        response: dict[str, Any] = {"description": _STATUS_DESCRIPTIONS[status]}
        response["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
        if status in (429, 503):
            retry_after = {"schema": {"type": "integer"}, "description": "Seconds to wait before the next try."}
            response["headers"] = {"Retry-After": retry_after}
        responses[str(status)] = response
    return responses


def _is_read(route: Route) -> bool:
    """Return True for a route whose responses have an ETag and that reads If-None-Match (app.py)."""
    return route.method == "GET"


def _success(description: str, answer: Any, name: str) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([answer], ref_template="#/components/schemas/{name}")
    described = {**_plain(schema), "description": "The result."}
    data: dict[str, Any] = {"type": "object", "properties": {"data": described}, "required": ["data"]}
    if name in _PAGED:
        data["properties"]["next_cursor"] = {
            "anyOf": [{"type": "string"}, {"type": "null"}],
            "description": "The cursor of the next page; null on the last. Absent if no page was requested.",
        }
    content: dict[str, Any] = {"schema": data}
    if name in EXAMPLES:
        content["example"] = {"data": EXAMPLES[name]}
    return {"description": description, "content": {"application/json": content}}


def _errors(route: Route) -> set[type[ApiError]]:
    """Return the errors with which a route may reject a request."""
    kinds = set(_ALWAYS)
    if route.scope:
        kinds.add(InsufficientScope)
    if route.body:
        kinds |= {TooLarge, UnsupportedMedia}
    if "cluster" in route.path or issubclass(route.query, ClusterQuery) or route.body:
        kinds |= {NotFound, NotSupported}
    if "/jobs" in route.path:
        kinds |= {Refused}
    if route.takes_idempotency_key or route.query is HistoryQuery:
        kinds.add(Conflict)
    return kinds


def _parameters(route: Route) -> list[dict[str, Any]]:
    """Return the query parameters and the headers that a route reads."""
    _, components = msgspec.json.schema_components([route.query], ref_template="{name}")
    schema = components[route.query.__name__]
    published = [
        _query_parameter(name, _plain(field), is_required=name in schema["required"])
        for name, field in schema["properties"].items()
    ]
    if route.takes_idempotency_key:
        published.append(IDEMPOTENCY_KEY)
    return [*published, IF_NONE_MATCH] if _is_read(route) else published


def _query_parameter(name: str, schema: dict[str, Any], *, is_required: bool) -> dict[str, Any]:
    """Return a parameter whose schema is the one of a Struct's field. A query string has no null."""
    description, examples = schema.pop("description"), schema.pop("examples", ())
    alternatives = schema.pop("anyOf", None)
    if alternatives and {"type": "null"} in alternatives:
        schema.pop("default")
        (schema,) = (alternative for alternative in alternatives if alternative != {"type": "null"})
    if "enum" in schema:
        schema = {"type": "string", **schema}
    if "anyOf" in schema:
        del schema["type"]  # The alternatives have it.
    published = {"name": name, "in": "query", "required": is_required, "description": description, "schema": schema}
    return {**published, "example": examples[0]} if examples else published


def _tag(route: Route) -> str:
    first = route.path.removeprefix("/api/v1/").partition("/")[0]
    return {"jobs": "jobs", "whoami": "portal", "context": "portal"}.get(first, "clusters")


def _component(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a named schema without the description that msgspec makes from the Struct's docstring."""
    return {name: value for name, value in _plain(schema).items() if name != "description"}


def _plain(schema: Any, key: str = "") -> Any:
    """Return a schema with JSON Schema's ``$`` in place of Python's ``\\Z`` in patterns."""
    if isinstance(schema, dict):
        return {name: _plain(value, name) for name, value in schema.items()}
    if isinstance(schema, list):
        return [_plain(value) for value in schema]
    return schema.replace(r"\Z", "$") if key == "pattern" else schema


if __name__ == "__main__":
    print(json.dumps(document(), indent=1, ensure_ascii=False))
