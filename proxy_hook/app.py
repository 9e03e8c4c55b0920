"""The hook's ASGI app: it calls the function for each address, and puts the result into the form that nginx needs.

Runs as the hook's user. Before nginx passes on a request, it sends the hook an auth request (auth_request):
``/auth/api`` for the API and ``/auth/mcp`` for the MCP server, with the Authorization header, and ``/auth/pages`` for a
page, with the cookie. The app also serves ``/health``, the pages where browsers sign in (browser/sign_in.py), and the
portal's metadata (idp/resource_metadata.py).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from proxy_hook.browser.sign_in import error_page_from_nginx
from proxy_hook.errors import HttpError, unavailable
from proxy_hook.hook import Hook
from proxy_hook.identify import Principal
from proxy_hook.idp.resource_metadata import METADATA_PATH
from proxy_hook.web import Headers, WebRequest, WebResponse, header_of, request_from

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

AUTH_ENDPOINTS: dict[str, Callable[[Hook, Headers], Awaitable[Principal]]] = {
    "/auth/api": Hook.authenticate_client,
    "/auth/mcp": Hook.authenticate_client,
    "/auth/pages": Hook.authenticate_browser,
}
"""The addresses of nginx's auth requests, and the method that authenticates each of them."""
_RESOURCES = {"/auth/mcp": "/mcp"}
"""The protected resource of an auth request that has metadata of its own (RFC 9728)."""
_JSON: Headers = [(b"content-type", b"application/json")]

log = logging.getLogger("punway.hook")


class App:
    """The ASGI app of one hook."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, headers, body = await self._respond(scope, receive)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _respond(self, scope: dict[str, Any], receive: Receive) -> tuple[int, Headers, bytes]:
        """Return status, headers and body. Every failure becomes an error response, so it never grants access."""
        path, headers, user = scope["path"], scope["headers"], ""
        try:
            if path in AUTH_ENDPOINTS:
                principal = await AUTH_ENDPOINTS[path](self._hook, headers)
                user = principal.account.name
                limits: Headers = []
                if path == "/auth/api":
                    writes = header_of(headers, "x-punway-writes") == "1"
                    limits = self._hook.limits.count_request(principal, writes=writes)
                return 204, [*await self._hook.admit(principal), *limits], b""
            if path == "/health":
                return 200, _JSON, json.dumps(await self._hook.health()).encode()
            response = await self._page(path, await request_from(scope, receive))
            return response.status, response.headers(), response.body.encode()
        except HttpError as raised:
            error = raised
        except Exception:
            log.exception("authentication failed with an unexpected error")
            error = unavailable("The portal cannot check credentials at the moment; try again")
        if path in AUTH_ENDPOINTS:
            return self._refusal(path, error, user)
        retry: Headers = [(b"retry-after", b"5")] if error.status == 503 else []
        return error.status, [*_JSON, *retry], _body(error)

    async def _page(self, path: str, request: WebRequest) -> WebResponse:
        if path == "/pages/denied":
            return error_page_from_nginx(request)
        if path == "/pages/expired":
            return self._hook.sign_in.expired(request)
        if path.startswith(METADATA_PATH):
            return self._hook.metadata.respond(path)
        return await self._hook.sign_in.respond(request)

    def _refusal(self, path: str, error: HttpError, user: str) -> tuple[int, Headers, bytes]:
        """Return the answer to an auth request that is refused.

        auth_request understands only 2xx, 401 and 403. The real status, body and Retry-After are therefore in headers,
        from which nginx builds the response to the client.
        """
        headers = [
            (b"x-punway-status", str(error.status).encode()),
            (b"x-punway-answer", _body(error)),
            (b"x-pun-user", user.encode()),
            *error.headers,
        ]
        if error.retry_after:
            headers.append((b"x-punway-retry-after", str(error.retry_after).encode()))
        if error.challenge:
            challenge, name = error.challenge, b"x-punway-challenge"
            if error.status == 401:
                challenge += self._hook.metadata.challenge(_RESOURCES.get(path, ""))
                name = b"www-authenticate"
            headers.append((name, challenge.encode()))
        return (401 if error.status == 401 else 403), headers, b""


def _body(error: HttpError) -> bytes:
    return json.dumps({"error": error.code, "message": error.message}).encode()
