"""What nginx runs, made from punway.toml: the portal's server block, and a whole nginx.conf for ``serve``.

The templates are found from the installed package. Runs with its caller's privilege and writes nothing.
"""

from __future__ import annotations

import json
import resource
from importlib.resources import files
from urllib.parse import urlsplit

from jinja2 import Environment, StrictUndefined

from proxy_hook.config import Config
from proxy_hook.config_rules import listen_address
from punway.nginx_program import nginx_version

WORKER_CONNECTIONS = 32_768
"""Connections of one nginx worker, to clients and to parts of the portal. They take 14 MB."""
WORKER_FILES = 2 * WORKER_CONNECTIONS
HOOK_TIME = 120
"""Seconds that nginx waits for the hook: a little longer than the hook waits for a PUN (spawner_client.py)."""


def portal_config(
    config: Config,
    access_log: str = "/var/log/nginx/punway-access.log",
    audit_log: str = "/var/log/nginx/punway-audit.log",
) -> str:
    """The file for /etc/nginx/conf.d: upstream, maps and one server block."""
    host, port = listen_address(config.portal.listen)
    tls = bool(config.portal.tls_certificate)
    return _render(
        "portal.conf.j2",
        portal=config.portal,
        listen=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        server_name=urlsplit(config.portal.public_url).hostname or "_",
        public_host=urlsplit(config.portal.public_url).netloc,
        tls=tls,
        http2=_http2(nginx_version()) if tls and config.portal.http2 else "",
        hook_time=HOOK_TIME,
        max_body=config.max_body_bytes,
        answers=ANSWERS,
        unavailable_page=error_page(503, config.signs_in),
        malformed_page=error_page(400, config.signs_in),
        error_pages={status: error_page(status, config.signs_in) for status in PAGES},
        access_log=access_log,
        audit_log=audit_log,
        pages=config.signs_in,
        address="$punway_address" if config.has_mcp else "$remote_addr",
        via="$punway_via" if config.has_mcp else "http",
        auths=("api", "mcp") if config.has_mcp else ("api",),
        flood=config.limits.flood,
        connections=config.limits.connections,
        proxies=config.portal.proxies,
        direct_peer="$realip_remote_addr" if config.portal.proxies else "$remote_addr",
        inner=str(config.inner_socket) if config.has_mcp else "",
        assets=str(files("nginx") / "static"),
    )


def whole_config(config: Config) -> str:
    """A complete nginx.conf around it, for ``punway nginx``: foreground, its files in the run directory."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = WORKER_FILES if hard == resource.RLIM_INFINITY else min(hard, WORKER_FILES)
    return _render(
        "nginx.conf.j2",
        user="" if config.single_user else config.portal.nginx_user,
        folder=config.run_dir / "nginx",
        files=files,
        connections=min(files // 2, WORKER_CONNECTIONS),
    )


def _http2(version: tuple[int, ...]) -> str:
    """Return how an nginx is told to speak HTTP/2: by a directive, by a word of listen, or (too old for it) not at all.

    The directive came with 1.25.1, which still takes the word. Before 1.19.7 headers had bounds of their own in HTTP/2.
    """
    if version >= (1, 25, 1):
        return "directive"
    return "listen" if not version or version >= (1, 19, 7) else ""


def _answer(error: str, message: str) -> str:
    """The body as nginx's quoted string; nginx has no way to write a dollar sign, so none may be in it."""
    body = json.dumps({"error": error, "message": message})
    assert "$" not in body
    return "'" + body.replace("\\", "\\\\").replace("'", "\\'") + "'"


ANSWERS: dict[int | str, str] = {
    "ambiguous": _answer(
        "bad_request",
        "The address is ambiguous: it has //, .., ; an encoded slash or dot, or bytes that are not encoded",
    ),
    "token": _answer("bad_request", "Send the token in the Authorization header, never in the address"),
    "header": _answer("bad_request", "A header has a control character in it; check Authorization first"),
    "mcp": _answer("method_not_allowed", "The MCP server takes POST alone: it keeps no sessions and opens no streams"),
    400: _answer("bad_request", "The request is not well-formed HTTP, or names its sender twice"),
    404: _answer("not_found", "No such address; the API is under /api/v1/"),
    405: _answer("method_not_allowed", "The portal does not take this method"),
    408: _answer("request_timeout", "The request did not arrive in time"),
    413: _answer("payload_too_large", "The body is larger than this portal takes"),
    415: _answer("unsupported_media_type", "Send the body as it is, without a Content-Encoding"),
    414: _answer("uri_too_long", "The address is too long"),
    429: _answer("too_many_requests", "Too many requests or open connections from your address; wait a second"),
    431: _answer("headers_too_large", "The request's headers are too large"),
    497: _answer("bad_request", "This port speaks HTTPS: write https:// in the address, not http://"),
    503: _answer(
        "service_unavailable",
        "The portal did not answer in time. If this was a submit, look for the job before you send it again",
    ),
}
"""What nginx answers by itself, by status or reason, in the contract's form and quoted for its configuration."""


PAGES: dict[int, tuple[str, str]] = {
    400: (
        "That did not work",
        "Your browser sent a header that cannot be read. Delete its cookies of this site, and try again.",
    ),
    404: ("There is no such page", "The address may be misspelt, or what was there has moved."),
    405: ("That did not work", "This address does not take what was sent to it."),
    408: ("That took too long", "What you sent did not arrive in time. Try again."),
    413: ("That is too large", "What you sent is larger than this portal takes."),
    414: ("That address is too long", "The portal does not take addresses of this length."),
    429: ("Too many requests", "There were too many requests from your address. Wait a second, and try again."),
    503: ("The portal did not answer in time", "Try again in a moment."),
}
"""The same for a browser: a title, and what to do."""


def error_page(status: int, has_pages: bool) -> str:
    """Return a page for a browser, as nginx's quoted string. ``has_pages`` says whether API Tokens is there."""
    title, text = PAGES[status]
    way = '<a href="/settings/api_tokens">API Tokens</a>' if has_pages else ""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title} · Punway</title><link rel="icon" href="data:,"><link rel="stylesheet" href="/assets/page.css">'
        f'</head><body><header class="top"><a class="name" href="/">Punway</a><nav aria-label="Portal">{way}'
        '<a href="/api/v1/docs">The API</a><a href="/help">Help</a></nav></header>'
        f'<main class="small"><h1>{title}</h1><p>{text}</p></main></body></html>'
    )
    assert not set(page) & set("$'\\")
    return f"'{page}'"


def _render(name: str, **values: object) -> str:
    source = (files("nginx") / name).read_text(encoding="utf-8")
    # Not HTML, so nothing is escaped; every value is checked by config.py.
    environment = Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True, trim_blocks=True)
    return environment.from_string(source).render(**values)
