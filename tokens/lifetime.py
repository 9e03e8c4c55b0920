"""The site's policy on tokens: the longest lifetime and the scopes that a token may have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone

from tokens import scopes
from tokens.errors import ScopeNotAllowed, TokenError
from tokens.token import utc_now

_LIFETIME = re.compile(r"([0-9]{1,5})([mhdwy])")
_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def lifetime_from(text: str) -> timedelta:
    """Parse a lifetime such as ``30m``, ``12h``, ``90d``, ``4w`` or ``1y``. Raises TokenError."""
    match = _LIFETIME.fullmatch(text)
    if not match or int(match[1]) == 0:
        raise TokenError(
            f"{text!r} is not a lifetime; write 30m, 12h, 90d, 4w or 1y, a date such as 2027-03-31, or never"
        )
    try:
        lifetime = timedelta(seconds=int(match[1]) * _UNITS[match[2]])
        utc_now() + lifetime
    except OverflowError as error:
        raise TokenError(f"{text!r} is too long: it ends after the year 9999") from error
    return lifetime


@dataclass(frozen=True)
class Policy:
    """The limits that the site sets for tokens.

    ``longest`` is the longest lifetime, or None for no limit. ``never`` is true if a token may have no expiry.

    Punway applies the policy when it creates a token. Users can write anything into their own token file, so the hook
    applies ``longest`` and ``scopes`` again at each use (proxy_hook/identify.py).
    """

    longest: timedelta | None = None
    never: bool = True
    scopes: tuple[str, ...] = scopes.ALL

    def check_scopes(self, held: Iterable[str]) -> None:
        """Raise ScopeNotAllowed if a token with the scopes ``held`` could do more than the site allows."""
        refused = [scope for scope in held if not scopes.allows(self.scopes, scope)]
        if refused:
            allowed = ", ".join(self.scopes)
            raise ScopeNotAllowed(f"this site does not allow {', '.join(refused)}; it allows {allowed}")

    def expiry(self, text: str, now: datetime | None = None) -> datetime | None:
        """Return the expiry, to the second, of a token that is created at ``now``.

        ``text`` is a lifetime such as ``90d``, a date such as ``2027-03-31`` (the end of that day in UTC), or
        ``never``, for which the result is None. Raises TokenError with a message about what the site allows.
        """
        now = (now or utc_now()).replace(microsecond=0)
        if text == "never":
            if not self.never:
                raise TokenError(f"this site's tokens must expire{self._at_most()}")
            return None
        last = now + self.longest if self.longest else None
        if _DATE.fullmatch(text):
            try:
                day = date.fromisoformat(text)
            except ValueError as error:
                raise TokenError(f"{text} is not a date that exists; check the month and the day") from error
            ends = datetime.combine(day, time(23, 59, 59), timezone.utc)
            if ends <= now:
                raise TokenError(f"{text} is in the past; choose a later date")
            # On the last allowed day, the token expires when the longest lifetime does, not at the end of the day.
            if last and day == last.date():
                ends = min(ends, last)
        else:
            ends = now + lifetime_from(text)
        if last and ends > last:
            raise TokenError(f"{text} is longer than this site allows{self._at_most()}")
        return ends

    def default(self) -> str:
        """Return the default lifetime: 90 days, or the longest one that the site allows if that is shorter."""
        if self.longest is None or self.longest >= timedelta(days=90):
            return "90d"
        seconds = int(self.longest.total_seconds())
        return f"{seconds // 3600}h" if seconds >= 3600 else f"{seconds // 60}m"

    def last_day(self, now: datetime | None = None) -> date | None:
        """Return the last date that a token may expire on; None if there is no limit."""
        return ((now or utc_now()) + self.longest).date() if self.longest else None

    def _at_most(self) -> str:
        if not self.longest:
            return ""
        hours = self.longest.total_seconds() / 3600
        return f"; at most {self.longest.days} days" if hours >= 48 else f"; at most {hours:g} hours"
