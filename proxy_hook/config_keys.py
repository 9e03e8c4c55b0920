"""The keys of punway.toml: a class for each table, and for each key its type, its default and its purpose.

config.py reads the file; config_rules.py checks the values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tokens import scopes


def _key(default: Any, why: str) -> Any:
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata={"why": why})
    return field(default=default, metadata={"why": why})


@dataclass(frozen=True)
class Portal:
    listen: str = _key(
        "127.0.0.1:8080",
        "The address and port on which nginx listens: ADDRESS:PORT, [IPv6]:PORT, or a port alone for all IPv4 "
        "addresses. An address other than loopback needs tls_certificate and tls_key.",
    )
    public_url: str = _key(
        "http://127.0.0.1:8080",
        "The URL under which clients reach the portal: scheme, host and port, without a path or a slash at "
        "the end. Without https the portal is for trying out.",
    )
    site_url: str = _key(
        "", "The URL of the site's own portal, such as Open OnDemand's dashboard. Pages link to it. Empty: no link."
    )
    help_url: str = _key(
        "", "The URL of the site's help for users. /help redirects to it. Empty: a page that Punway brings."
    )
    tls_certificate: str = _key(
        "",
        "The path of the certificate chain, in PEM. Empty: plain HTTP, on loopback only. Set it together with tls_key.",
    )
    tls_key: str = _key(
        "",
        "The path of the certificate's key, in PEM. nginx's master process reads it as root; punway check "
        "reports a key that others can read.",
    )
    http2: bool = _key(True, "Allow HTTP/2. It needs TLS and nginx 1.19.7 or later; otherwise the key has no effect.")
    run_dir: str = _key(
        "/run/punway",
        "The folder of the sockets and of the hook's public key, created by root at start. An absolute path "
        "of at most 60 characters, because a socket's path has at most 107 bytes.",
    )
    state_dir: str = _key(
        "/var/lib/punway", "The folder of the route table, created at start with mode 0700 for hook_user."
    )
    hook_user: str = _key(
        "punway",
        "The unprivileged system user of the hook. Nobody logs in as this user. It must differ from nginx_user.",
    )
    nginx_user: str = _key("www-data", "The user of nginx's workers: www-data on Debian, nginx on RHEL.")
    max_body: str = _key(
        "50M",
        "The largest body of a submit: up to six digits and k, M or G (powers of 1024). Every other request "
        "has 1M, or this if it is less. A larger body is answered with 413.",
    )
    proxies: tuple[str, ...] = _key(
        (),
        "The addresses or networks of balancers in front of nginx. Limits and logs then use the client "
        "address that the balancer names; whoever can connect from these addresses can name any client.",
    )
    proxy_header: str = _key(
        "X-Forwarded-For",
        "The header in which the balancer names the client. The balancer must not pass on a client's own.",
    )


@dataclass(frozen=True)
class Clusters:
    path: str = _key(
        "/etc/ood/config/clusters.d", "The folder of Open OnDemand's cluster files, *.yml and *.yaml; an absolute path."
    )


@dataclass(frozen=True)
class Pun:
    min_uid: int = _key(1000, "The lowest uid that may have a PUN, from 1 to 4294967296. uid 0 never has one.")
    user_regex: str = _key(
        r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*",
        "A regular expression that must match a user's whole name. Whatever it is, a name has at most 64 "
        "characters, and only those that this default allows and a final $.",
    )
    disabled_shells: tuple[str, ...] = _key(
        ("/access/denied", "/sbin/nologin", "/usr/sbin/nologin", "/bin/false", "/usr/bin/false"),
        "Login shells whose users have no PUN.",
    )
    deny_users: tuple[str, ...] = _key(
        (),
        "Users who have no PUN. All lists of [pun] and the values of environment together have at most 30,000 "
        "characters; for more users, use allow_groups.",
    )
    allow_groups: tuple[str, ...] = _key((), "If set, only members of one of these groups have a PUN.")
    spawn: str = _key(
        "fork",
        "How a PUN starts: fork, or exec (a fresh interpreter). docs/admins/spawning.md compares them.",
    )
    idle_timeout: int = _key(300, "How long an idle PUN stays, in seconds, from 1 to 10,000,000.")
    max_lifetime: int = _key(
        43_200, "How long a PUN lives at most, in seconds, from 1 to 100,000,000. Requests in flight finish first."
    )
    threads: int = _key(
        8, "The number of requests of one user that are served at once, from 1 to 64. Further requests wait."
    )
    environment: dict[str, str] = _key(
        {},
        "Variables for every PUN, in addition to HOME, USER, LOGNAME, SHELL, PATH and LANG; a variable here "
        "replaces the one of the same name.",
    )
    no_new_privs: bool = _key(
        False,
        "Forbid setuid helpers. PBS, LSF and host-based ssh authenticate through such helpers, so leave it "
        "off with them.",
    )


@dataclass(frozen=True)
class Tokens:
    max_lifetime: str = _key(
        "1y",
        "The longest lifetime of a token: a number and m, h, d, w or y (365 days). At use it counts from when "
        "the hook first saw the token. Empty: no limit.",
    )
    allow_never: bool = _key(False, "Allow creating tokens without an expiry. max_lifetime still ends them.")
    allowed_scopes: tuple[str, ...] = _key(
        scopes.ALL,
        "The most that a token may do. At least one scope. A request that needs another scope is answered "
        "with 403. The files scopes open nothing yet.",
    )


@dataclass(frozen=True)
class Login:
    session_lifetime: int = _key(
        28_800,
        "How long a session lasts, in seconds, from 60 to 2,592,000 (30 days). The browser must then sign in again.",
    )
    link: bool = _key(True, "Allow sign-in with the one-time link that punway login prints in a user's own shell.")
    oidc: bool = _key(
        False, "Allow sign-in by OpenID Connect at the provider of [idp]. It needs idp.issuer and client_id."
    )
    client_id: str = _key("", "The identifier under which the provider knows the portal.")
    client_secret_file: str = _key(
        "",
        "The path of a file with the client's secret, which root reads when the hook starts; root's, mode "
        "0600. Empty: a public client, protected by PKCE alone.",
    )
    header: str = _key(
        "", "A header that names the signed-in Unix user, set by a front that has authenticated the user. Empty: off."
    )
    header_peers: tuple[str, ...] = _key(
        (), "The addresses or networks from which header is accepted. Needed with header."
    )
    header_secret_file: str = _key(
        "",
        "The path of a file with the secret that the front sends as X-Punway-Front-Secret; root's, mode 0600. "
        "Needed with header: an address alone proves nothing, because local users and nginx's own user can "
        "connect too.",
    )


@dataclass(frozen=True)
class Idp:
    title: str = _key("", "The provider's name on the sign-in page. Empty: its host name.")
    issuer: str = _key(
        "",
        "The issuer, exactly as in the provider's discovery document and in the iss of its tokens: https, or "
        "http on loopback. Empty: no provider.",
    )
    audience: str = _key(
        "",
        "The aud of access tokens that the API accepts. It must differ from login.client_id, or ID tokens "
        "would open the API. Empty: the API accepts none.",
    )
    jwks_url: str = _key("", "The URL of the provider's keys. Empty: the one in its discovery document.")
    algorithms: tuple[str, ...] = _key(
        ("RS256", "ES256"),
        "Accepted signatures, of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 and EdDSA. "
        "none and HMAC are never accepted.",
    )
    user_claim: str = _key("preferred_username", "The claim that identifies the user.")
    user_map: str = _key(
        "([a-z_][a-z0-9_-]*)",
        "How the claim becomes a Unix user: a regular expression that matches the whole claim and has one "
        "group, the user's name; or the absolute path of a TOML file with a user for each claim.",
    )
    scope_claim: str = _key(
        "scope", "The claim that lists the scopes of a bearer token. Only the portal's own scopes in it count."
    )


@dataclass(frozen=True)
class Mcp:
    enabled: bool = _key(True, "Serve /mcp.")
    user: str = _key(
        "punway-mcp",
        "The unprivileged system user of the MCP server. It must differ from hook_user and nginx_user. If the "
        "user does not exist, the portal runs without an MCP server, and punway check says so.",
    )
    notes: str = _key(
        "/etc/ood/config/agents.d",
        "The folder of the site's notes for agents: *.md, in the order of their names, 32 kB of each and 128 "
        "kB in all. An absolute path.",
    )


@dataclass(frozen=True)
class Limits:
    token_reads: int = _key(60_000, "Requests a minute of one token that change nothing. 0: no limit.")
    token_writes: int = _key(6_000, "Requests a minute of one token that submit, cancel, hold or release. 0: no limit.")
    user_reads: int = _key(
        120_000, "Requests a minute that change nothing, of all tokens of one user together. 0: no limit."
    )
    user_writes: int = _key(
        12_000, "Requests a minute that change something, of all tokens of one user together. 0: no limit."
    )
    refused: int = _key(
        60,
        "Invalid credentials a minute from one address (IPv6: one /64) that are answered with 401; further "
        "ones get 429. Valid credentials still work. 0: no limit.",
    )
    flood: int = _key(
        2_000, "Requests a second of one address (IPv6: one /64) that nginx accepts, valid or not. 0: no limit."
    )
    connections: int = _key(4_000, "Requests of one address (IPv6: one /64) that are open at once. 0: no limit.")


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
