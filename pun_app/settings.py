"""What a PUN is told at its start, as one JSON text that the spawner passes on unread. No secret is in it."""

from __future__ import annotations

import msgspec


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Paths are absolute, times are in seconds, ``max_body`` in bytes."""

    run_dir: str
    clusters: str
    threads: int
    idle_timeout: int
    max_lifetime: int
    max_body: int


def settings_from(text: str) -> Settings:
    """Raises msgspec.ValidationError."""
    return msgspec.json.decode(text, type=Settings)
