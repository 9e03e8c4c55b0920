"""The portal's REST API, asked with the credential of whoever asks us: none is kept, and none is ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from mcp.server.mcpserver.exceptions import ToolError

ANSWER_TIME = 150.0
"""Seconds for an answer; a request that waits has its own time besides."""


@dataclass(frozen=True, repr=False)
class Caller:
    """Who sent the message that is being answered: the credential as it came, the address, and what it may."""

    authorization: str
    address: str
    scopes: tuple[str, ...] = ()


class PortalError(ToolError):
    """The portal's no, with what to do about it. ``error`` is one of the API's."""

    def __init__(self, status: int, error: str, message: str, retry_after: str | None = None) -> None:
        self.status, self.error = status, error
        super().__init__(f"{message.rstrip('.')}. ({error}) {_advice(error, retry_after)}".rstrip())


class Portal:
    """nginx's unix socket. ``host`` is what the portal is called."""

    def __init__(self, socket: str, host: str) -> None:
        self._client = httpx2.AsyncClient(
            # As many connections as there are questions, and none is used again: a submit must not meet one that nginx
            # is just closing, and by a unix socket a new one costs next to nothing.
            transport=httpx2.AsyncHTTPTransport(
                uds=socket, limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0)
            ),
            base_url=f"http://{host}",
            # By a unix socket, bytes cost less than compressing them.
            headers={"Accept-Encoding": "identity"},
            # Of redirects the API has none, and the environment is no one's business here.
            follow_redirects=False,
            trust_env=False,
        )

    async def close(self) -> None:
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
        waiting: float = 0,
    ) -> httpx2.Response:
        """The answer, whatever it is. Raises PortalError where there is none."""
        sent = {"Authorization": caller.authorization, "X-Punway-Peer": caller.address, **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        try:
            return await self._client.request(
                method,
                path,
                params=given,
                content=None if body is None else json.dumps(body),
                headers=sent,
                timeout=httpx2.Timeout(ANSWER_TIME + waiting, connect=5.0),
            )
        except httpx2.RequestError as error:
            raise PortalError(503, "service_unavailable", "The portal did not answer") from error

    async def ask(self, caller: Caller, method: str, path: str, **more: Any) -> Any:
        """The JSON of a good answer. Raises PortalError for any other."""
        return (await self.good(caller, method, path, **more)).json()

    async def good(self, caller: Caller, method: str, path: str, **more: Any) -> httpx2.Response:
        """A good answer, or one that says that nothing has changed (304). Raises PortalError for any other."""
        answer = await self.send(caller, method, path, **more)
        if answer.is_success or answer.status_code == 304:
            return answer
        try:
            said = answer.json()
            error, message = str(said["error"]), str(said["message"])
        except (ValueError, KeyError, TypeError):
            error, message = "unexpected_answer", f"The portal answered with status {answer.status_code}"
        raise PortalError(answer.status_code, error, message, answer.headers.get("Retry-After"))


_ADVICE = {
    "unauthorized": "The user has to make a new token on the portal's API Tokens page, and put it into this client's "
    "configuration; trying again does not help.",
    "insufficient_scope": "The user's token does not allow this; whoami shows what it does. Ask the user for another.",
    "forbidden": "The site does not allow this to the user; whom to ask is the site's support.",
    "not_found": "list_clusters shows the clusters and list_jobs the jobs with their ids; a job that ended long ago "
    "may be in list_past_jobs.",
    "bad_request": "Correct the argument that is named, and call again.",
    "unprocessable_entity": "Correct what is named, and call again; list_queues and list_accounts show what there "
    "is to ask for.",
    "not_implemented": "This cluster's scheduler cannot do it; trying again does not help.",
    "payload_too_large": "Put large input into files on the cluster, and let the script read them.",
}


def _advice(error: str, retry_after: str | None) -> str:
    if retry_after:
        return f"Try again in {retry_after} seconds."
    return _ADVICE.get(error, "")
