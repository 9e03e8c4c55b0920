"""Rules for the values of punway.toml, beyond their types. Only config.py calls them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tokens import scopes
from tokens.errors import TokenError
from tokens.lifetime import lifetime_from

if TYPE_CHECKING:
    from proxy_hook.config import Config
    from proxy_hook.config_keys import Idp, Login, Mcp, Portal, Pun

SPAWN_WAYS = ("fork", "exec")
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Algorithms that verify signatures with a public key. HMAC is excluded: its verifiers can also forge tokens."""
MAX_RULES_LENGTH = 30_000
"""The maximum length of all lists of [pun] together, in characters. Each PUN's start message contains them."""

MAX_CONNECTIONS = 65_535
"""The highest limit for one address: nginx counts connections in 16 bits."""

Problems = Iterator[tuple[str, str]]

_SIZE = re.compile(r"(\d{1,6})([kMG]?)")
_SIZES = {"": 1, "k": 1024, "M": 1024**2, "G": 1024**3}
MAX_SOCKET_PATH_BYTES = 107
_USER = re.compile(r"[a-z_][a-z0-9_-]*")
_PATH = re.compile(r"/[^\s;{}$\"'\\]+")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
# Headers that the portal's own processes use, or that have a meaning of their own.
_TAKEN_HEADER = re.compile(r"(?i)authorization|cookie|host|connection|content-.*|x-punway-.*|x-pun-.*")
# Headers in which proxies report clients' addresses.
_ADDRESS_HEADER = re.compile(r"(?i)x-forwarded-for|forwarded|x-real-ip")


def problems_of(config: Config) -> Problems:
    """Yield each key with an invalid value, and a text that says what the value must be."""
    yield from _portal_address(config.portal)
    yield from _portal(config.portal)
    if not Path(config.clusters.path).is_absolute():
        yield "clusters.path", f"must be an absolute path, not {config.clusters.path!r}"
    yield from _pun(config.pun)
    if config.tokens.max_lifetime:
        try:
            lifetime_from(config.tokens.max_lifetime)
        except TokenError:
            yield (
                "tokens.max_lifetime",
                f"must be a lifetime such as 12h, 90d or 1y, not {config.tokens.max_lifetime!r}",
            )
    unknown = [scope for scope in config.tokens.allowed_scopes if scope not in scopes.SCOPES]
    if unknown or not config.tokens.allowed_scopes:
        yield (
            "tokens.allowed_scopes",
            f"must be one or more of {', '.join(scopes.SCOPES)}, not {', '.join(unknown) or 'none'}",
        )
    yield from _idp(config.idp)
    yield from _login(config.login, config.idp)
    yield from _mcp(config.mcp, config.portal)
    for key, value in vars(config.limits).items():
        most = MAX_CONNECTIONS if key == "connections" else 10**9
        if not 0 <= value <= most:
            yield f"limits.{key}", f"must be from 0 to {most}, not {value}"


def _portal_address(portal: Portal) -> Problems:
    host = "127.0.0.1"
    try:
        host, _port = listen_address(portal.listen)
    except ValueError:
        yield "portal.listen", f"must be ADDRESS:PORT, such as 127.0.0.1:8080, not {portal.listen!r}"
    if bool(portal.tls_certificate) != bool(portal.tls_key):
        yield "portal.tls_key", "and portal.tls_certificate must be set together"
    if not portal.tls_certificate and not ip_address(host).is_loopback:
        yield (
            "portal.listen",
            f"is {host}: an address other than loopback needs portal.tls_certificate and portal.tls_key",
        )
    if not re.fullmatch(r"https?://[A-Za-z0-9.\-:\[\]]+", portal.public_url):
        yield (
            "portal.public_url",
            f"must be an address such as https://portal.example.org, without a path, not {portal.public_url!r}",
        )


def _portal(portal: Portal) -> Problems:
    for key in ("site_url", "help_url"):
        value = getattr(portal, key)
        if value and not re.fullmatch(r"https?://[A-Za-z0-9.\-:\[\]]+(/[A-Za-z0-9._~/%?&=+#-]*)?", value):
            yield f"portal.{key}", f"must be an address such as https://www.example.org/help, not {value!r}"
    for key in ("run_dir", "state_dir", "tls_certificate", "tls_key"):
        value = getattr(portal, key)
        if (value or key.endswith("_dir")) and not _PATH.fullmatch(value):
            yield f"portal.{key}", f"must be an absolute path without blanks or quotes, not {value!r}"
    if len(f"{portal.run_dir}/puns/{'n' * 32}/pun.sock".encode()) > MAX_SOCKET_PATH_BYTES:
        yield "portal.run_dir", "is too long: the path of a socket has at most 107 bytes; use a shorter one"
    for key in ("hook_user", "nginx_user"):
        if not _USER.fullmatch(getattr(portal, key)):
            yield f"portal.{key}", f"must be the name of a user, not {getattr(portal, key)!r}"
    yield from _networks("portal.proxies", portal.proxies)
    if not _HEADER.fullmatch(portal.proxy_header) or _TAKEN_HEADER.fullmatch(portal.proxy_header):
        yield (
            "portal.proxy_header",
            f"must be the name of a header, such as X-Forwarded-For, not {portal.proxy_header!r}",
        )
    try:
        size_of(portal.max_body)
    except ValueError:
        yield "portal.max_body", f"must be a size such as 50M, not {portal.max_body!r}"


