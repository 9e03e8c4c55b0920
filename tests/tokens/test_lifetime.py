"""tokens/lifetime.py: how long a token may live."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest

from tokens.errors import TokenError
from tokens.lifetime import Policy, lifetime_from

NOW = datetime(2026, 11, 22, 18, 0, 0, 500, tzinfo=timezone.utc)
BOUND = Policy(timedelta(days=60), never=False)


@pytest.mark.parametrize(
    ("text", "lifetime"),
    [("30m", timedelta(minutes=30)), ("12h", timedelta(hours=12)), ("90d", timedelta(days=90)),
     ("4w", timedelta(weeks=4)), ("1y", timedelta(days=365))],
)  # fmt: skip
def test_lifetimes(text: str, lifetime: timedelta) -> None:
    assert lifetime_from(text) == lifetime


@pytest.mark.parametrize("text", ["", "0d", "-1d", "90", "d", "1.5d", "99999y", "90 d", "٣d", "NEVER", "never"])
def test_what_is_no_lifetime(text: str) -> None:
    with pytest.raises(TokenError):
        lifetime_from(text)


@pytest.mark.parametrize(
    ("text", "ends"),
    [("1d", "2026-11-23T18:00:00"), ("2026-11-23", "2026-11-23T23:59:59"), ("2026-11-22", "2026-11-22T23:59:59"),
     ("60d", "2027-01-21T18:00:00"), ("2027-01-21", "2027-01-21T18:00:00")],
)  # fmt: skip
def test_an_expiry_to_the_second(text: str, ends: str) -> None:
    """A date means the end of that day; on the last allowed day, the end of the longest lifetime."""
    assert BOUND.expiry(text, NOW) == datetime.fromisoformat(f"{ends}+00:00")


@pytest.mark.parametrize("text", ["61d", "1y", "2027-01-22", "9999-12-31", "never"])
def test_beyond_what_the_site_allows(text: str) -> None:
    with pytest.raises(TokenError, match="at most 60 days"):
        BOUND.expiry(text, NOW)


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-11-21", "2026-02-30", "2026-13-01", "0000-01-01", "20261231", "٢٠٢٧-٠١-٠١"]
)
def test_what_is_no_expiry(text: str) -> None:
    for policy in (BOUND, Policy()):
        with pytest.raises(TokenError):
            policy.expiry(text, NOW)


def test_never_where_the_site_allows_it() -> None:
    assert Policy().expiry("never", NOW) is None
    assert Policy(timedelta(days=1), never=True).expiry("never", NOW) is None
    with pytest.raises(TokenError, match="must expire"):
        Policy(None, never=False).expiry("never", NOW)


@pytest.mark.parametrize(
    ("longest", "usual", "last"),
    [(None, "90d", None), (timedelta(days=365), "90d", date(2027, 11, 22)), (timedelta(days=60), "1440h", date(2027, 1, 21)),
     (timedelta(minutes=30), "30m", date(2026, 11, 22))],
    ids=["no limit", "a year", "60 days", "30 minutes"],
)  # fmt: skip
def test_what_is_proposed_is_allowed(longest: timedelta | None, usual: str, last: date | None) -> None:
    policy = Policy(longest, never=False)
    assert (policy.default(), policy.last_day(NOW)) == (usual, last)
    assert policy.expiry(usual, NOW)
    assert last is None or policy.expiry(last.isoformat(), NOW)
