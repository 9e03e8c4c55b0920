"""nginx's configuration, made from punway.toml: the portal's server block, and a complete nginx.conf for ``serve``.

The templates are those of the installed package nginx. This module writes no files.
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
"""Connections of one nginx worker, to clients and to the portal's parts. They take 14 MB of memory."""
WORKER_FILES = 2 * WORKER_CONNECTIONS
HOOK_TIMEOUT_S = 120
"""nginx waits for the hook a little longer than the hook waits for a PUN (proxy_hook/spawner_client.py)."""


def portal_config(
    config: Config,
    access_log: str = "/var/log/nginx/punway-access.log",
    audit_log: str = "/var/log/nginx/punway-audit.log",
) -> str:
    """Return the file for /etc/nginx/conf.d/: upstreams, maps and one server block."""
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
        hook_time=HOOK_TIMEOUT_S,
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


def full_config(config: Config) -> str:
    """Return a complete nginx.conf for ``punway nginx``. It includes the file of ``portal_config``."""
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
    """Return how this version of nginx enables HTTP/2: "directive", "listen" (a parameter of it), or "" (it does not).

    nginx 1.25.1 introduced the directive and deprecated the parameter. Versions before 1.19.7 have separate limits for
    the headers of HTTP/2, so HTTP/2 stays off there.
    """
    if version >= (1, 25, 1):
        return "directive"
    return "listen" if not version or version >= (1, 19, 7) else ""


def _answer(error: str, message: str) -> str:
    """Return an error's body as a quoted string of nginx, which has no escape for a dollar sign: there must be none."""
    body = json.dumps({"error": error, "message": message})
    assert "$" not in body
    return "'" + body.replace("\\", "\\\\").replace("'", "\\'") + "'"


ANSWERS: dict[int | str, str] = {
    "ambiguous": _answer(
        "bad_request",
        "The address is ambiguous. Remove //, .., ; and encoded slashes or dots, and percent-encode other characters",
    ),
    "token": _answer("bad_request", "Send the token in the Authorization header, never in the address"),
    "header": _answer(
        "bad_request",
        "A header contains a control character, such as a line break. Check the Authorization header first",
    ),
    "mcp": _answer("method_not_allowed", "The MCP server accepts only POST: it keeps no sessions and opens no streams"),
    400: _answer("bad_request", "The request is malformed HTTP, or it repeats a header such as Host or Authorization"),
    404: _answer("not_found", "Nothing is at this address. The API is below /api/v1/"),
    405: _answer(
        "method_not_allowed", "This address does not accept this method. The Allow header lists those that it accepts"
    ),
    408: _answer("request_timeout", "The request took too long to arrive. Send it again"),
    413: _answer("payload_too_large", "The body is larger than this portal accepts"),
    415: _answer("unsupported_media_type", "Send the body uncompressed, without a Content-Encoding header"),
    414: _answer("uri_too_long", "The address is too long"),
    429: _answer(
        "too_many_requests", "Too many requests or open connections from your address. Wait a second and try again"
    ),
    431: _answer("headers_too_large", "The request's headers are too large"),
    497: _answer("bad_request", "This port requires HTTPS. Use https:// instead of http:// in the address"),
    503: _answer(
        "service_unavailable",
        "The portal did not answer in time. If you submitted a job, check whether it exists before you submit it again",
    ),
}
"""The errors that nginx itself answers, by status or reason, as JSON bodies quoted for nginx's configuration."""


PAGES: dict[int, tuple[str, str]] = {
    400: (
        "That did not work",
        "Your browser sent a malformed header. Delete the cookies of this site, and try again.",
    ),
    404: ("Page not found", "Check the address. The page may have moved."),
    405: ("That did not work", "This address does not accept this kind of request."),
    408: ("That took too long", "Your request took too long to arrive. Try again."),
    413: ("That is too large", "Your request is larger than this portal accepts."),
    414: ("That address is too long", "The portal does not accept addresses of this length."),
    429: ("Too many requests", "Too many requests came from your address. Wait a second, and try again."),
    503: ("The portal did not answer in time", "Try again in a moment."),
}
"""The same errors for a browser: a title, and what to do."""


def error_page(status: int, has_pages: bool) -> str:
    """Return a page for a browser as a quoted string of nginx. With ``has_pages`` it links to API Tokens."""
    title, text = PAGES[status]
    link = '<a href="/settings/api_tokens">API Tokens</a>' if has_pages else ""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title} · Punway</title><link rel="icon" href="data:,"><link rel="stylesheet" href="/assets/page.css">'
        f'</head><body><header class="top"><a class="name" href="/">Punway</a><nav aria-label="Portal">{link}'
        '<a href="/api/v1/docs">The API</a><a href="/help">Help</a></nav></header>'
        f'<main class="small"><h1>{title}</h1><p>{text}</p></main></body></html>'
    )
    assert not set(page) & set("$'\\")
    return f"'{page}'"


def _render(name: str, **values: object) -> str:
    source = (files("nginx") / name).read_text(encoding="utf-8")
    # The output is not HTML, so nothing is escaped. proxy_hook/config_rules.py checks every value.
    environment = Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True, trim_blocks=True)
    return environment.from_string(source).render(**values)
