"""Before the SDK sees a message: whose it is, asked of the portal itself, and whether there is room for it (limits.py).

Nothing of a message is read before its credential was found good. And whoever hangs up is not waited for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
from mcp.server.mcpserver import Context
from mcp_types import PARSE_ERROR
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mcp_server.limits import MESSAGE_SIZE, MESSAGE_VALUES, Busy, Limits, Place, values_in
from mcp_server.portal import Caller, Portal, PortalError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[..., Awaitable[None]]
BODY_TIME_S = 30.0
"""How long a message may take to arrive, all of it."""
_PASSED_ON = ("WWW-Authenticate", "Retry-After", "RateLimit", "RateLimit-Policy")


def caller_of(context: Context) -> Caller:
    """Who sent the message that a tool answers: from that message's own request, and from nowhere else."""
    return caller_of_request(context.request_context.request)


def caller_of_request(request: Any) -> Caller:
    """Whom the door let in with a request."""
    caller = request.state.caller
    assert isinstance(caller, Caller)
    return caller


def place_of(context: Context) -> Place:
    """The room that the message has which a tool answers."""
    request: Any = context.request_context.request
    place = request.state.place
    assert isinstance(place, Place)
    return place


class Refused(Exception):
    """The answer to a message that the SDK does not get to see."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


def refusal(status: int, error: str, message: str, headers: dict[str, str] | None = None) -> Refused:
    """Return a Refused in the API's form."""
    return Refused(JSONResponse({"error": error, "message": message}, status, headers))


class Door:
    """An ASGI app before another. What the portal says to a caller's credential, the client is told as it is."""

    def __init__(self, app: App, portal: Portal, max_body: int) -> None:
        self._app = app
        self._portal = portal
        self._max_body = min(max_body, MESSAGE_SIZE)
        self._limits = Limits()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            # nginx says it, as the hook told it.
            with self._limits.admitted(Request(scope).headers.get("x-punway-user", "")) as share:
                caller = await self._caller(scope)
                size = self._size(scope)
                async with self._limits.place(share, size) as place:
                    message = await self._message(receive)
                    if message is None:
                        return
                    state = {**scope.get("state", {}), "caller": caller, "place": place}
                    await _while_there(self._app, {**scope, "state": state}, message, receive, send)
        except Busy as busy:
            status, error = (429, "too_many_requests") if busy.is_own else (503, "service_unavailable")
            await refusal(status, error, str(busy), {"Retry-After": "5"}).response(scope, receive, send)
        except Refused as refused:
            await refused.response(scope, receive, send)

    async def _caller(self, scope: dict[str, Any]) -> Caller:
        """Whose message it is. Raises Refused as the portal refuses the credential."""
        given = Request(scope).headers
        caller = Caller(given.get("authorization", ""), given.get("x-punway-peer", ""))
        try:
            answer = await self._portal.send(caller, "GET", "/api/v1/whoami")
        except PortalError as error:
            raise refusal(503, error.error, str(error), {"Retry-After": "5"}) from error
        if not answer.is_success:
            headers = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
            raise Refused(Response(answer.content, answer.status_code, headers, "application/json"))
        return Caller(caller.authorization, caller.address, tuple(answer.json()["data"]["scopes"]))

    def _size(self, scope: dict[str, Any]) -> int:
        """How large the message may be: as large as it says, or as any may be. Raises Refused."""
        length = Request(scope).headers.get("content-length", "")
        size = int(length) if length.isascii() and length.isdigit() else self._max_body
        if size > self._max_body:
            raise self._too_large()
        return size

    async def _message(self, receive: Receive) -> bytes | None:
        """The whole message; None where the client hung up before. Raises Refused."""
        parts: list[bytes] = []
        size = 0
        with anyio.move_on_after(BODY_TIME_S) as time:
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
        if time.cancelled_caught:
            raise refusal(408, "request_timeout", f"The message did not arrive within {BODY_TIME_S:.0f} seconds")
        message = b"".join(parts)
        if values_in(message) > MESSAGE_VALUES:
            fault = {"code": PARSE_ERROR, "message": f"Parse error: a message may have {MESSAGE_VALUES} JSON values"}
            raise Refused(JSONResponse({"jsonrpc": "2.0", "id": None, "error": fault}, 400))
        return message

    def _too_large(self) -> Refused:
        what_to_do = "put large scripts and input into files on the cluster, and have the job use them"
        return refusal(413, "payload_too_large", f"A message may have {self._max_body} bytes: {what_to_do}")


async def _while_there(app: App, scope: dict[str, Any], message: bytes, receive: Receive, send: Send) -> None:
    """The app's answer to a message, unless the client hangs up before: then what is under way is cancelled."""
    is_read = False
    gone = anyio.Event()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()
        group.cancel_scope.cancel()

    async def replay() -> Message:
        nonlocal is_read
        if is_read:
            await gone.wait()
            return {"type": "http.disconnect"}
        is_read = True
        return {"type": "http.request", "body": message, "more_body": False}

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await app(scope, replay, send)
        group.cancel_scope.cancel()
