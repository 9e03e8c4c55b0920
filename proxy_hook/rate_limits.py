"""How much one token, one user and one address may ask in a minute. Runs in the hook, which every request passes.

Windows of a minute, in this process's memory, by the library ``limits``. What is told of them follows
draft-ietf-httpapi-ratelimit-headers-11.
"""

from __future__ import annotations

import math
import time
from ipaddress import IPv6Address, ip_address

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from proxy_hook.config import Limits
from proxy_hook.errors import HttpError
from proxy_hook.identify import Principal
from proxy_hook.web import Headers

MAX_REGISTRAR_REQUESTS_PER_MINUTE = 240
"""Requests a minute that one account may send to the registrar."""

MIN_CLOCK_STEP_S = 1.0
"""Seconds by which the wall clock has been set, and did not only drift."""


class RateLimits:
    """The counts of one portal. A key of 0 in [limits] is no limit."""

    def __init__(self, limits: Limits) -> None:
        self._storage = MemoryStorage()
        self._windows = FixedWindowRateLimiter(self._storage)
        self._clock_offset = time.time() - time.monotonic()
        self._reads = _items("token-reads", limits.token_reads), _items("user-reads", limits.user_reads)
        self._writes = _items("token-writes", limits.token_writes), _items("user-writes", limits.user_writes)
        self._refused = RateLimitItemPerMinute(limits.refused) if limits.refused else None
        self._registrar = RateLimitItemPerMinute(MAX_REGISTRAR_REQUESTS_PER_MINUTE, namespace="registrar")

    @property
    def _counts(self) -> FixedWindowRateLimiter:
        """The windows, which the library has by the wall clock: once that is set, all begin anew.

        A clock that is set back by a day would have them last a day more.
        """
        offset = time.time() - time.monotonic()
        if abs(offset - self._clock_offset) > MIN_CLOCK_STEP_S:
            self._storage.reset()
        self._clock_offset = offset
        return self._windows

    def spend(self, principal: Principal, *, writes: bool) -> Headers:
        """Count one request of a caller; what it is told of what is left. Raises HttpError (429) when nothing is."""
        told: list[tuple[int, str, int, int]] = []
        for item, whose in zip(
            self._writes if writes else self._reads, (principal.key, principal.account.name), strict=True
        ):
            if item is None:
                continue
            within = self._counts.hit(item, whose)
            reset, remaining = self._counts.get_window_stats(item, whose)
            told.append((remaining, item.namespace, item.amount, max(1, math.ceil(reset - time.time()))))
            if not within:
                raise HttpError(
                    429,
                    "too_many_requests",
                    f"More than {item.amount} requests in a minute ({item.namespace}): wait, and ask for many jobs at "
                    "once (POST /api/v1/jobs/status) or with wait, not again and again",
                    retry_after=told[-1][3],
                    headers=_headers(told),
                )
        return _headers(told)

    def count_refusal(self, address: str, no: HttpError) -> HttpError:
        """The refusal of a credential that was sent from an address; another (429) where it has sent many."""
        if self._refused is None or self._counts.hit(self._refused, _network(address)):
            return no
        message = "Too many credentials from your address were refused; a good one is still taken"
        return self._too_many(message, self._refused, _network(address))

    def spend_at_registrar(self, uid: int) -> None:
        """Count one request of an account to the registrar. Raises HttpError (429)."""
        if not self._counts.hit(self._registrar, str(uid)):
            limit = MAX_REGISTRAR_REQUESTS_PER_MINUTE
            message = f"More than {limit} requests about tokens in a minute; try again in a minute"
            raise self._too_many(message, self._registrar, str(uid))

    def _too_many(self, message: str, item: RateLimitItemPerMinute, whose: str) -> HttpError:
        reset, _ = self._counts.get_window_stats(item, whose)
        return HttpError(429, "too_many_requests", message, retry_after=max(1, math.ceil(reset - time.time())))


def _items(name: str, amount: int) -> RateLimitItemPerMinute | None:
    return RateLimitItemPerMinute(amount, namespace=name) if amount else None


def _headers(told: list[tuple[int, str, int, int]]) -> Headers:
    """RateLimit says the one that is used up first, RateLimit-Policy all of them."""
    if not told:
        return []
    remaining, name, _, reset = min(told)
    policy = ", ".join(f'"{policy}";q={amount};w=60' for _, policy, amount, _ in told)
    return [
        (b"x-punway-ratelimit", f'"{name}";r={remaining};t={reset}'.encode()),
        (b"x-punway-ratelimit-policy", policy.encode()),
    ]


def _network(address: str) -> str:
    """What is one guesser: an address, or a /64 of IPv6, which is one subscriber's (RFC 6177)."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return address
