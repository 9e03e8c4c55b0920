"""proxy_hook/idp/user_map.py: which claims map to a user, and to which."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy_hook.config_keys import Idp
from proxy_hook.errors import HttpError
from proxy_hook.idp.user_map import UserMap


@pytest.mark.parametrize(
    ("pattern", "claim", "name"),
    [(Idp().user_map, "alice", "alice"), (r"([a-z]+)@example\.org", "alice@example.org", "alice"), ("(.*)", "Alice", "Alice")],
    ids=["default", "address", "anything"],
)  # fmt: skip
def test_a_pattern_gives_its_group(pattern: str, claim: str, name: str) -> None:
    assert UserMap(pattern).user_of(claim) == name


@pytest.mark.parametrize(
    "claim",
    ["alice@example.org.evil.example", "x alice@example.org", "alice@example.org\n", "@example.org", "Alice@example.org",
     "alice@EXAMPLE.org", None, 7, ["alice@example.org"], {"a": 1}, "root\nalice@example.org"],
    ids=repr,
)  # fmt: skip
def test_a_claim_that_the_pattern_does_not_have_whole(claim: object) -> None:
    with pytest.raises(HttpError) as no:
        UserMap(r"([a-z]+)@example\.org").user_of(claim)
    assert no.value.status == 403


def test_a_table_is_read_and_read_again(tmp_path: Path) -> None:
    """It maps exactly the claims that it lists. A table that is not valid TOML maps nobody."""
    table = tmp_path / "map.toml"
    table.write_text('"alice@example.org" = "alice"\nnumber = 7\n')
    users = UserMap(str(table))
    assert users.user_of("alice@example.org") == "alice"
    for claim in ("bob@example.org", "ALICE@example.org", "number", "alice@example.org "):
        with pytest.raises(HttpError) as no:
            users.user_of(claim)
        assert no.value.status == 403
    table.write_text('"bob@example.org" = "bob"\n')
    os.utime(table, ns=(1, 1))
    assert users.user_of("bob@example.org") == "bob"
    table.write_text("not [ toml")
    os.utime(table, ns=(2, 2))
    with pytest.raises(HttpError) as no:
        users.user_of("bob@example.org")
    assert no.value.status == 503
