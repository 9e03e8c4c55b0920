"""The configuration, read from punway.toml. Every error names the key and the file.

Every ``punway`` command reads it, with its caller's privilege. The file contains no secret, and ordinary users may read
it, because ``punway token`` needs the paths of the portal. The keys are in config_keys.py.
"""

from __future__ import annotations

import os
import pwd
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import urlsplit

import tomli

from proxy_hook.config_keys import TABLES, Clusters, Idp, Limits, Login, Mcp, Portal, Pun, Tokens
from proxy_hook.config_rules import problems_of, size_of
from tokens import scopes
from tokens.lifetime import Policy, lifetime_from

DEFAULT_PATH = Path("/etc/punway/punway.toml")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
"""The environment of the portal's processes. It has nothing of the caller's, such as PYTHONPATH or LD_PRELOAD."""


class ConfigError(Exception):
    """An error in punway.toml. The message names the file and the key, and says what the value must be."""


@dataclass(frozen=True)
class Config:
    """The configuration of a portal. ``source`` is the file that it was read from."""

    portal: Portal = field(default_factory=Portal)
    clusters: Clusters = field(default_factory=Clusters)
    pun: Pun = field(default_factory=Pun)
    tokens: Tokens = field(default_factory=Tokens)
    login: Login = field(default_factory=Login)
    idp: Idp = field(default_factory=Idp)
    mcp: Mcp = field(default_factory=Mcp)
    limits: Limits = field(default_factory=Limits)
    source: Path = DEFAULT_PATH

    @property
    def run_dir(self) -> Path:
        """portal.run_dir as a path."""
        return Path(self.portal.run_dir)

    @property
    def has_mcp(self) -> bool:
        """True if the portal has an MCP server: mcp.enabled is true, and the user mcp.user exists."""
        if not self.mcp.enabled or self.single_user:
            return self.mcp.enabled
        try:
            pwd.getpwnam(self.mcp.user)
        except KeyError:
            return False
        return True

    @property
    def inner_socket(self) -> Path:
        """The socket on which nginx listens for the MCP server, in a folder that only the MCP server can enter."""
        return self.run_dir / "inner" / "nginx.sock"

    @property
    def max_body_bytes(self) -> int:
        """portal.max_body in bytes."""
        return size_of(self.portal.max_body)

    @property
    def token_policy(self) -> Policy:
        """The site's policy on tokens, from [tokens]."""
        longest = self.tokens.max_lifetime
        allowed = scopes.common(self.tokens.allowed_scopes, scopes.ALL)
        return Policy(lifetime_from(longest) if longest else None, self.tokens.allow_never, allowed)

    @property
    def secure(self) -> bool:
        """True if browsers reach the portal by TLS."""
        return self.portal.public_url.startswith("https:")

    @property
    def takes_jwts(self) -> bool:
        """True if the API accepts tokens of the identity provider."""
        return bool(self.idp.issuer and self.idp.audience)

    @property
    def metadata_url(self) -> str:
        """The address of the metadata that names the identity provider (RFC 9728); empty if the API accepts no JWTs."""
        return f"{self.portal.public_url}/.well-known/oauth-protected-resource" if self.takes_jwts else ""

    @property
    def origin(self) -> str:
        """The portal's origin, in the form in which browsers send it (RFC 6454, section 6)."""
        parts = urlsplit(self.portal.public_url.lower())
        usual = {"http": ":80", "https": ":443"}[parts.scheme]
        return f"{parts.scheme}://{parts.netloc.removesuffix(usual)}"

    @property
    def signs_in(self) -> bool:
        """True if browsers can sign in by at least one way. Otherwise the portal has no pages."""
        return self.login.link or self.login.oidc or bool(self.login.header)

    @property
    def single_user(self) -> bool:
        """True in single-user mode: an ordinary user started the portal, and it serves only that user."""
        return os.geteuid() != 0


def path_to_use(given: str | None) -> Path:
    """Return the file that a command reads: that of its ``-c``, or of $PUNWAY_CONFIG, or /etc/punway/punway.toml."""
    return Path(given or os.environ.get("PUNWAY_CONFIG") or DEFAULT_PATH)


def load(path: Path) -> Config:
    """Read the configuration from a file. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            data = tomli.load(file)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: {reason}") from error
    return from_data(data, path)


def from_data(data: dict[str, Any], source: Path) -> Config:
    """Return the configuration from the parsed content of a file. Raises ConfigError."""
    tables: dict[str, Any] = {}
    for name, values in data.items():
        if name not in TABLES:
            raise ConfigError(f"{source}: unknown table [{name}]; the tables are {_listed(TABLES)}")
        if not isinstance(values, dict):
            raise ConfigError(f"{source}: {name} must be a table; write [{name}]")
        tables[name] = _table(name, values, source)
    config = Config(**tables, source=source)
    for key, problem in problems_of(config):
        raise ConfigError(f"{source}: {key} {problem}")
    return config


def _table(name: str, values: dict[str, Any], source: Path) -> Any:
    kinds = get_type_hints(TABLES[name])
    keys = {key.name for key in fields(TABLES[name])}
    checked = {}
    for key, value in values.items():
        if key not in keys:
            raise ConfigError(f"{source}: unknown key {name}.{key}; the keys of [{name}] are {_listed(keys)}")
        checked[key] = _typed(f"{source}: {name}.{key}", kinds[key], value)
    return TABLES[name](**checked)


def _typed(where: str, kind: Any, value: Any) -> Any:
    if kind in (str, int, bool):
        if type(value) is kind:
            return value
        words = {str: "a string", int: "a whole number", bool: "true or false"}
        raise ConfigError(f"{where} must be {words[kind]}, not {value!r}")
    if kind == tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ConfigError(f"{where} must be an array of strings, not {value!r}")
    if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return value
    raise ConfigError(f"{where} must be a table of strings, not {value!r}")


def interpreter() -> str:
    """Return the Python interpreter of this process, for starting the portal's other processes."""
    return sys.executable


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))
