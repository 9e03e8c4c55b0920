"""What a token may do: the scopes, what each one allows, and the one rule between them.

Used by every part of Punway; runs with whatever privilege its caller has.
"""

from __future__ import annotations

from collections.abc import Iterable

SCOPES: dict[str, str] = {
    "clusters:read": "see the clusters",
    "jobs:read": "see your jobs",
    "jobs:write": "submit, cancel, hold and release your jobs (and see them)",
    "files:read": "read your files",
    "files:write": "change your files (and read them)",
}
"""Every scope, and what it allows in the words that a user reads."""

ALL: tuple[str, ...] = tuple(SCOPES)

OFFERED: tuple[str, ...] = ("clusters:read", "jobs:read", "jobs:write")
"""The scopes that some route asks for, as a test checks. The others are offered once they open something."""

PRESETS: dict[str, tuple[str, tuple[str, ...]]] = {
    "read": ("Read only", tuple(scope for scope in OFFERED if scope.endswith(":read"))),
    "jobs": ("Jobs", ("clusters:read", "jobs:read", "jobs:write")),
    "all": ("Everything", OFFERED),
}
"""Sets of scopes that most tokens have: a title and the scopes, by a short name that ``parse`` takes too."""


class UnknownScope(ValueError):
    """A scope that Punway does not have. The message names it and lists those that exist."""


def allows(held: Iterable[str], needed: str) -> bool:
    """Whether a holder of the scopes ``held`` may do what needs ``needed``: a write holds its read."""
    held = set(held)
    subject, _, verb = needed.partition(":")
    return needed in held or (verb == "read" and f"{subject}:write" in held)


def common(held: Iterable[str], allowed: Iterable[str]) -> tuple[str, ...]:
    """Return the scopes that both ``held`` and ``allowed`` grant, in the table's order.

    A write and its read have the read in common.
    """
    held, allowed = set(held), set(allowed)
    return tuple(scope for scope in SCOPES if allows(held, scope) and allows(allowed, scope))


def parse(text: str, allowed: tuple[str, ...] = ALL) -> tuple[str, ...]:
    """Return the scopes in a list like ``jobs:read,clusters:read`` (commas or spaces), in the table's order.

    A preset's name stands for those of its scopes that the site allows (``allowed``). Raises UnknownScope, also for
    an empty list: a token that may do nothing is a mistake.
    """
    words = text.replace(",", " ").split()
    asked = {scope for word in words for scope in (common(PRESETS[word][1], allowed) if word in PRESETS else (word,))}
    unknown = sorted(asked - SCOPES.keys())
    if unknown or not asked:
        said = f"no such scope: {', '.join(unknown)}" if unknown else "no scope is given"
        raise UnknownScope(
            f"{said}; the scopes are {', '.join(OFFERED)}, and read, jobs and all stand for sets of them"
        )
    return tuple(scope for scope in SCOPES if scope in asked)


def first_request(held: Iterable[str]) -> str:
    """Return a path of the API that a token with these scopes may GET, for an example that works."""
    return "/api/v1/clusters" if allows(held, "clusters:read") else "/api/v1/whoami"
