"""Tests of the table of tools, their arguments and their error messages."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from mcp_server.arguments import JobId, JobNamed, Options, argument_errors
from mcp_server.bridge import mcp_url_of
from mcp_server.portal import Portal, PortalError
from mcp_server.tools import tools
from pun_app.errors import ApiError, BadRequest, InsufficientScope, NotFound, NotSupported, Refused, Unauthorized
from tokens.scopes import SCOPES


def test_the_scopes_are_the_apis() -> None:
    """Each tool needs a scope that exists, or none."""
    rows = tools(Portal("/nonexistent", "portal.example.org"))
    assert {row.scope for row in rows} - {None} <= set(SCOPES)
    assert len({row.name for row in rows}) == len(rows) == 18


@pytest.mark.parametrize(
    ("given", "job_id"), [("7", "7"), (7, "7"), (7.0, "7"), ("7[1].pbs", "7[1].pbs"), (10**12, "1" + "0" * 12)]
)
def test_an_id_may_be_a_number(given: Any, job_id: str) -> None:
    """A job id may be sent as a number, as some clients do."""
    assert TypeAdapter(JobId).validate_python(given) == job_id


@pytest.mark.parametrize("given", [True, None, 7.5, float("inf"), float("nan"), [], {}, "", "x" * 65, 10**70])
def test_what_is_no_id(given: Any) -> None:
    """Anything else is rejected as a job id."""
    with pytest.raises(ValidationError):
        TypeAdapter(JobId).validate_python(given)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (JobNamed, {"job_id": 1}, "cluster is missing"),
        (JobNamed, [], "should be an object"),
        (Options, {"nodes": 0, "after": "7"}, "nodes: Input should be greater than or equal to 1; after should be a list"),
        (list[JobNamed], [{"cluster": "a", "job_id": 1}, {"cluster": "a"}, 3], "[1].job_id is missing; [2] should be an object"),
        (Options, {"environment": [], "native": ["-x", 7]}, "environment should be an object; native[1]: Input should be a valid string"),
        (Options, {"walltime": 60}, "walltime is unknown. The options are: job_name, queue_name, accounting_id, wall_time"),
        (list[JobNamed], [1] * 50, "[9] should be an object; and 40 more errors"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_arguments(kind: Any, given: Any, message: str) -> None:
    """The message names each wrong argument with the reason, and stays short however many are wrong."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(given)
    assert message in argument_errors(caught.value)
    assert "pydantic" not in argument_errors(caught.value) and len(argument_errors(caught.value)) < 500


@pytest.mark.parametrize("kind", [BadRequest, Unauthorized, InsufficientScope, NotFound, Refused, NotSupported])
def test_each_error_says_what_to_do(kind: type[ApiError]) -> None:
    """A tool's error has the portal's message, the error code, and advice."""
    message = str(PortalError(kind.status, kind.error, "What is wrong"))
    assert message.startswith(f"What is wrong. ({kind.error}) ") and len(message) > 60


def test_when_to_try_again() -> None:
    """A Retry-After becomes advice; an error without advice is the message alone."""
    assert (
        str(PortalError(503, "service_unavailable", "Busy.", "5"))
        == "Busy. (service_unavailable) Try again in 5 seconds."
    )
    assert str(PortalError(500, "internal_error", "Something")) == "Something. (internal_error)"


@pytest.mark.parametrize(
    "url",
    ["https://p.example.org", "https://p.example.org/", " https://p.example.org/mcp", "https://p.example.org/api/v1/"],
)
def test_the_portals_address_as_people_write_it(url: str) -> None:
    """The bridge accepts the portal's address with or without a path."""
    assert mcp_url_of(url) == "https://p.example.org/mcp"
