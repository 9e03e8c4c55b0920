"""The bridge ``punway mcp``: it connects MCP clients that only use standard input and output to a portal.

Each line of JSON-RPC on the standard input becomes one POST to the portal's /mcp with the user's token, and each
response becomes one line on the standard output. The bridge runs on the user's own machine, as the user, and stores
nothing. It has no tools of its own, so it offers the portal's tools in whichever version of the protocol the client
uses.
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
RESPONSE_TIMEOUT_S = 340.0
"""The time for a response: longer than a tool may wait."""
DRAIN_TIMEOUT_S = 10.0
"""The time for responses after the input has ended. A client that pipes requests in still reads
them. A client that has left does not, so a long wait is cut off."""
_VERSION = "io.modelcontextprotocol/protocolVersion"
_PARSE_ERROR, _NO_RESPONSE = -32700, -32000


class Bridge:
    """A client's connection to one portal. ``mcp_url`` is the URL of the portal's /mcp."""

    def __init__(self, http: httpx2.AsyncClient, mcp_url: str) -> None:
        self._http = http
        self._mcp_url = mcp_url
        self._version = ""
        self._in_progress: dict[Any, anyio.CancelScope] = {}
        self._write_lock = anyio.Lock()
        self._all = anyio.CancelScope()

    async def run(self) -> None:
        """Serve until the input ends, plus DRAIN_TIMEOUT_S for requests in progress, or until the output is closed."""
        async with anyio.create_task_group() as group:
            self._all = group.cancel_scope
            while line := await to_thread.run_sync(sys.stdin.buffer.readline, abandon_on_cancel=True):
                if line.strip():
                    group.start_soon(self._line, line)
            group.cancel_scope.deadline = anyio.current_time() + DRAIN_TIMEOUT_S

    async def _line(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            await self._write(_error(None, _PARSE_ERROR, f"The line is not JSON: {error}"))
            return
        method = message.get("method") if isinstance(message, dict) else None
        if method == "notifications/cancelled":
            params = message.get("params")
            scope = self._in_progress.get(_key(params.get("requestId"))) if isinstance(params, dict) else None
            if scope:
                scope.cancel()
            return
        key = _key(message.get("id")) if isinstance(message, dict) else ""
        with anyio.CancelScope() as scope:
            self._in_progress[key] = scope
            try:
                response = await self._ask(line, message)
                # A notification gets no response, whatever the portal returned.
                if response is not None and (method is None or message.get("id") is not None):
                    await self._write(response)
            finally:
                self._in_progress.pop(key, None)

    async def _ask(self, line: bytes, message: Any) -> dict[str, Any] | None:
        """Return the portal's response as a JSON-RPC message, or None if there is none, as for a notification."""
        try:
            response = await self._http.post(self._mcp_url, content=line, headers=self._headers(message))
        except httpx2.RequestError as error:
            return _no_response(message, f"{self._mcp_url} does not respond: {error or type(error).__name__}")
        status = f"{self._mcp_url} responded with status {response.status_code}"
        try:
            body = response.json() if response.content else None
        except ValueError:
            body = {"message": f"{status}. Check that OOD_API_URL is the address of a Punway portal."}
        if isinstance(body, dict) and "jsonrpc" in body:
            if isinstance(message, dict) and message.get("method") == "initialize":
                self._version = str((body.get("result") or {}).get("protocolVersion", ""))
            # The portal cannot know the id of a message that it could not parse.
            return {**body, "id": message.get("id")} if isinstance(message, dict) else body
        if body is None and response.is_success:
            return None
        reason = body.get("message") if isinstance(body, dict) else None
        return _no_response(message, str(reason or status))

    def _headers(self, message: Any) -> dict[str, str]:
        """Return the headers of a message.

        The protocol of 2026-07-28 repeats the message's version, method and name in headers. Earlier ones repeat only
        the version, which the client and the portal agreed on in ``initialize``.
        """
        params = message.get("params") if isinstance(message, dict) else None
        params = params if isinstance(params, dict) else {}
        meta = params.get("_meta")
        version = meta.get(_VERSION) if isinstance(meta, dict) else None
        if not isinstance(version, str):
            return {"Mcp-Protocol-Version": _header(self._version)} if self._version else {}
        headers = {"Mcp-Protocol-Version": _header(version), "Mcp-Method": _header(str(message.get("method")))}
        name = params.get("name", params.get("uri"))
        return {**headers, "Mcp-Name": _header(name)} if isinstance(name, str) else headers

    async def _write(self, response: dict[str, Any]) -> None:
        async with self._write_lock:
            try:
                sys.stdout.write(json.dumps(response) + "\n")
                sys.stdout.flush()
            except BrokenPipeError:
                self._all.cancel()


