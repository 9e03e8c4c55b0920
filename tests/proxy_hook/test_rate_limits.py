"""proxy_hook/rate_limits.py: the limits of tokens, users, addresses and clients of the registrar."""

from __future__ import annotations

import time

import limits.storage.memory
import limits.strategies
import pytest

from proxy_hook.accounts import UnixAccount
from proxy_hook.config_keys import Limits
from proxy_hook.errors import HttpError, unauthorized
from proxy_hook.identify import Principal
from proxy_hook.rate_limits import MAX_REGISTRAR_REQUESTS_PER_MINUTE, RateLimits
from tests.clock import Clock

REFUSED = unauthorized("x", "invalid_token")


def principal(key: str, user: str = "alice") -> Principal:
    return Principal("token", UnixAccount(1001, user), key)


def narrow(**more: int) -> Limits:
    return Limits(**{"token_reads": 3, "token_writes": 2, "user_reads": 5, "user_writes": 4, "refused": 2, **more})


def test_reads_and_writes_of_a_token_apart() -> None:
    rates = RateLimits(narrow())
    headers = [dict(rates.count_request(principal("a"), writes=False)) for _ in range(3)]
    assert [t[b"x-punway-ratelimit"].split(b";t=")[0] for t in headers] == [
        b'"token-reads";r=2', b'"token-reads";r=1', b'"token-reads";r=0'
    ]  # fmt: skip
    assert headers[0][b"x-punway-ratelimit-policy"] == b'"token-reads";q=3;w=60, "user-reads";q=5;w=60'
    for _ in range(2):
        rates.count_request(principal("a"), writes=True)
    for writes, name in ((False, "token-reads"), (True, "token-writes")):
        with pytest.raises(HttpError, match=name) as no:
            rates.count_request(principal("a"), writes=writes)
        assert no.value.status == 429 and 1 <= no.value.retry_after <= 60
        assert dict(no.value.headers)[b"x-punway-ratelimit"].startswith(f'"{name}";r=0;'.encode())


def test_a_users_tokens_together() -> None:
    rates = RateLimits(narrow())
    for key in ("a", "a", "b", "b", "c"):
        rates.count_request(principal(key), writes=False)
    with pytest.raises(HttpError, match="user-reads"):
        rates.count_request(principal("c"), writes=False)
    rates.count_request(principal("d", "bob"), writes=False)


def test_no_limit() -> None:
    rates = RateLimits(Limits(0, 0, 0, 0, 0))
    assert all(rates.count_request(principal("a"), writes=True) == [] for _ in range(100))
    assert all(rates.count_invalid_credential("192.0.2.1", REFUSED) is REFUSED for _ in range(100))


def test_refusals_of_an_address() -> None:
    """Invalid credentials get a 401 first, and then a 429. Other addresses are not affected."""
    rates = RateLimits(narrow())
    answers = [rates.count_invalid_credential("192.0.2.1", REFUSED) for _ in range(20)]
    assert [no.status for no in answers] == [401] * 2 + [429] * 18
    assert answers[-1].retry_after >= 1 and not answers[-1].challenge
    assert rates.count_invalid_credential("192.0.2.2", REFUSED) is REFUSED


def test_requests_to_the_registrar() -> None:
    """Each user has a limit of their own."""
    rates = RateLimits(narrow())
    for _ in range(MAX_REGISTRAR_REQUESTS_PER_MINUTE):
        rates.count_registrar_request(1001)
    with pytest.raises(HttpError, match="in a minute") as no:
        rates.count_registrar_request(1001)
    assert no.value.status == 429 and no.value.retry_after >= 1
    rates.count_registrar_request(1002)


class ModuleWithClock:
    """Replaces the module ``time`` in the library, which takes no clock as an argument."""

    def __init__(self, clock: Clock) -> None:
        self.time = clock


@pytest.mark.parametrize("step", [-86_400, 86_400], ids=["set back", "set forward"])
def test_a_clock_that_is_set_holds_nobody_for_a_day(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """All windows are reset. A clock that only drifts changes nothing."""
    wall, monotonic = Clock(time.time()), Clock()
    for module in (limits.storage.memory, limits.strategies):
        monkeypatch.setattr(module, "time", ModuleWithClock(wall))
    rates = RateLimits(narrow(), clock=wall, monotonic=monotonic)
    for _ in range(3):
        rates.count_request(principal("a"), writes=False)
        rates.count_invalid_credential("192.0.2.1", REFUSED)
    wall.now += 0.3
    assert rates.count_invalid_credential("192.0.2.1", REFUSED).status == 429
    with pytest.raises(HttpError):
        rates.count_request(principal("a"), writes=False)
    wall.now += step
    headers = dict(rates.count_request(principal("a"), writes=False))
    assert headers[b"x-punway-ratelimit"].startswith(b'"token-reads";r=2;')
    assert [rates.count_invalid_credential("192.0.2.1", REFUSED).status for _ in range(3)] == [401, 401, 429]
    assert rates.count_invalid_credential("192.0.2.1", REFUSED).retry_after <= 60


@pytest.mark.parametrize(
    ("first", "second", "is_one_source"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", True),
        ("2001:db8:1:2::", "2001:db8:1:3::", False),
        ("unix:", "unix:", True),
        ("unix:", "", False),
    ],
    ids=["the same", "another IPv4", "the same /64", "another /64", "a Unix socket", "no address"],
)
def test_which_addresses_are_one_source(first: str, second: str, is_one_source: bool) -> None:
    """An IPv6 subscriber has a /64, so its addresses share one limit."""
    rates = RateLimits(narrow(refused=1))
    assert rates.count_invalid_credential(first, REFUSED).status == 401
    assert (rates.count_invalid_credential(second, REFUSED).status == 429) is is_one_source
