"""Tests of pun_app/validation_errors.py: a message names the field and what to write, in words that users know."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from pun_app.decode import decode
from pun_app.schemas import Options, StatusBody, SubmitBody
from pun_app.validation_errors import expected, explain

GOOD = {"cluster": "box", "script": {"content": "#!/bin/sh"}}


def message(body: object, kind: type[msgspec.Struct] = SubmitBody) -> str:
    with pytest.raises(msgspec.ValidationError) as error:
        decode(json.dumps(body).encode(), kind)
    return explain(error.value, kind)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"memory": "4"}, "options.memory: write a number with M, G or T, such as 4G"),
        ({"memory": 4}, "options.memory: write a number with M, G or T, such as 4G, not a number"),
        ({"wall_time": 0}, "options.wall_time: write a whole number from 1 to 315360000"),
        ({"wall_time": "60"}, "options.wall_time: write a whole number from 1 to 315360000, not a string"),
        ({"nodes": 1.5}, "options.nodes: write a whole number from 1 to 10000000, not a fraction"),
        ({"nodes": 10**30}, "options.nodes: write a whole number from 1 to 10000000"),
        ({"hold": 1}, "options.hold: write true or false, not a number"),
        ({"native": "-N 2"}, "options.native: write a list of up to 200 items, not a string"),
        ({"native": ["-N", 2]}, "options.native[1]: write one line of text, of 1 to 4096 characters and without control "
         "characters, not a number"),
        ({"job_name": "a\nb"}, "options.job_name: write one line of text, of 1 to 4096 characters and without control "
         "characters"),
        ({"array": "all"}, "options.array: write a string of task numbers, such as 1-10, 1,5,9, 0-20:2 or 1-100%5"),
        ({"email": "a@b,c"}, "options.email: write one address, such as alice@example.org"),
        ({"afterok": [True]}, "options.afterok[0]: write a string of 1 to 64 characters or a whole number from 0 to "
         "1000000000000000000, not true or false"),
        ({"environment": {"A B": "1"}}, "options.environment: write each name as letters, digits and underscores, such as "
         "OMP_NUM_THREADS"),
        ({"environment": {"A": 5}}, "options.environment: write each value as a string of up to 100000 characters without "
         "NUL characters, not a number"),
        ({"environment": ["A=1"]}, "options.environment: write an object of up to 1000 names, not a list"),
    ],
    ids=lambda value: "" if isinstance(value, str) else json.dumps(value)[:40],
)  # fmt: skip
def test_an_option_that_does_not_fit(options: dict[str, Any], text: str) -> None:
    assert message({**GOOD, "options": options}) == text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ([], "The body must be a JSON object with the fields cluster, script, options, not a list"),
        ({"cluster": "box"}, "script: this field is required; write an object"),
        ({**GOOD, "script": {}}, "script.content: this field is required; write a string of at least 1 character"),
        ({**GOOD, "scirpt": 1}, "Unknown field: scirpt. The fields of the body are: cluster, script, options"),
        ({**GOOD, "options": 5}, "options: write an object, not a number"),
    ],
    ids=["list", "missing", "missing inside", "unknown", "number"],
)
def test_a_body_that_does_not_fit(body: object, text: str) -> None:
    assert message(body) == text


def test_an_unknown_option_is_named_with_the_known_ones() -> None:
    """Also an option whose name is long or has control characters in it."""
    assert message({**GOOD, "options": {"job_nmae": "x"}}).startswith(
        "Unknown field: options.job_nmae. The fields of options are: job_name, queue_name, "
    )
    assert "\n" not in message({**GOOD, "options": {"\n`": "x"}})
    assert "native" in message({**GOOD, "options": {"x" * 10_000: 1}})


@pytest.mark.parametrize("wrong", [5, {"jobs": []}, {"jobs": [{"cluster": "box"}]}, {"jobs": [5]}], ids=json.dumps)
def test_a_list_of_jobs_that_does_not_fit(wrong: object) -> None:
    assert message(wrong, StatusBody).startswith(("The body", "jobs: write a list of 1 to 1000 items", "jobs[0]"))


def test_no_message_shows_a_regular_expression() -> None:
    """Every field with a pattern says in words what it takes."""
    for field in msgspec.inspect.type_info(Options).fields:
        words = expected(field.type)
        assert words.startswith(("a ", "an ", "one ", "true or false")) and not set(words) & set("^\\[$")
