"""punway.toml: one table of key, type, default and why; every error names the key and the file.

Read by every ``punway`` command with its caller's privilege. The file holds no secret, and ordinary users
may read it: ``punway token`` finds the portal through it.
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

from proxy_hook.config_rules import problems_of, size_of
from tokens import scopes
from tokens.lifetime import Policy, lifetime_from

DEFAULT_PATH = Path("/etc/punway/punway.toml")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
"""All that a part is given of an environment: nothing of the caller's, such as a proxy, PYTHONPATH or LD_PRELOAD."""


def _key(default: Any, why: str) -> Any:
    if isinstance(default, (dict,)):
        return field(default_factory=lambda: dict(default), metadata={"why": why})
    return field(default=default, metadata={"why": why})


class ConfigError(Exception):
    """An unusable punway.toml. The message names the file, the key, and what would be right."""


@dataclass(frozen=True)
class Portal:
    listen: str = _key(
        "127.0.0.1:8080",
        "Address and port that nginx listens on. Beyond loopback it needs tls_certificate and tls_key.",
    )
    public_url: str = _key("http://127.0.0.1:8080", "What clients call the portal, without a slash at the end.")
    site_url: str = _key("", "The site's own portal, such as Open OnDemand's dashboard. The pages link to it.")
    help_url: str = _key("", "Where the site helps its users; /help leads there. Empty: a page of Punway's.")
    tls_certificate: str = _key("", "The certificate chain's file, in PEM. Empty: plain HTTP, on loopback alone.")
    tls_key: str = _key("", "The certificate's key, in PEM; nginx's master process reads it as root.")
    http2: bool = _key(True, "Whether clients may speak HTTP/2 where there is TLS.")
    run_dir: str = _key(
        "/run/punway",
        "Sockets and the hook's public key. Made by root at start; short (a socket's path has 107 bytes).",
    )
    state_dir: str = _key("/var/lib/punway", "The route table. Made at start, for hook_user alone.")
    hook_user: str = _key("punway", "The unprivileged user that the hook runs as; nobody's login.")
    nginx_user: str = _key("www-data", "The user of nginx's workers: www-data on Debian, nginx on RHEL.")
    max_body: str = _key("50M", "Greatest submit (k, M and G are powers of 1024); other bodies have 1M. Beyond it 413.")
    proxies: tuple[str, ...] = _key(
        (),
        "Addresses or networks of balancers before nginx. Limits and logs then have the client that they name; "
        "everybody who can connect from there can name any.",
    )
    proxy_header: str = _key("X-Forwarded-For", "The header in which they name it; they must not pass a client's own.")


@dataclass(frozen=True)
class Clusters:
    path: str = _key("/etc/ood/config/clusters.d", "Open OnDemand's cluster files: a folder of *.yml and *.yaml.")