def _pun(pun: Pun) -> Problems:
    try:
        re.compile(pun.user_regex)
    except re.error as error:
        yield "pun.user_regex", f"must be a regular expression: {error}"
    if pun.spawn not in SPAWN_WAYS:
        yield "pun.spawn", f"must be fork or exec, not {pun.spawn!r}"
    for key, least, most in (
        ("min_uid", 1, 2**32),
        ("idle_timeout", 1, 10**7),
        ("max_lifetime", 1, 10**8),
        ("threads", 1, 64),
    ):
        if not least <= getattr(pun, key) <= most:
            yield f"pun.{key}", f"must be from {least} to {most}, not {getattr(pun, key)}"
    lists = (*pun.deny_users, *pun.allow_groups, *pun.disabled_shells, *pun.environment.values())
    if sum(map(len, lists)) > MAX_RULES_LENGTH:
        yield (
            "pun.deny_users",
            f"and the other lists of [pun] have over {MAX_RULES_LENGTH} characters; use allow_groups",
        )
    for name, value in pun.environment.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or "\0" in value:
            yield f"pun.environment.{name}", "must be the name of a variable, and its value must not contain a NUL"


def _idp(idp: Idp) -> Problems:
    for key in ("issuer", "jwks_url"):
        value = getattr(idp, key)
        if value and not is_safe_url(value):
            yield f"idp.{key}", f"must be an https address (http only on loopback), not {value!r}"
    if (idp.audience or idp.jwks_url) and not idp.issuer:
        yield "idp.issuer", "must be set if idp.audience or idp.jwks_url is set"
    unknown = [name for name in idp.algorithms if name not in ALGORITHMS]
    if unknown or not idp.algorithms:
        yield "idp.algorithms", f"must be one or more of {', '.join(ALGORITHMS)}, not {', '.join(unknown) or 'none'}"
    for key in ("user_claim", "scope_claim"):
        if not getattr(idp, key):
            yield f"idp.{key}", "must be the name of a claim"
    if not idp.user_map.startswith("/"):
        try:
            groups = re.compile(idp.user_map).groups
        except re.error as error:
            yield "idp.user_map", f"must be an absolute path or a regular expression: {error}"
        else:
            if groups != 1:
                yield "idp.user_map", f"must have exactly one group, which is the user's name, not {groups}"


def _login(login: Login, idp: Idp) -> Problems:
    if not 60 <= login.session_lifetime <= 30 * 86_400:
        yield "login.session_lifetime", f"must be from 60 to {30 * 86_400}, not {login.session_lifetime}"
    if login.oidc and not (idp.issuer and login.client_id):
        yield "login.oidc", "needs idp.issuer and login.client_id"
    if login.client_id and login.client_id == idp.audience:
        yield "idp.audience", "must not be login.client_id: otherwise ID tokens would give access to the API"
    for key in ("client_secret_file", "header_secret_file"):
        value = getattr(login, key)
        if value and not _PATH.fullmatch(value):
            yield f"login.{key}", f"must be an absolute path without blanks or quotes, not {value!r}"
    if not login.header:
        return
    taken = _TAKEN_HEADER.fullmatch(login.header) or _ADDRESS_HEADER.fullmatch(login.header)
    if not _HEADER.fullmatch(login.header) or taken:
        yield "login.header", f"must be the name of a header, such as X-Remote-User, not {login.header!r}"
    if not login.header_peers:
        yield "login.header_peers", "must list the addresses from which login.header is accepted"
    yield from _networks("login.header_peers", login.header_peers)
    if not login.header_secret_file:
        yield (
            "login.header_secret_file",
            "must be set with login.header: the address of the sender alone proves nothing",
        )


def _networks(key: str, given: tuple[str, ...]) -> Problems:
    for network in given:
        try:
            ip_network(network)
        except ValueError as error:
            yield key, f"must list addresses or networks: {error}"
        else:
            if "%" in network:
                yield key, f"must list addresses or networks without a zone, not {network!r}"


def _mcp(mcp: Mcp, portal: Portal) -> Problems:
    if not _USER.fullmatch(mcp.user):
        yield "mcp.user", f"must be the name of a user, not {mcp.user!r}"
    if mcp.user in (portal.hook_user, portal.nginx_user):
        yield "mcp.user", f"must not be {mcp.user}, which runs another part of the portal"
    if not Path(mcp.notes).is_absolute():
        yield "mcp.notes", f"must be an absolute path, not {mcp.notes!r}"


def is_safe_url(text: str) -> bool:
    """Return whether an address is https, or http on loopback."""
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(host)
    try:
        return parts.scheme == "http" and (host == "localhost" or ip_address(host).is_loopback)
    except ValueError:
        return False


def size_of(text: str) -> int:
    """Return the number of bytes of a size such as 50M. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a size; write a number with k, M or G, such as 50M")
    return int(match[1]) * _SIZES[match[2]]


def listen_address(text: str) -> tuple[str, int]:
    """Return host and port of ``127.0.0.1:8080``, ``[::1]:8080`` or ``443`` (all addresses). Raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else "0.0.0.0"  # noqa: S104 - TLS is then required
    ip_address(host)
    number = int(port)
    if not 1 <= number <= 65_535:
        raise ValueError(port)
    return host, number
