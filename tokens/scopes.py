"""Scopes: the permissions of a token, and the rule that a write scope includes the read scope of its subject.

Every part of Punway uses this module, with the privilege of its caller.
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
"""Every scope, with a description for users of what it allows."""

ALL: tuple[str, ...] = tuple(SCOPES)

OFFERED: tuple[str, ...] = ("clusters:read", "jobs:read", "jobs:write")
"""The scopes that at least one route requires; a test compares them with the routes. The others have no use yet."""

PRESETS: dict[str, tuple[str, tuple[str, ...]]] = {
    "read": ("Read only", tuple(scope for scope in OFFERED if scope.endswith(":read"))),
    "jobs": ("Jobs", ("clusters:read", "jobs:read", "jobs:write")),
    "all": ("Everything", OFFERED),
}
"""Common sets of scopes, by a short name that ``parse`` also accepts. Each has a title and its scopes."""


class UnknownScope(ValueError):
    """The error for an unknown or missing scope. The message lists the known scopes."""


def allows(held: Iterable[str], needed: str) -> bool:
    """Return whether the scopes ``held`` include ``needed``. ``jobs:write``, for example, includes ``jobs:read``."""
    held = set(held)
    subject, _, verb = needed.partition(":")
    return needed in held or (verb == "read" and f"{subject}:write" in held)


def common(held: Iterable[str], allowed: Iterable[str]) -> tuple[str, ...]:
    """Return the scopes that both ``held`` and ``allowed`` include, in the order of SCOPES.

    For example, ``jobs:write`` and ``jobs:read`` have ``jobs:read`` in common.
    """
    held, allowed = set(held), set(allowed)
    return tuple(scope for scope in SCOPES if allows(held, scope) and allows(allowed, scope))


def parse(text: str, allowed: tuple[str, ...] = ALL) -> tuple[str, ...]:
    """Return the scopes in a list such as ``jobs:read,clusters:read``, in the order of SCOPES.

    Commas and spaces separate the scopes. The name of a preset means all of its scopes that the site allows
    (``allowed``). Raises UnknownScope, also for an empty list, because a token without scopes would be useless.
    """
    words = text.replace(",", " ").split()
    asked = {scope for word in words for scope in (common(PRESETS[word][1], allowed) if word in PRESETS else (word,))}
    unknown = sorted(asked - SCOPES.keys())
    if unknown or not asked:
        problem = f"unknown scope: {', '.join(unknown)}" if unknown else "no scope was given"
        raise UnknownScope(
            f"{problem}; the scopes are {', '.join(OFFERED)}; read, jobs and all stand for sets of scopes"
        )
    return tuple(scope for scope in SCOPES if scope in asked)


def first_request(held: Iterable[str]) -> str:
    """Return an API path that a token with these scopes may GET, for a working example."""
    return "/api/v1/clusters" if allows(held, "clusters:read") else "/api/v1/whoami"
