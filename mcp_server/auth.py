"""The ASGI middleware in front of the SDK: it checks the credential and applies the limits (limits.py).

The portal itself checks the credential. No byte of a message is read before that. If the client disconnects, the call
is cancelled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
from mcp.server.mcpserver import Context
from mcp_types import PARSE_ERROR
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mcp_server.limits import MAX_MESSAGE_BYTES, MAX_MESSAGE_VALUES, Busy, Limits, Place, count_values
from mcp_server.portal import Caller, Portal, PortalError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[..., Awaitable[None]]
BODY_TIMEOUT_S = 30.0
"""The time for a whole message to arrive."""
_FORWARDED_HEADERS = ("WWW-Authenticate", "Retry-After", "RateLimit", "RateLimit-Policy")


def caller_of(context: Context) -> Caller:
    """Return the caller of a tool, from the HTTP request of this very message."""
    return caller_of_request(context.request_context.request)


def caller_of_request(request: Any) -> Caller:
    """Return the caller whom AuthMiddleware has accepted with a request."""
    caller = request.state.caller
    assert isinstance(caller, Caller)
    return caller


def place_of(context: Context) -> Place:
    """Return the place that the message of a tool call holds."""
    request: Any = context.request_context.request
    place = request.state.place
    assert isinstance(place, Place)
    return place


class Rejected(Exception):
    """A message that is rejected before it reaches the SDK, with the HTTP response."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


def rejection(status: int, error: str, message: str, headers: dict[str, str] | None = None) -> Rejected:
    """Return a Rejected whose response has the form of the API's errors."""
    return Rejected(JSONResponse({"error": error, "message": message}, status, headers))


class AuthMiddleware:
    """An ASGI app in front of another. It passes on the portal's response to a bad credential unchanged."""

    def __init__(self, app: App, portal: Portal, max_body: int) -> None:
        self._app = app
        self._portal = portal
        self._max_body = min(max_body, MAX_MESSAGE_BYTES)
        self._limits = Limits()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            # nginx sets the header to the user whom the hook has identified.
            with self._limits.admitted(Request(scope).headers.get("x-punway-user", "")) as share:
                caller = await self._caller(scope)
                size = self._size(scope)
                async with self._limits.place(share, size) as place:
                    message = await self._message(receive)
                    if message is None:
                        return  # The client has disconnected.
                    state = {**scope.get("state", {}), "caller": caller, "place": place}
                    await _until_disconnect(self._app, {**scope, "state": state}, message, receive, send)
        except Busy as busy:
            status, error = (429, "too_many_requests") if busy.is_own else (503, "service_unavailable")
            await rejection(status, error, str(busy), {"Retry-After": "5"}).response(scope, receive, send)
        except Rejected as rejected:
            await rejected.response(scope, receive, send)

    async def _caller(self, scope: dict[str, Any]) -> Caller:
        """Return the caller with the scopes of the credential. Raises Rejected if the portal rejects the credential."""
        headers = Request(scope).headers
        caller = Caller(headers.get("authorization", ""), headers.get("x-punway-peer", ""))
        try:
            response = await self._portal.send(caller, "GET", "/api/v1/whoami")
        except PortalError as error:
            raise rejection(503, error.error, str(error), {"Retry-After": "5"}) from error
        if not response.is_success:
            forwarded = {name: response.headers[name] for name in _FORWARDED_HEADERS if name in response.headers}
            raise Rejected(Response(response.content, response.status_code, forwarded, "application/json"))
        return Caller(caller.authorization, caller.address, tuple(response.json()["data"]["scopes"]))

    def _size(self, scope: dict[str, Any]) -> int:
        """Return the message's Content-Length, or the maximum if there is none. Raises Rejected if it is too large."""
        length = Request(scope).headers.get("content-length", "")
        size = int(length) if length.isascii() and length.isdigit() else self._max_body
        if size > self._max_body:
            raise self._too_large()
        return size

    async def _message(self, receive: Receive) -> bytes | None:
        """Return the whole message, or None if the client disconnects first.

        Raises Rejected if it is too large, too slow, or has too many JSON values.
        """
        parts: list[bytes] = []
        size = 0
        with anyio.move_on_after(BODY_TIMEOUT_S) as timeout:
            while True:
                event = await receive()
                if event["type"] == "http.disconnect":
                    return None
                parts.append(event.get("body", b""))
                size += len(parts[-1])
                if size > self._max_body:
                    raise self._too_large()
                if not event.get("more_body"):
                    break
        if timeout.cancelled_caught:
            raise rejection(
                408,
                "request_timeout",
                f"The message did not arrive within {BODY_TIMEOUT_S:.0f} seconds. Send it again.",
            )
        message = b"".join(parts)
        if count_values(message) > MAX_MESSAGE_VALUES:
            text = f"The message has more than {MAX_MESSAGE_VALUES} JSON values. Split the call into smaller ones."
            fault = {"code": PARSE_ERROR, "message": text}
            raise Rejected(JSONResponse({"jsonrpc": "2.0", "id": None, "error": fault}, 400))
        return message

    def _too_large(self) -> Rejected:
        remedy = "Put large scripts and input into files on the cluster, and let the job read them."
        return rejection(413, "payload_too_large", f"The message is larger than {self._max_body} bytes. {remedy}")


async def _until_disconnect(app: App, scope: dict[str, Any], message: bytes, receive: Receive, send: Send) -> None:
    """Run the app for a message that has been read. Cancel it if the client disconnects."""
    is_read = False
    disconnected = anyio.Event()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        disconnected.set()
        group.cancel_scope.cancel()

    async def replay() -> Message:
        nonlocal is_read
        if is_read:
            await disconnected.wait()
            return {"type": "http.disconnect"}
        is_read = True
        return {"type": "http.request", "body": message, "more_body": False}

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await app(scope, replay, send)
        group.cancel_scope.cancel()
