"""tokens/token.py: how tokens are created, read and stored, and when they expire."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone

import pytest

from tokens import scopes
from tokens.errors import TokenError
from tokens.token import from_entry, from_text, is_secret, issue, to_text

NOW = datetime(2026, 11, 22, 18, 0, 0, tzinfo=timezone.utc)


def test_a_secret_is_64_hex_and_only_its_hash_is_kept() -> None:
    token, secret = issue("CI")
    assert is_secret(secret)
    assert token.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in str(token.entry())


def test_two_tokens_are_never_the_same() -> None:
    (first, one), (second, two) = issue("x"), issue("x")
    assert one != two
    assert first.id != second.id


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb", "a\x00b", "\x1b[31m", "a\u2028b", "\ud800"], ids=ascii)
def test_a_name_that_no_token_can_have(name: str) -> None:
    with pytest.raises(TokenError, match="one line"):
        issue(name)


@pytest.mark.parametrize("name", ["x" * 100, "<b>", "\u202eright to left", "שלום", "🏃‍♀️", "a  b"], ids=ascii)
def test_a_name_is_any_one_line(name: str) -> None:
    assert issue(name)[0].name == name


def test_it_is_over_at_the_very_second() -> None:
    token = from_entry({"sha256": "a" * 64, "scopes": [], "expires_at": "2026-11-22T18:00:00Z"})
    assert token is not None
    assert not token.expired(NOW - timedelta(microseconds=1))
    assert token.expired(NOW)


@pytest.mark.parametrize(
    "entry",
    [{}, {"token": 12345}, {"token": "short"}, {"token": None}, {"sha256": "z" * 64, "scopes": []},
     {"sha256": "a" * 64}, {"sha256": "a" * 64, "scopes": "all"}, {"sha256": 5, "scopes": []},
     {"sha256": "a" * 64, "scopes": [], "expires_at": "tomorrow"}, {"sha256": "a" * 64, "scopes": [], "expires_at": 5},
     {"sha256": None, "token": "b" * 64}],
    ids=["empty", "token is a number", "token too short", "token is null", "hash not hex", "no scopes", "scopes are text",
         "hash is a number", "expiry is a word", "expiry is a number", "hash is null"],
)  # fmt: skip
def test_an_entry_that_lets_nobody_in(entry: dict[str, object]) -> None:
    """An entry that cannot be parsed is not a token. Nothing is guessed, least of all an unlimited lifetime."""
    assert from_entry(entry) is None


def test_an_entry_of_the_older_form_has_every_scope() -> None:
    """OOD's dashboard plugin stores the secret itself, without scopes or expiry."""
    secret = "ab" * 32
    token = from_entry({"id": "1", "name": "n", "token": secret, "created_at": "2026-01-01T00:00:00+01:00"})
    assert token is not None
    assert token.in_clear
    assert token.scopes == scopes.ALL
    assert token.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert to_text(token.created_at) == "2025-12-31T23:00:00Z"


def test_an_unknown_scope_in_the_file_gives_nothing() -> None:
    token = from_entry({"sha256": "a" * 64, "scopes": ["jobs:read", "everything", 7]})
    assert token is not None
    assert token.scopes == ("jobs:read",)


def test_an_entry_reads_back_as_it_was_written() -> None:
    token, _ = issue("x", ("jobs:read",), NOW)
    assert from_entry(token.entry()) == token


@pytest.mark.parametrize("text", ["2026-11-22T18:00:00Z", "2026-11-22T19:00:00+01:00", "2026-11-22T18:00:00"])
def test_times_are_utc_unless_they_say_otherwise(text: str) -> None:
    assert from_text(text) == NOW
