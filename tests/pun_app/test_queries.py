"""Tests of pun_app/queries.py and decode.py: a query string is rejected with a message that names the parameter and the remedy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pun_app.decode import decode_query
from pun_app.errors import BadRequest
from pun_app.queries import (
    ClusterQuery,
    HistoryQuery,
    JobQuery,
    JobsQuery,
    OutputQuery,
    Query,
    SubmitQuery,
)
from pun_app.routes import ROUTES, Route
from tests.pun_app.pun import Pun

BOX = {"cluster": ["box"]}


def message(given: dict[str, list[str]], kind: type[Query]) -> str:
    with pytest.raises(BadRequest) as error:
        decode_query(given, kind)
    return error.value.message


@pytest.mark.parametrize(
    ("given", "kind", "query"),
    [
        ({}, Query, Query()),
        (BOX, ClusterQuery, ClusterQuery("box")),
        ({**BOX, "limit": ["7"], "cursor": ["MTI="]}, JobsQuery, JobsQuery("box", 7, "MTI=")),
        ({**BOX, "from": ["2026-01-01"], "to": [""]}, HistoryQuery, HistoryQuery("box", "2026-01-01")),
        ({**BOX, "wait": ["0"], "until": ["change"]}, JobQuery, JobQuery("box", 0, "change")),
        (BOX, OutputQuery, OutputQuery("box", "stdout")),
        ({"validate": ["true"]}, SubmitQuery, SubmitQuery(True)),
        ({"validate": ["false"]}, SubmitQuery, SubmitQuery(False)),
    ],
    ids=["none", "cluster", "page", "an empty end", "wait", "defaults", "true", "false"],
)
def test_a_query_string_becomes_a_struct(given: dict[str, list[str]], kind: type[Query], query: Query) -> None:
    assert decode_query(given, kind) == query


def test_an_unknown_parameter_is_named_with_the_known_ones() -> None:
    """The message also names all unknown ones, and says so if an address takes none."""
    assert message({**BOX, "limt": ["5"]}, JobsQuery) == (
        "Unknown query parameter: limt. This address takes: cluster, limit, cursor."
    )
    assert message({"b": ["1"], "a": ["1"]}, Query) == (
        "Unknown query parameters: b, a. This address takes no query parameters."
    )
    assert len(message({f"{number}{'x' * 100}": ["1"] for number in range(100)}, JobQuery)) < 1000
    assert "\0" not in message({"a\0": ["1"]}, Query)


@pytest.mark.parametrize(
    ("given", "kind", "expected"),
    [
        ({}, ClusterQuery, "Missing cluster parameter"),
        ({"cluster": [" "]}, ClusterQuery, "Missing cluster parameter"),
        ({"cluster": ["a", "b"]}, ClusterQuery, "cluster: this query parameter is repeated; give it once"),
        ({"cluster": ["a\0"]}, ClusterQuery, "cluster: this query parameter has a control character in it"),
        ({"cluster": ["a\x7f"]}, ClusterQuery, "cluster: this query parameter has a control character in it"),
        ({**BOX, "limit": [""]}, JobsQuery, "limit: this query parameter is empty; give it a value or omit it"),
        ({**BOX, "limit": ["0"]}, JobsQuery, 'limit: write a whole number from 1 to 1000, not "0"'),
        ({**BOX, "limit": ["1e2"]}, JobsQuery, 'limit: write a whole number from 1 to 1000, not "1e2"'),
        ({**BOX, "limit": ["null"]}, JobsQuery, 'limit: write a whole number from 1 to 1000, not "null"'),
        ({**BOX, "limit": ["\uff11"]}, JobsQuery, 'limit: write a whole number from 1 to 1000, not "\uff11"'),
        ({**BOX, "offset": ["9" * 100]}, OutputQuery, "offset: write a whole number from 0 to 9223372036854775807, not"),
        ({**BOX, "offset": ["9" * 5000]}, OutputQuery, "offset: write a whole number from 0 to 9223372036854775807, not"),
        ({**BOX, "tail": ["0"]}, OutputQuery, 'tail: write a whole number from 1 to 10000, not "0"'),
        ({**BOX, "tail": ["10001"]}, OutputQuery, 'tail: write a whole number from 1 to 10000, not "10001"'),
        ({**BOX, "limit": ["0"]}, OutputQuery, 'limit: write a whole number from 1 to 1048576, not "0"'),
        ({**BOX, "limit": ["1048577"]}, OutputQuery, 'limit: write a whole number from 1 to 1048576, not "1048577"'),
        ({**BOX, "stream": ["both"]}, OutputQuery, 'stream: write one of stderr, stdout, not "both"'),
        ({**BOX, "until": ["never"]}, JobQuery, 'until: write one of change, completed, running, not "never"'),
        ({**BOX, "status": ["running"]}, HistoryQuery, "status: write completed, or one or more of "),
        ({**BOX, "status": ["failed,done"]}, HistoryQuery, "status: write completed, or one or more of "),
        ({"validate": ["1"]}, SubmitQuery, 'validate: write true or false, not "1"'),
        ({"validate": ["True"]}, SubmitQuery, 'validate: write true or false, not "True"'),
    ],
    ids=[
        "missing", "blank", "repeated", "control", "delete", "empty", "too small", "exponent", "null", "other digits", "too large",
        "too large for int()", "no lines", "too many lines", "no bytes", "too many bytes",
        "stream", "until", "status", "second status", "one", "upper case",
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit(given: dict[str, list[str]], kind: type[Query], expected: str) -> None:
    """The message names the parameter and what to write."""
    assert message(given, kind).startswith(expected)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_address_rejects_unknown_parameters(pun: Pun, route: Route) -> None:
    """An address that ignored a misspelled parameter would answer another question than the one that was asked."""
    path = route.path.replace("<id>", "1") + "?cluster=box&limt=5"
    content = json.dumps({}).encode()
    more: dict[str, Any] = {"body": content, "headers": {"Content-Type": "application/json"}} if route.body else {}
    answer = pun(route.method, path, 400, **more)
    assert answer.json["error"] == "bad_request"
    assert "limt" in answer.json["message"] and "This address takes" in answer.json["message"]