def _header(text: str) -> str:
    """Return a header's value as SEP-2243 defines it: text that is not one line of plain ASCII is sent in base64."""
    if text.isascii() and text.isprintable() and text == text.strip() and not text.startswith("=?base64?"):
        return text
    return f"=?base64?{b64encode(text.encode()).decode()}?="


def _key(message_id: Any) -> str:
    return json.dumps(message_id)


def _error(message_id: Any, code: int, text: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message_id, "error": {"code": code, "message": text}}


def _no_response(message: Any, text: str) -> dict[str, Any] | None:
    """Return an error for the client, or None for a notification.

    A tool call gets a result with an error, which the model can read, instead of an error of the protocol.
    """
    if not isinstance(message, dict):
        return _error(None, _NO_RESPONSE, text)
    if message.get("id") is None:
        return None
    if message.get("method") == "tools/call":
        result = {"content": [{"type": "text", "text": text}], "isError": True}
        return {"jsonrpc": "2.0", "id": message["id"], "result": result}
    return _error(message["id"], _NO_RESPONSE, text)


def mcp_url_of(url: str) -> str:
    """Return the URL of a portal's /mcp from the portal's address.

    Raises ValueError if the address is malformed, or is not https: unless the portal is on this machine, a token must
    not travel without TLS.
    """
    address = url.strip().rstrip("/").removesuffix("/mcp").removesuffix("/api/v1").rstrip("/")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise ValueError(f"OOD_API_URL must be like https://portal.example.org, not {url!r}")
    if parts.scheme == "http" and not _is_this_machine(parts.hostname):
        raise ValueError(f"OOD_API_URL must be https: with {url!r} others could read the token on its way")
    return f"{address}/mcp"


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


async def bridge(mcp_url: str, token: str) -> None:
    """Connect the client on the standard streams to the portal until the client leaves."""
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "User-Agent": "punway-mcp",
    }
    limits = httpx2.Limits(max_connections=None, keepalive_expiry=30)
    timeout = httpx2.Timeout(RESPONSE_TIMEOUT_S, connect=10.0)
    # Following a redirect could send the token to another server.
    async with httpx2.AsyncClient(headers=headers, timeout=timeout, limits=limits, follow_redirects=False) as http:
        await Bridge(http, mcp_url).run()


def main() -> int:
    """Run the bridge and return its exit status: 2 if an environment variable is missing or wrong."""
    url, token = os.environ.get("OOD_API_URL", ""), os.environ.get("OOD_API_TOKEN", "").strip()
    if not url or not token:
        print(USAGE, file=sys.stderr)
        return 2
    if not token.isascii() or not token.isprintable():
        print("punway mcp: OOD_API_TOKEN is not a token; copy it again from the API Tokens page", file=sys.stderr)
        return 2
    try:
        mcp_url = mcp_url_of(url)
    except ValueError as error:
        print(f"punway mcp: {error}", file=sys.stderr)
        return 2
    try:
        anyio.run(bridge, mcp_url, token)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    # sys.exit would wait for the thread that may still be reading the standard input.
    os._exit(main())
