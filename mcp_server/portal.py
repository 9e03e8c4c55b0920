"""A client of the portal's REST API. It sends the caller's own credential; the MCP server has none and keeps none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from mcp.server.mcpserver.exceptions import ToolError

RESPONSE_TIMEOUT_S = 150.0
"""The time for a response. A long poll gets its waiting time in addition."""


@dataclass(frozen=True, repr=False)
class Caller:
    """The sender of a message: the Authorization header, the address, and the scopes."""

    authorization: str
    address: str
    scopes: tuple[str, ...] = ()


class PortalError(ToolError):
    """An error response of the portal, as a message that says what to do. ``error`` is the API's error code."""

    def __init__(self, status: int, error: str, message: str, retry_after: str | None = None) -> None:
        self.status, self.error = status, error
        super().__init__(f"{message.rstrip('.')}. ({error}) {_advice(error, retry_after)}".rstrip())


class Portal:
    """The portal behind nginx's Unix socket. ``host`` is the portal's public name, for the Host header."""

    def __init__(self, socket: str, host: str) -> None:
        self._client = httpx2.AsyncClient(
            # Each request has a new connection: a submit must not use one that nginx is just closing, and opening a
            # Unix socket costs next to nothing.
            transport=httpx2.AsyncHTTPTransport(
                uds=socket, limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0)
            ),
            base_url=f"http://{host}",
            # On a Unix socket, compressing costs more than the bytes that it saves.
            headers={"Accept-Encoding": "identity"},
            # The API has no redirects, and a proxy from the environment must not see the token.
            follow_redirects=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the client."""
        await self._client.aclose()

    async def send(
        self,
        caller: Caller,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0,
    ) -> httpx2.Response:
        """Return the response, whatever its status.

        Query parameters that are None are left out. ``wait_s`` is the time for which the request asks the API to wait.
        Raises PortalError if the portal does not respond.
        """
        all_headers = {"Authorization": caller.authorization, "X-Punway-Peer": caller.address, **(headers or {})}
        if body is not None:
            all_headers["Content-Type"] = "application/json"
        try:
            return await self._client.request(
                method,
                path,
                params={name: str(value) for name, value in (query or {}).items() if value is not None},
                content=None if body is None else json.dumps(body),
                headers=all_headers,
                timeout=httpx2.Timeout(RESPONSE_TIMEOUT_S + wait_s, connect=5.0),
            )
        except httpx2.RequestError as error:
            raise PortalError(503, "service_unavailable", "The portal did not respond") from error

    async def ask(self, caller: Caller, method: str, path: str, **more: Any) -> Any:
        """Return the JSON of a successful response. Raises PortalError for any other."""
        return (await self.ask_raw(caller, method, path, **more)).json()

    async def ask_raw(self, caller: Caller, method: str, path: str, **more: Any) -> httpx2.Response:
        """Return a successful response or a 304 (not modified). Raises PortalError for any other."""
        response = await self.send(caller, method, path, **more)
        if response.is_success or response.status_code == 304:
            return response
        try:
            body = response.json()
            error, message = str(body["error"]), str(body["message"])
        except (ValueError, KeyError, TypeError):
            error, message = "unexpected_answer", f"The portal responded with status {response.status_code}"
        raise PortalError(response.status_code, error, message, response.headers.get("Retry-After"))


_ADVICE = {
    "unauthorized": "Ask the user to make a new token on the portal's API Tokens page and to put it into this client's "
    "configuration. Trying again does not help.",
    "insufficient_scope": "The user's token does not allow this; whoami shows what it allows. Ask the user for "
    "another token.",
    "forbidden": "The site does not allow this for the user. Tell the user to ask the site's support.",
    "not_found": "list_clusters shows the ids of clusters, list_jobs those of jobs, and list_past_jobs those of older "
    "jobs.",
    "bad_request": "Correct the named argument and call again.",
    "unprocessable_entity": "Correct the request and call again; list_queues and list_accounts show the valid choices.",
    "not_implemented": "This cluster's scheduler does not support it. Trying again does not help.",
    "payload_too_large": "Put large input into files on the cluster and let the script read them.",
}


def _advice(error: str, retry_after: str | None) -> str:
    if retry_after:
        return f"Try again in {retry_after} seconds."
    return _ADVICE.get(error, "")
