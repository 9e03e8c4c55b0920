"""What a PUN is told at its start, as one JSON text that the spawner passes on unread. No secret is in it."""

from __future__ import annotations

import msgspec


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Paths are absolute, times are in seconds, ``max_body`` in bytes.

    ``origin`` is the portal's, as browsers send it; ``metadata_url`` is empty where no identity provider's tokens
    are taken; ``token_longest`` is null where a token may live for ever so long; ``token_scopes`` are those that
    the site allows; ``site_url`` is the site's own portal, which the pages link to where there is one.
    """

    run_dir: str
    clusters: str
    notes: str
    threads: int
    idle_timeout: int
    max_lifetime: int
    max_body: int
    public_url: str
    origin: str
    metadata_url: str
    token_longest: int | None
    token_never: bool
    token_scopes: tuple[str, ...]
    site_url: str = ""


def settings_from(text: str) -> Settings:
    """Raises msgspec.ValidationError."""
    return msgspec.json.decode(text, type=Settings)
