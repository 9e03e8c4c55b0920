"""``punway mcp``: a portal's MCP server, for clients that speak to programs alone.

Each line of JSON-RPC on the standard input becomes one POST to the portal's /mcp with the user's token, and each answer
one line on the standard output. Runs on the user's own machine, as the user; nothing of it is kept. It has no tools of
its own, so it serves whatever the portal has, in whichever version of the protocol the client speaks.
"""

from __future__ import annotations

import json
import os
import sys
from base64 import b64encode
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
from anyio import to_thread

USAGE = """punway mcp needs the portal's address and a token, in the environment:
    OOD_API_URL=https://portal.example.org   OOD_API_TOKEN=…
Make the token on the portal's API Tokens page, or with: punway token create"""
LONGEST = 340.0
"""Seconds for an answer: longer than a tool may wait."""
LAST_ANSWERS = 10.0
"""Seconds for what is under way when the input ends: who pipes a request in wants its answer, who leaves does not."""
_VERSION = "io.modelcontextprotocol/protocolVersion"
_PARSE_ERROR, _NO_ANSWER = -32700, -32000


class Bridge:
    """One client's connection to one portal. ``post`` is the address of its /mcp."""

    def __init__(self, http: httpx2.AsyncClient, post: str) -> None:
        self._http = http
        self._post = post
        self._version = ""
        self._under_way: dict[Any, anyio.CancelScope] = {}
        self._writing = anyio.Lock()
        self._whole = anyio.CancelScope()

    async def run(self) -> None:
        """Until the input ends, and a little longer for what is under way then; or until nobody reads the output."""
        async with anyio.create_task_group() as group:
            self._whole = group.cancel_scope
            while line := await to_thread.run_sync(sys.stdin.buffer.readline, abandon_on_cancel=True):
                if line.strip():
                    group.start_soon(self._line, line)
            group.cancel_scope.deadline = anyio.current_time() + LAST_ANSWERS

    async def _line(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            await self._write(_error(None, _PARSE_ERROR, f"Parse error: {error}"))
            return
        method = message.get("method") if isinstance(message, dict) else None
        if method == "notifications/cancelled":
            params = message.get("params")
            scope = self._under_way.get(_key(params.get("requestId"))) if isinstance(params, dict) else None
            if scope:
                scope.cancel()
            return
        key = _key(message.get("id")) if isinstance(message, dict) else ""
        with anyio.CancelScope() as scope:
            self._under_way[key] = scope
            try:
                answer = await self._ask(line, message)
                # A notification has no answer, whatever is said to it.
                if answer is not None and (method is None or message.get("id") is not None):
                    await self._write(answer)
            finally:
                self._under_way.pop(key, None)

    async def _ask(self, line: bytes, message: Any) -> dict[str, Any] | None:
        """The portal's answer; None where there is none to come."""
        try:
            answer = await self._http.post(self._post, content=line, headers=self._headers(message))
        except httpx2.RequestError as error:
            return _no_answer(message, f"{self._post} does not answer: {error or type(error).__name__}")
        try:
            said = answer.json() if answer.content else None
        except ValueError:
            said = {"message": f"{self._post} answered with status {answer.status_code}; is it a Punway portal?"}
        if isinstance(said, dict) and "jsonrpc" in said:
            if isinstance(message, dict) and message.get("method") == "initialize":
                self._version = str((said.get("result") or {}).get("protocolVersion", ""))
            # What could not be parsed over there has lost its id.
            return {**said, "id": message.get("id")} if isinstance(message, dict) else said
        if said is None and answer.is_success:
            return None
        told = said.get("message") if isinstance(said, dict) else None
        return _no_answer(message, str(told or f"{self._post} answered with status {answer.status_code}"))

    def _headers(self, message: Any) -> dict[str, str]:
        """What HTTP wants besides the message: in 2026-07-28 its own words once more, before that the version alone."""
        params = message.get("params") if isinstance(message, dict) else None
        params = params if isinstance(params, dict) else {}
        meta = params.get("_meta")
        version = meta.get(_VERSION) if isinstance(meta, dict) else None
        if not isinstance(version, str):
            return {"Mcp-Protocol-Version": _header(self._version)} if self._version else {}
        headers = {"Mcp-Protocol-Version": _header(version), "Mcp-Method": _header(str(message.get("method")))}
        name = params.get("name", params.get("uri"))
        return {**headers, "Mcp-Name": _header(name)} if isinstance(name, str) else headers

    async def _write(self, answer: dict[str, Any]) -> None:
        async with self._writing:
            try:
                sys.stdout.write(json.dumps(answer) + "\n")
                sys.stdout.flush()
            except BrokenPipeError:
                self._whole.cancel()


def _header(text: str) -> str:
    """A value as SEP-2243 has it: what is no plain line is sent in base64."""
    if text.isascii() and text.isprintable() and text == text.strip() and not text.startswith("=?base64?"):
        return text
    return f"=?base64?{b64encode(text.encode()).decode()}?="


def _key(message_id: Any) -> str:
    return json.dumps(message_id)


def _error(message_id: Any, code: int, text: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message_id, "error": {"code": code, "message": text}}


def _no_answer(message: Any, text: str) -> dict[str, Any] | None:
    """What the client is told: of a tool as the tool's own error, which the model gets to read."""
    if not isinstance(message, dict):
        return _error(None, _NO_ANSWER, text)
    if message.get("id") is None:
        return None
    if message.get("method") == "tools/call":
        result = {"content": [{"type": "text", "text": text}], "isError": True}
        return {"jsonrpc": "2.0", "id": message["id"], "result": result}
    return _error(message["id"], _NO_ANSWER, text)


def portal_of(url: str) -> str:
    """Where to POST to at a portal. Raises ValueError: beyond this machine a token goes by TLS alone."""
    address = url.strip().rstrip("/").removesuffix("/mcp").removesuffix("/api/v1").rstrip("/")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise ValueError(f"OOD_API_URL must be like https://portal.example.org, not {url!r}")
    if parts.scheme == "http" and not _is_here(parts.hostname):
        raise ValueError(f"OOD_API_URL must be https: by {url!r} the token could be read on the way")
    return f"{address}/mcp"


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


async def bridge(post: str, token: str) -> None:
    """Serve the client at the standard streams."""
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "User-Agent": "punway-mcp",
    }
    limits = httpx2.Limits(max_connections=None, keepalive_expiry=30)
    timeout = httpx2.Timeout(LONGEST, connect=10.0)
    # A redirect would take the token elsewhere.
    async with httpx2.AsyncClient(headers=headers, timeout=timeout, limits=limits, follow_redirects=False) as http:
        await Bridge(http, post).run()


def main() -> int:
    """The exit status: 2 where the environment will not do."""
    url, token = os.environ.get("OOD_API_URL", ""), os.environ.get("OOD_API_TOKEN", "").strip()
    if not url or not token:
        print(USAGE, file=sys.stderr)
        return 2
    if not token.isascii() or not token.isprintable():
        print("punway mcp: OOD_API_TOKEN is no token", file=sys.stderr)
        return 2
    try:
        post = portal_of(url)
    except ValueError as error:
        print(f"punway mcp: {error}", file=sys.stderr)
        return 2
    try:
        anyio.run(bridge, post, token)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    # Not sys.exit: a thread may still be reading the standard input, and would be waited for.
    os._exit(main())