@dataclass(frozen=True)
class Pun:
    min_uid: int = _key(1000, "No uid below it has a PUN, and uid 0 never.")
    user_regex: str = _key(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*", "What the whole of a user's name must match.")
    disabled_shells: tuple[str, ...] = _key(
        ("/access/denied", "/sbin/nologin", "/usr/sbin/nologin", "/bin/false", "/usr/bin/false"),
        "Who has one of these as login shell has no PUN.",
    )
    deny_users: tuple[str, ...] = _key((), "Users that have no PUN.")
    allow_groups: tuple[str, ...] = _key((), "When set, only members of one of these groups have a PUN.")
    spawn: str = _key(
        "fork", "How a PUN starts: fork, or exec (a fresh interpreter). docs/admins/spawning.md compares them."
    )
    idle_timeout: int = _key(300, "Seconds after which a PUN with nothing to do leaves.")
    max_lifetime: int = _key(43_200, "Seconds after which a PUN leaves, once what is in flight is done.")
    threads: int = _key(8, "Requests that one user's PUN serves at once.")
    environment: dict[str, str] = _key(
        {}, "Variables that every PUN has besides TOKENS_PAGE, USER, LOGNAME, SHELL, PATH, LANG."
    )
    no_new_privs: bool = _key(False, "Forbid setuid helpers. PBS, LSF and host-based ssh authenticate by such helpers.")


@dataclass(frozen=True)
class Tokens:
    max_lifetime: str = _key(
        "1y",
        "The longest that a token may live: 12h, 90d, 1y; empty for no bound. At use it is counted from when the hook "
        "first saw the token.",
    )
    allow_never: bool = _key(False, "Whether a token may be made that never expires.")
    allowed_scopes: tuple[str, ...] = _key(
        scopes.ALL,
        "What a token may do at most. Checked at each use, as max_lifetime is, whatever the user's file says.",
    )


@dataclass(frozen=True)
class Login:
    session_lifetime: int = _key(28_800, "Seconds after which a browser must sign in anew.")
    link: bool = _key(True, "Sign in by the one-time link that `punway login` prints in a user's own shell.")
    oidc: bool = _key(False, "Sign in by OpenID Connect at the provider of [idp].")
    client_id: str = _key("", "The client that the provider knows this portal as.")
    client_secret_file: str = _key(
        "", "A file with the client's secret, read by root at start. Empty: a public client (PKCE alone)."
    )
    header: str = _key(
        "", "Sign in whom this header names as Unix user: the front that sets it has signed them in. Empty: off."
    )
    header_peers: tuple[str, ...] = _key((), "Addresses or networks that the header is taken from, and no other.")
    header_secret_file: str = _key(
        "",
        "A file with what the front sends as X-Punway-Front-Secret. Needed with login.header: an address alone proves "
        "nothing, as local users and nginx's own user can connect, too.",
    )


@dataclass(frozen=True)
class Idp:
    title: str = _key("", "What users call the provider. Empty: its host's name.")
    issuer: str = _key("", "The provider, as the iss of its tokens has it. Empty: none.")
    audience: str = _key("", "The aud of tokens that /api takes as bearer tokens. Empty: it takes none.")
    jwks_url: str = _key("", "Where its keys are. Empty: where its discovery document says.")
    algorithms: tuple[str, ...] = _key(("RS256", "ES256"), "Signatures that are taken; none and HMAC never are.")
    user_claim: str = _key("preferred_username", "The claim that says who a user is.")
    user_map: str = _key(
        "([a-z_][a-z0-9_-]*)",
        "Claim to Unix user: a regular expression for the whole claim, whose one group is the user's name; or the "
        "path of a TOML file that has a user for each claim.",
    )
    scope_claim: str = _key("scope", "The claim that lists what a bearer token may do, among the portal's scopes.")


@dataclass(frozen=True)
class Mcp:
    enabled: bool = _key(True, "Whether there is an MCP server, for AI agents, at /mcp.")
    user: str = _key(
        "punway-mcp", "The unprivileged user that it runs as; nobody's login, and not hook_user. Without it: no server."
    )
    notes: str = _key(
        "/etc/ood/config/agents.d", "The site's notes for agents: *.md, in the order of their names (128 kB in all)."
    )


@dataclass(frozen=True)
class Limits:
    token_reads: int = _key(60_000, "Requests a minute of one token that change nothing; 0: no limit.")
    token_writes: int = _key(6_000, "Requests a minute of one token that submit, cancel, hold or release; 0: no limit.")
    user_reads: int = _key(120_000, "The same of all of a user's tokens together; 0: no limit.")
    user_writes: int = _key(12_000, "The same of all of a user's tokens together; 0: no limit.")
    refused: int = _key(
        60,
        "Credentials a minute of one address (IPv6: /64) that are refused with 401; more with 429. Good ones still "
        "pass. 0: no limit.",
    )
    flood: int = _key(2_000, "Requests a second of one address (IPv6: /64) that nginx takes at all; 0: no limit.")
    connections: int = _key(4_000, "Requests of one address (IPv6: /64) that nginx has open at once; 0: no limit.")


@dataclass(frozen=True)
class Config:
    """The whole configuration. ``source`` is the file that it came from."""

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
        return Path(self.portal.run_dir)

    @property
    def has_mcp(self) -> bool:
        """Whether there is an MCP server: not where it is switched off, nor where nobody made its user yet."""
        if not self.mcp.enabled or self.single_user:
            return self.mcp.enabled
        try:
            pwd.getpwnam(self.mcp.user)
        except KeyError:
            return False
        return True

    @property
    def inner_socket(self) -> Path:
        """Where nginx listens for the MCP server, in a folder that is that one's alone."""
        return self.run_dir / "inner" / "nginx.sock"

    @property
    def max_body_bytes(self) -> int:
        return size_of(self.portal.max_body)

    @property
    def token_policy(self) -> Policy:
        longest = self.tokens.max_lifetime
        allowed = scopes.common(self.tokens.allowed_scopes, scopes.ALL)
        return Policy(lifetime_from(longest) if longest else None, self.tokens.allow_never, allowed)

    @property
    def secure(self) -> bool:
        """Whether browsers reach the portal by TLS."""
        return self.portal.public_url.startswith("https:")

    @property
    def takes_jwts(self) -> bool:
        """Whether tokens of the identity provider open the API."""
        return bool(self.idp.issuer and self.idp.audience)

    @property
    def metadata_url(self) -> str:
        """Where the portal says who makes tokens for it (RFC 9728); empty where nobody else does."""
        return f"{self.portal.public_url}/.well-known/oauth-protected-resource" if self.takes_jwts else ""

    @property
    def origin(self) -> str:
        """The portal's origin, as browsers send it (RFC 6454, section 6)."""
        parts = urlsplit(self.portal.public_url.lower())
        usual = {"http": ":80", "https": ":443"}[parts.scheme]
        return f"{parts.scheme}://{parts.netloc.removesuffix(usual)}"

    @property
    def signs_in(self) -> bool:
        """Whether there is any way for a browser to sign in, so that there are pages."""
        return self.login.link or self.login.oidc or bool(self.login.header)

    @property
    def single_user(self) -> bool:
        """Whether nobody is root here, so that the one user who started the portal is the one it serves."""
        return os.geteuid() != 0


TABLES: dict[str, type] = {
    "portal": Portal,
    "clusters": Clusters,
    "pun": Pun,
    "tokens": Tokens,
    "login": Login,
    "idp": Idp,
    "mcp": Mcp,
    "limits": Limits,
}


def path_to_use(given: str | None) -> Path:
    """The file that a command reads: its ``-c``, else $PUNWAY_CONFIG, else /etc/punway/punway.toml."""
    return Path(given or os.environ.get("PUNWAY_CONFIG") or DEFAULT_PATH)


def load(path: Path) -> Config:
    """The configuration in a file. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            data = tomli.load(file)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: {reason}") from error
    return from_data(data, path)


def from_data(data: dict[str, Any], source: Path) -> Config:
    """The configuration in a parsed file. Raises ConfigError."""
    tables: dict[str, Any] = {}
    for name, values in data.items():
        if name not in TABLES:
            raise ConfigError(f"{source}: unknown table [{name}]; there are {_listed(TABLES)}")
        if not isinstance(values, dict):
            raise ConfigError(f"{source}: {name} must be a table, [{name}]")
        tables[name] = _table(name, values, source)
    config = Config(**tables, source=source)
    for key, what in problems_of(config):
        raise ConfigError(f"{source}: {key} {what}")
    return config


def _table(name: str, values: dict[str, Any], source: Path) -> Any:
    kinds = get_type_hints(TABLES[name])
    keys = {key.name for key in fields(TABLES[name])}
    checked = {}
    for key, value in values.items():
        if key not in keys:
            raise ConfigError(f"{source}: unknown key {name}.{key}; [{name}] has {_listed(keys)}")
        checked[key] = _typed(f"{source}: {name}.{key}", kinds[key], value)
    return TABLES[name](**checked)


def _typed(where: str, kind: Any, value: Any) -> Any:
    if kind in (str, int, bool):
        if type(value) is kind:
            return value
        words = {str: "text", int: "a whole number", bool: "true or false"}
        raise ConfigError(f"{where} must be {words[kind]}, not {value!r}")
    if kind == tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ConfigError(f"{where} must be an array of texts, not {value!r}")
    if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return value
    raise ConfigError(f"{where} must be a table of texts, not {value!r}")


def interpreter() -> str:
    """The Python that runs Punway, for processes that become other users."""
    return sys.executable


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))
