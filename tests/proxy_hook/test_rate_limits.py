"""How much may be asked in a minute."""

from __future__ import annotations

import time

import pytest

from proxy_hook.accounts import UnixAccount
from proxy_hook.config import Limits
from proxy_hook.errors import HttpError, unauthorized
from proxy_hook.identify import Principal
from proxy_hook.rate_limits import MAX_REGISTRAR_REQUESTS_PER_MINUTE, RateLimits, _network

NO = unauthorized("x", "invalid_token")


def who(key: str, user: str = "alice") -> Principal:
    return Principal("token", UnixAccount(1001, user), key)


def limits(**more: int) -> Limits:
    return Limits(**{"token_reads": 3, "token_writes": 2, "user_reads": 5, "user_writes": 4, "refused": 2, **more})


def test_reads_and_writes_of_a_token_apart() -> None:
    rates = RateLimits(limits())
    told = [dict(rates.spend(who("a"), writes=False)) for _ in range(3)]
    assert [t[b"x-punway-ratelimit"].split(b";t=")[0] for t in told] == [
        b'"token-reads";r=2', b'"token-reads";r=1', b'"token-reads";r=0'
    ]  # fmt: skip
    assert told[0][b"x-punway-ratelimit-policy"] == b'"token-reads";q=3;w=60, "user-reads";q=5;w=60'
    for _ in range(2):
        rates.spend(who("a"), writes=True)
    for writes, name in ((False, "token-reads"), (True, "token-writes")):
        with pytest.raises(HttpError, match=name) as no:
            rates.spend(who("a"), writes=writes)
        assert no.value.status == 429 and 1 <= no.value.retry_after <= 60
        assert dict(no.value.headers)[b"x-punway-ratelimit"].startswith(f'"{name}";r=0;'.encode())


def test_a_users_tokens_together() -> None:
    rates = RateLimits(limits())
    for key in ("a", "a", "b", "b", "c"):
        rates.spend(who(key), writes=False)
    with pytest.raises(HttpError, match="user-reads"):
        rates.spend(who("c"), writes=False)
    rates.spend(who("d", "bob"), writes=False)


def test_no_limit() -> None:
    rates = RateLimits(Limits(0, 0, 0, 0, 0))
    assert all(rates.spend(who("a"), writes=True) == [] for _ in range(100))
    assert all(rates.count_refusal("192.0.2.1", NO) is NO for _ in range(100))


def test_refusals_of_an_address() -> None:
    """First they are answered as they are, then with 429; another address is not touched."""
    rates = RateLimits(limits())
    answers = [rates.count_refusal("192.0.2.1", NO) for _ in range(20)]
    assert [no.status for no in answers] == [401] * 2 + [429] * 18
    assert answers[-1].retry_after >= 1 and not answers[-1].challenge
    assert rates.count_refusal("192.0.2.2", NO) is NO


def test_requests_to_the_registrar() -> None:
    """A user's share is the user's alone."""
    rates = RateLimits(limits())
    for _ in range(MAX_REGISTRAR_REQUESTS_PER_MINUTE):
        rates.spend_at_registrar(1001)
    with pytest.raises(HttpError, match="in a minute") as no:
        rates.spend_at_registrar(1001)
    assert no.value.status == 429 and no.value.retry_after >= 1
    rates.spend_at_registrar(1002)


@pytest.mark.parametrize("step", [-86_400, 86_400])
def test_a_clock_that_is_set_holds_nobody_for_a_day(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """All windows begin anew; a clock that only drifts changes nothing."""
    rates = RateLimits(limits())
    for _ in range(3):
        rates.spend(who("a"), writes=False)
        rates.count_refusal("192.0.2.1", NO)
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + 0.3)
    assert rates.count_refusal("192.0.2.1", NO).status == 429
    with pytest.raises(HttpError):
        rates.spend(who("a"), writes=False)
    monkeypatch.setattr(time, "time", lambda: wall() + step)
    told = dict(rates.spend(who("a"), writes=False))
    assert told[b"x-punway-ratelimit"].startswith(b'"token-reads";r=2;')
    assert [rates.count_refusal("192.0.2.1", NO).status for _ in range(3)] == [401, 401, 429]
    assert rates.count_refusal("192.0.2.1", NO).retry_after <= 60


@pytest.mark.parametrize(
    ("address", "network"),
    [("192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"), ("2001:db8:1:2::", "2001:db8:1:2::"),
     ("unix:", "unix:"), ("", "")],
)  # fmt: skip
def test_who_is_one_guesser(address: str, network: str) -> None:
    assert _network(address) == network
