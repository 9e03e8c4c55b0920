"""Before the SDK sees a message: whose it is, asked of the portal itself. And whoever hangs up is not waited for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
from mcp.server.mcpserver import Context
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mcp_server.portal import Caller, Portal, PortalError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[..., Awaitable[None]]
_PASSED_ON = ("WWW-Authenticate", "Retry-After", "RateLimit", "RateLimit-Policy")


def caller_of(context: Context) -> Caller:
    """Who sent the message that a tool answers: from that message's own request, and from nowhere else."""
    return caller_of_request(context.request_context.request)


def caller_of_request(request: Any) -> Caller:
    """Whom the door let in with a request."""
    caller = request.state.caller
    assert isinstance(caller, Caller)
    return caller


class Door:
    """An ASGI app before another. What the portal says to a caller's credential, the client is told as it is."""

    def __init__(self, app: App, portal: Portal) -> None:
        self._app = app
        self._portal = portal

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Request(scope).headers
        caller = Caller(given.get("authorization", ""), given.get("x-punway-peer", ""))
        try:
            answer = await self._portal.send(caller, "GET", "/api/v1/whoami")
        except PortalError as error:
            told = {"error": error.error, "message": str(error)}
            await JSONResponse(told, 503, {"Retry-After": "5"})(scope, receive, send)
            return
        if not answer.is_success:
            headers = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
            await Response(answer.content, answer.status_code, headers, "application/json")(scope, receive, send)
            return
        scopes = tuple(answer.json()["data"]["scopes"])
        state = {**scope.get("state", {}), "caller": Caller(caller.authorization, caller.address, scopes)}
        await _while_there(self._app, {**scope, "state": state}, receive, send)


async def _while_there(app: App, scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The app's answer, unless the client hangs up before: then what is under way is cancelled."""
    sent, received = anyio.create_memory_object_stream[Message](0)

    async def pass_on() -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                group.cancel_scope.cancel()
                return
            await sent.send(message)

    with sent, received:
        async with anyio.create_task_group() as group:
            group.start_soon(pass_on)
            await app(scope, received.receive, send)
            group.cancel_scope.cancel()
