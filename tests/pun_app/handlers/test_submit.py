"""Tests of pun_app/handlers/jobs.py: the body of a submit, on the embedded scheduler."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from pun_app.decode import decode
from pun_app.handlers.jobs import _job_request
from pun_app.schemas import Options, Script, StatusBody, SubmitBody
from tests.pun_app.pun import Pun

JSON = {"Content-Type": "application/json"}


def post(pun: Pun, body: object, status: int = 201, query: str = "", **headers: str) -> Any:
    content = json.dumps(body).encode()
    return pun("POST", f"/api/v1/jobs{query}", status, body=content, headers={**JSON, **headers}).json


def body(**options: object) -> dict[str, Any]:
    return {"cluster": "box", "script": {"content": "#!/bin/sh\n"}, "options": {"hold": True, **options}}


@pytest.mark.parametrize("name", [name for name in Options.__struct_fields__ if name != "hold"])
def test_null_in_an_option_is_absent(pun: Pun, name: str) -> None:
    assert post(pun, body(**{name: None}))["data"]["status"] == "queued_held"


def test_null_in_any_optional_member_is_absent(pun: Pun) -> None:
    """This includes the script's members, the options as a whole, and the boolean."""
    given = {**body(), "script": {"content": "#!/bin/sh\n", "workdir": None}}
    assert post(pun, given)["data"]["status"] == "queued_held"
    for options in (None, {"hold": None}):
        answer = post(pun, {**body(), "options": options})["data"]
        assert answer["status"] == "queued"
    for required in ({**body(), "cluster": None}, {**body(), "script": None}, {**body(), "script": {"content": None}}):
        assert post(pun, required, 400)["error"] == "bad_request"


def test_absent_and_null_are_one_body(pun: Pun) -> None:
    """A submit that is repeated with its key may use either."""
    first = post(pun, body(), 201, **{"Idempotency-Key": "k"})
    assert post(pun, body(job_name=None, native=None, afterok=None), 201, **{"Idempotency-Key": "k"}) == first


def test_a_body_is_fingerprinted_as_ever() -> None:
    """A key that was used before an upgrade finds its record after it."""
    given = b'{"cluster": "box", "script": {"content": "x"}, "options": {"job_name": "n", "afterok": ["7"]}}'
    plain = b'{"cluster":"box","script":{"content":"x"},"options":{"job_name":"n","afterok":["7"]}}'
    assert msgspec.json.encode(decode(given, SubmitBody)) == plain
    assert (
        msgspec.json.encode(SubmitBody("box", Script("x")))
        == b'{"cluster":"box","script":{"content":"x"},"options":{}}'
    )


@pytest.mark.parametrize("name", ["after", "afterok", "afternotok", "afterany"])
def test_a_number_is_a_job_id(name: str) -> None:
    """A number in any notation means the id with the same digits."""
    given = f'{{"cluster": "box", "script": {{"content": "x"}}, "options": {{"{name}": [7, "8_1", 9.0]}}}}'
    decoded = decode(given.encode(), SubmitBody)
    assert isinstance(decoded, SubmitBody)
    assert getattr(_job_request(decoded), name) == ("7", "8_1", "9")


def test_numbers_among_the_jobs_of_many(pun: Pun) -> None:
    job = post(pun, body())["data"]["job_id"]
    asked = {"jobs": [{"cluster": "box", "job_id": one} for one in (int(job), float(job), job, 10**18)]}
    said = pun("POST", "/api/v1/jobs/status", 200, body=json.dumps(asked).encode(), headers=JSON).json["data"]
    assert [(one["job_id"], one["status"]) for one in said[:3]] == [(job, "queued_held")] * 3
    assert said[3]["error"] == "not_found"


@pytest.mark.parametrize("wrong", [True, 1.5, -1, 10**30, None, [], {}])
def test_what_is_no_job_id_is_400(wrong: object) -> None:
    for given, kind in (
        ({"jobs": [{"cluster": "box", "job_id": wrong}]}, StatusBody),
        ({**body(), "options": {"after": [wrong]}}, SubmitBody),
    ):
        with pytest.raises(msgspec.DecodeError):
            decode(json.dumps(given).encode(), kind)


def test_a_message_says_what_an_option_should_be(pun: Pun) -> None:
    """It does not mention null."""
    assert post(pun, body(wall_time="60"), 400)["message"] == (
        "options.wall_time: write a whole number from 1 to 315360000, not a string"
    )
    assert (
        post(pun, body(afterok="7"), 400)["message"]
        == "options.afterok: write a list of up to 1000 items, not a string"
    )
    assert (
        post(pun, body(nodes=1.5), 400)["message"]
        == "options.nodes: write a whole number from 1 to 10000000, not a fraction"
    )
