"""The settings of a PUN: one JSON text, which the spawner passes on without reading it. It has no secrets."""

from __future__ import annotations

import msgspec


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings. Paths are absolute, times are in seconds, ``max_body`` is in bytes.

    ``site_docs`` is the folder with the site's documents for agents. ``origin`` is the portal's, as browsers send it.
    ``metadata_url`` is empty if the portal accepts no JWTs. ``token_longest`` is the maximum lifetime of a token, or
    null for no maximum; ``token_never`` is true if a token may have no expiry. ``token_scopes`` are the scopes
    that the site allows. ``site_url`` is the site's own portal, which the pages link to, or empty.
    """

    run_dir: str
    clusters: str
    site_docs: str
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
    """Return the settings in a JSON text. Raises msgspec.ValidationError."""
    return msgspec.json.decode(text, type=Settings)
