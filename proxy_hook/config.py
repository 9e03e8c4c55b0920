"""punway.toml: one table of key, type, default and why; every error names the key and the file.

Read by every ``punway`` command with its caller's privilege. The file holds no secret, and ordinary users
may read it: ``punway token`` finds the portal through it.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import Field, dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, get_type_hints

import tomli

from proxy_hook.errors import ConfigError

DEFAULT_PATH = Path("/etc/punway/punway.toml")
SPAWN_WAYS = ("fork", "exec")
RULES_LENGTH = 30_000
"""Characters in the lists of [pun] together: they go to the preloader in one message for each PUN."""

_SIZE = re.compile(r"(\d{1,6})([kMG]?)")
_SIZES = {"": 1, "k": 1024, "M": 1024**2, "G": 1024**3}
_SOCKET_PATH = 107


def _key(default: Any, why: str) -> Any:
    if isinstance(default, (dict,)):
        return field(default_factory=lambda: dict(default), metadata={"why": why})
    return field(default=default, metadata={"why": why})


@dataclass(frozen=True)
class Portal:
    listen: str = _key(
        "127.0.0.1:8080",
        "Address and port that nginx listens on. Beyond loopback it needs tls_certificate and tls_key.",
    )
    public_url: str = _key("http://127.0.0.1:8080", "What clients call the portal, without a slash at the end.")
    tls_certificate: str = _key("", "The certificate chain's file, in PEM. Empty: plain HTTP, on loopback alone.")
    tls_key: str = _key("", "The certificate's key, in PEM; nginx's master process reads it as root.")
    run_dir: str = _key(
        "/run/punway",
        "Sockets and the hook's public key. Made by root at start; short (a socket's path has 107 bytes).",
    )
    state_dir: str = _key("/var/lib/punway", "The route table. Made at start, for hook_user alone.")
    hook_user: str = _key("punway", "The unprivileged user that the hook runs as; nobody's login.")
    nginx_user: str = _key("www-data", "The user of nginx's workers: www-data on Debian, nginx on RHEL.")
    max_body: str = _key("50M", "Greatest request body (k, M and G are powers of 1024); beyond it 413.")


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
        "fork", "How a PUN starts: fork (30 ms, 8 MB) or exec (a fresh interpreter; see docs/spawning.md)."
    )
    idle_timeout: int = _key(300, "Seconds after which a PUN with nothing to do leaves.")
    max_lifetime: int = _key(43_200, "Seconds after which a PUN leaves, once what is in flight is done.")
    threads: int = _key(8, "Requests that one user's PUN serves at once.")
    environment: dict[str, str] = _key(
        {}, "Variables that every PUN has besides HOME, USER, LOGNAME, SHELL, PATH, LANG."
    )
    no_new_privs: bool = _key(False, "Forbid setuid helpers. PBS, LSF and host-based ssh authenticate by such helpers.")


@dataclass(frozen=True)
class Config:
    """The whole configuration. ``source`` is the file that it came from."""

    portal: Portal = field(default_factory=Portal)
    clusters: Clusters = field(default_factory=Clusters)
    pun: Pun = field(default_factory=Pun)
    source: Path = DEFAULT_PATH

    @property
    def run_dir(self) -> Path:
        return Path(self.portal.run_dir)

    @property
    def max_body_bytes(self) -> int:
        return size_of(self.portal.max_body)

    @property
    def single_user(self) -> bool:
        """Whether nobody is root here, so that the one user who started the portal is the one it serves."""
        return os.geteuid() != 0


TABLES: dict[str, type] = {"portal": Portal, "clusters": Clusters, "pun": Pun}


def default_of(key: Field[Any]) -> Any:
    """A key's default."""
    if callable(key.default_factory):
        return key.default_factory()
    return key.default


def size_of(text: str) -> int:
    """Bytes in a size like 50M. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no size")
    return int(match[1]) * _SIZES[match[2]]


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
    _check(config)
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


def _check(config: Config) -> None:
    """What the types alone do not say."""
    portal, pun = config.portal, config.pun

    def wrong(key: str, what: str) -> ConfigError:
        return ConfigError(f"{config.source}: {key} {what}")

    try:
        host, _port = listen_address(portal.listen)
    except ValueError as error:
        raise wrong("portal.listen", f"must be ADDRESS:PORT, not {portal.listen!r}") from error
    if bool(portal.tls_certificate) != bool(portal.tls_key):
        raise wrong("portal.tls_key", "and portal.tls_certificate go together")
    if not portal.tls_certificate and not ip_address(host).is_loopback:
        raise wrong("portal.listen", f"is {host}: beyond loopback it needs portal.tls_certificate and portal.tls_key")
    if not re.fullmatch(r"https?://[A-Za-z0-9.\-:\[\]]+", portal.public_url):
        raise wrong("portal.public_url", f"must be like https://portal.example.org, not {portal.public_url!r}")
    for key in ("run_dir", "state_dir", "tls_certificate", "tls_key"):
        value = getattr(portal, key)
        if (value or key.endswith("_dir")) and not re.fullmatch(r"/[^\s;{}$\"'\\]+", value):
            raise wrong(f"portal.{key}", f"must be an absolute path without blanks or quotes, not {value!r}")
    if len(f"{portal.run_dir}/puns/{'n' * 32}/pun.sock".encode()) > _SOCKET_PATH:
        raise wrong("portal.run_dir", "is too long: a socket below it has at most 107 bytes of path")
    for key in ("hook_user", "nginx_user"):
        if not re.fullmatch(r"[a-z_][a-z0-9_-]*", getattr(portal, key)):
            raise wrong(f"portal.{key}", f"is no user's name: {getattr(portal, key)!r}")
    try:
        size_of(portal.max_body)
    except ValueError as error:
        raise wrong("portal.max_body", f"must be a size like 50M, not {portal.max_body!r}") from error
    if not Path(config.clusters.path).is_absolute():
        raise wrong("clusters.path", f"must be an absolute path, not {config.clusters.path!r}")
    try:
        re.compile(pun.user_regex)
    except re.error as error:
        raise wrong("pun.user_regex", f"is no regular expression: {error}") from error
    if pun.spawn not in SPAWN_WAYS:
        raise wrong("pun.spawn", f"must be fork or exec, not {pun.spawn!r}")
    for key, least, most in (
        ("min_uid", 1, 2**32),
        ("idle_timeout", 1, 10**7),
        ("max_lifetime", 1, 10**8),
        ("threads", 1, 64),
    ):
        if not least <= getattr(pun, key) <= most:
            raise wrong(f"pun.{key}", f"must be from {least} to {most}, not {getattr(pun, key)}")
    if (
        sum(map(len, (*pun.deny_users, *pun.allow_groups, *pun.disabled_shells, *pun.environment.values())))
        > RULES_LENGTH
    ):
        raise wrong(
            "pun.deny_users", f"and the other lists of [pun] have over {RULES_LENGTH} characters; use allow_groups"
        )
    for name, value in pun.environment.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or "\0" in value:
            raise wrong(f"pun.environment.{name}", "is no variable's name, or has a NUL in it")


def listen_address(text: str) -> tuple[str, int]:
    """Host and port of ``127.0.0.1:8080``, ``[::1]:8080`` or ``443`` (all addresses). Raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else "0.0.0.0"  # noqa: S104 - which TLS must then guard
    ip_address(host)
    number = int(port)
    if not 1 <= number <= 65_535:
        raise ValueError(port)
    return host, number


def interpreter() -> str:
    """The Python that runs Punway, for processes that become other users."""
    return sys.executable


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))
