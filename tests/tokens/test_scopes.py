"""tokens/scopes.py: which scopes include which, and how lists of scopes are parsed."""

from __future__ import annotations

import pytest

from tokens.scopes import ALL, OFFERED, PRESETS, SCOPES, UnknownScope, allows, parse


@pytest.mark.parametrize(
    ("held", "needed", "allowed"),
    [(["jobs:read"], "jobs:read", True), (["jobs:write"], "jobs:read", True), (["jobs:read"], "jobs:write", False),
     (["files:write"], "jobs:read", False), ([], "jobs:read", False), (["clusters:read"], "clusters:write", False)],
    ids=["itself", "a write includes its read", "a read excludes its write", "another subject", "none", "no such scope"],
)  # fmt: skip
def test_a_write_holds_its_read_and_nothing_else(held: list[str], needed: str, allowed: bool) -> None:
    assert allows(held, needed) is allowed


def test_a_list_in_any_order() -> None:
    assert parse("jobs:write, clusters:read") == ("clusters:read", "jobs:write")
    assert parse(" ".join(ALL)) == ALL


def test_a_preset_stands_for_its_scopes() -> None:
    assert parse("all") == OFFERED
    assert parse("read") == ("clusters:read", "jobs:read")
    assert parse("jobs,files:read") == ("clusters:read", "jobs:read", "jobs:write", "files:read")
    assert not PRESETS.keys() & SCOPES.keys()


@pytest.mark.parametrize("text", ["", " ", "job", "jobs:*", "All", "jobs:read,admin"])
def test_an_unknown_scope_is_named(text: str) -> None:
    with pytest.raises(UnknownScope, match="the scopes are"):
        parse(text)
