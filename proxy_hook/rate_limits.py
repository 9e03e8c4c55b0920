"""Rate limits: how many requests a token, a user and an address may send in a minute. Runs in the hook.

The library ``limits`` counts them in windows of one minute, in this process's memory. The headers that report the
limits follow draft-ietf-httpapi-ratelimit-headers-11.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from proxy_hook.config_keys import Limits
from proxy_hook.errors import HttpError
from proxy_hook.identify import Principal
from proxy_hook.web import Headers

MAX_REGISTRAR_REQUESTS_PER_MINUTE = 240
"""The maximum number of requests of one account to the registrar."""
MIN_CLOCK_STEP_S = 1.0
"""A jump of the wall clock against the monotonic clock that means that the wall clock was set. Less is drift."""


class Quota(NamedTuple):
    """The state of one limit: what remains of it, its name, its size, and when it is reset, in seconds from now."""

    remaining: int
    name: str
    amount: int
    reset_s: int


class RateLimits:
    """The rate limits of one portal, as [limits] sets them. A limit of 0 is not applied."""

    def __init__(
        self,
        limits: Limits,
        *,
        registrar_requests: int = MAX_REGISTRAR_REQUESTS_PER_MINUTE,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._storage = MemoryStorage()
        self._limiter = FixedWindowRateLimiter(self._storage)
        self._clock_offset = clock() - monotonic()
        self._reads = _limit("token-reads", limits.token_reads), _limit("user-reads", limits.user_reads)
        self._writes = _limit("token-writes", limits.token_writes), _limit("user-writes", limits.user_writes)
        self._invalid_credentials = RateLimitItemPerMinute(limits.refused) if limits.refused else None
        self._registrar = RateLimitItemPerMinute(registrar_requests, namespace="registrar")

    @property
    def _windows(self) -> FixedWindowRateLimiter:
        """The library's windows, which are reset when the wall clock was set.

        The library ends them by the wall clock. If that is set back by a day, each window would last a day longer.
        """
        offset = self._clock() - self._monotonic()
        if abs(offset - self._clock_offset) > MIN_CLOCK_STEP_S:
            self._storage.reset()
        self._clock_offset = offset
        return self._limiter

    def count_request(self, principal: Principal, *, writes: bool) -> Headers:
        """Count a request of a principal. Return headers that report what remains of its limits.

        Raises HttpError (429) if a limit is exceeded.
        """
        quotas: list[Quota] = []
        limits = self._writes if writes else self._reads
        for limit, key in zip(limits, (principal.key, principal.account.name), strict=True):
            if limit is None:
                continue
            is_within = self._windows.hit(limit, key)
            reset, remaining = self._windows.get_window_stats(limit, key)
            quotas.append(Quota(remaining, limit.namespace, limit.amount, self._seconds_until(reset)))
            if not is_within:
                raise HttpError(
                    429,
                    "too_many_requests",
                    f"More than {limit.amount} requests in a minute ({limit.namespace}). Wait before you continue. "
                    "Instead of polling, ask for many jobs in one request (POST /api/v1/jobs/status) or with wait",
                    retry_after=quotas[-1].reset_s,
                    headers=_headers(quotas),
                )
        return _headers(quotas)

    def count_invalid_credential(self, address: str, error: HttpError) -> HttpError:
        """Count an invalid credential from an address. Return ``error``, or a 429 if there were too many."""
        limit, key = self._invalid_credentials, _network(address)
        if limit is None or self._windows.hit(limit, key):
            return error
        message = "Too many invalid credentials from your address; wait a minute. Valid ones are still accepted"
        return self._too_many(message, limit, key)

    def count_registrar_request(self, uid: int) -> None:
        """Count a request of an account to the registrar. Raises HttpError (429)."""
        if not self._windows.hit(self._registrar, str(uid)):
            message = f"More than {self._registrar.amount} requests about tokens in a minute; try again in a minute"
            raise self._too_many(message, self._registrar, str(uid))

    def _too_many(self, message: str, limit: RateLimitItemPerMinute, key: str) -> HttpError:
        reset, _ = self._windows.get_window_stats(limit, key)
        return HttpError(429, "too_many_requests", message, retry_after=self._seconds_until(reset))

    def _seconds_until(self, reset: float) -> int:
        return max(1, math.ceil(reset - self._clock()))


def _limit(name: str, amount: int) -> RateLimitItemPerMinute | None:
    return RateLimitItemPerMinute(amount, namespace=name) if amount else None


def _headers(quotas: list[Quota]) -> Headers:
    """Return the header RateLimit, for the limit that will be reached first, and RateLimit-Policy, for all limits."""
    if not quotas:
        return []
    tightest = min(quotas)
    policy = ", ".join(f'"{quota.name}";q={quota.amount};w=60' for quota in quotas)
    return [
        (b"x-punway-ratelimit", f'"{tightest.name}";r={tightest.remaining};t={tightest.reset_s}'.encode()),
        (b"x-punway-ratelimit-policy", policy.encode()),
    ]


def _network(address: str) -> str:
    """Return the source that an address belongs to: the IPv4 address itself, or the IPv6 /64 of one site (RFC 6177)."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return address
