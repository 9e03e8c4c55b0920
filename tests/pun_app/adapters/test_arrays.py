"""pun_app/adapters/arrays.py: one grammar, which every adapter with arrays holds an expression to before anything else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pun_app.adapters.arrays import parse_array, ranges_of
from pun_app.adapters.errors import Rejected
from pun_app.adapters.model import JobRequest
from pun_app.adapters.registry import ADAPTERS, adapter_for

PLAIN = JobRequest(content="#!/bin/sh\ntrue\n", workdir="/tmp")
WRONG = [
    "3-1", "1-4:0", "1-2000000", "0-999999999", "1-3%0", "1-3%", "%3", "", ",", "1,", "1,,2", "a", "-3", "1-", "1-3-5", "1:2", " 1-3",
    "1-3 ", "1 - 3", "1-3\n", "1\uff12", "+1", "5,3", "1,1", "1-5,3", "1-3%-1", "1-3%2%2", "[1-3]", "1-3x", "9999999999",
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_array(text: str) -> None:
    with pytest.raises(Rejected, match=r"options\.array: .*such as 0-9, 1,3,5-9:2 or 1-100%10"):
        parse_array(text)


@pytest.mark.parametrize(
    ("text", "indices", "at_once"),
    [
        ("0-3", [0, 1, 2, 3], None), ("7", [7], None), ("3-3", [3], None), ("1,3,5-9:2%4", [1, 3, 5, 7, 9], 4),
        ("1-6:4%1", [1, 5], 1), ("1-6:4,6", [1, 5, 6], None),
    ],
)  # fmt: skip
def test_what_an_array_is(text: str, indices: list[int], at_once: int | None) -> None:
    array = parse_array(text)
    assert (array.indices(), array.size, array.at_once) == (indices, len(indices), at_once)


def test_a_large_array_costs_nothing_until_it_is_written_out() -> None:
    array = parse_array("1-1000000")
    assert array.size == 1_000_000
    with pytest.raises(Rejected, match="100,000"):
        array.indices()


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name != "local"])
@pytest.mark.parametrize("text", ["3-1", "1-4:0", "1-2000000", "1-3%0"])
def test_no_scheduler_sees_a_wrong_one(name: str, text: str) -> None:
    adapter = adapter_for("c", name, {"adapter": name, "bin": "/nonexistent"})
    with pytest.raises(Rejected, match=r"options\.array"):
        adapter.submit(replace(PLAIN, array=text))


@pytest.mark.parametrize("name", list(ADAPTERS))
@pytest.mark.parametrize("option", ["job_name", "queue_name", "output_path", "error_path"])
@pytest.mark.parametrize("value", [" a", "a ", "\u00a0a", "a\u3000"])
def test_no_name_and_no_path_begins_or_ends_with_a_blank(name: str, option: str, value: str) -> None:
    adapter = adapter_for("c", name, {"adapter": name, "bin": "/nonexistent"})
    given: dict[str, Any] = {option: value}
    with pytest.raises(Rejected, match=rf"options\.{option}: .* begins or ends with a blank"):
        adapter.submit(replace(PLAIN, **given))


def test_indices_as_ranges() -> None:
    assert ranges_of([1, 2, 3, 7, 9, 10]) == ["1-3", "7", "9-10"]
    assert ranges_of([]) == []
