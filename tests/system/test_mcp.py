"""Tests of the MCP server behind nginx, on a real Slurm: with the SDK's client, and with malformed messages."""

from __future__ import annotations

import json
import os
import pwd
import re
import select
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.system.agents import Agent, text_of, with_agent
from tests.system.gate import Tab
from tests.system.identity import OpenIdProvider
from tests.system.portal import Client, Portal, User, children_of, refusal
from tests.system.slurm import wait_for

READ_TOOLS = {
    "whoami", "get_site_notes", "list_clusters", "get_cluster", "get_cluster_info", "list_queues", "list_accounts",
    "list_jobs", "list_past_jobs", "get_job", "get_job_statuses", "wait_for_job", "read_job_output",
}  # fmt: skip
WRITE_TOOLS = {"validate_job", "submit_job", "cancel_job", "hold_job", "release_job"}
MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])


def post(portal: Portal, token: str, body: Any, **more: Any) -> requests.Response:
    """POST one message without any client."""
    headers = {
        "Authorization": f"Bearer {token}", "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream", **more.pop("headers", {}),
    }  # fmt: skip
    data = json.dumps(body) if isinstance(body, (dict, list)) else body
    return requests.post(f"{portal.url}/mcp", data=data, headers=headers, timeout=120, **more)


def call(name: Any, arguments: Any, **more: Any) -> dict[str, Any]:
    """Return the message of a tool call."""
    params = {"name": name, "arguments": arguments, **more}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


@MODES
def test_an_agents_whole_errand(portal: Portal, as_alice: Client, mode: str) -> None:
    """An agent finds a cluster, submits, waits, sees the job fail, reads stderr, corrects the script and succeeds."""

    async def steps(agent: Agent) -> None:
        clusters = (await agent.tool("list_clusters"))["clusters"]
        cluster = next(c["id"] for c in clusters if c["adapter"] == "slurm")
        script = "#!/bin/bash\necho working\nnothing-of-this-name\nexit 3\n"
        options = {"job_name": "errand", "error_path": "errand.err", "wall_time": 300}
        job = await agent.tool("submit_job", cluster=cluster, script=script, options=options)
        ended = await agent.tool("wait_for_job", cluster=cluster, job_id=int(job["job_id"]))
        assert ended["reached"] and ended["job"]["outcome"] == "failed" and ended["job"]["exit_code"] == 3
        output = await agent.tool("read_job_output", cluster=cluster, job_id=job["job_id"], stream="stderr")
        assert "nothing-of-this-name" in output["content"] and output["path"].endswith("errand.err")
        assert output["may_grow"] is False
        job = await agent.tool("submit_job", cluster=cluster, script="#!/bin/bash\necho done\n", options=options)
        ended = await agent.tool("wait_for_job", cluster=cluster, job_id=job["job_id"])
        assert ended["job"]["outcome"] == "succeeded"
        assert (await agent.tool("read_job_output", cluster=cluster, job_id=job["job_id"]))["content"] == "done\n"
        listed = (await agent.tool("list_jobs", cluster=cluster, limit=5))["jobs"]
        assert listed[0]["job_id"] == job["job_id"]

    with_agent(portal.url, as_alice.token, steps, mode)


@MODES
def test_the_tools_are_described(portal: Portal, as_alice: Client, mode: str) -> None:
    """Each tool has a description, schemas of its arguments and its result, and true hints."""

    async def steps(agent: Agent) -> None:
        tools = {tool.name: tool for tool in (await agent.client.list_tools()).tools}
        assert set(tools) == READ_TOOLS | WRITE_TOOLS
        for name, tool in tools.items():
            assert tool.title and tool.description and len(tool.description) > 30 and "  " not in tool.description
            assert tool.output_schema and tool.output_schema["properties"]
            for schema in tool.input_schema["properties"].values():
                assert schema.get("description"), (name, schema)
            hints = tool.annotations
            assert hints and hints.read_only_hint == (name in READ_TOOLS | {"validate_job"})
            assert hints.destructive_hint == (name in {"submit_job", "cancel_job"})
            assert hints.idempotent_hint == (name != "submit_job")
            assert hints.open_world_hint == (name == "submit_job")

    with_agent(portal.url, as_alice.token, steps, mode)


@pytest.mark.parametrize(
    ("scopes", "shown"),
    [
        ("clusters:read", READ_TOOLS - {t for t in READ_TOOLS if "job" in t}),
        ("jobs:read", {"whoami", "get_site_notes"} | {t for t in READ_TOOLS if "job" in t}),
        ("jobs:write,clusters:read", READ_TOOLS | WRITE_TOOLS),
        ("files:read", {"whoami", "get_site_notes"}),
    ],
)
@MODES
def test_a_caller_is_shown_what_the_token_allows(
    portal: Portal, alice: User, scopes: str, shown: set[str], mode: str
) -> None:
    """tools/list hides the tools that the token's scopes do not allow; a call of one is insufficient_scope."""

    async def steps(agent: Agent) -> None:
        assert {tool.name for tool in (await agent.client.list_tools()).tools} == shown
        if "cancel_job" not in shown:
            assert "insufficient_scope" in await agent.refused("cancel_job", cluster="owens", job_id=1)
        assert (await agent.tool("whoami"))["user"] == alice.name

    with_agent(portal.url, portal.token(alice, "--scopes", scopes), steps, mode)


def test_every_tool_answers(portal: Portal, as_alice: Client, as_bob: Client) -> None:
    """Each tool returns what the REST API returns, field for field."""
    bobs = as_bob.submit("#!/bin/bash\nsleep 60", native=["--hold"])["job_id"]

    async def steps(agent: Agent) -> None:
        on = {"cluster": "owens"}
        assert (await agent.tool("get_cluster", **on)) == as_alice.data("GET", "/api/v1/clusters/owens")
        for tool, path, key in (
            ("list_queues", "queues", "queues"),
            ("list_accounts", "accounts", "accounts"),
        ):
            assert (await agent.tool(tool, **on))[key] == as_alice.data("GET", f"/api/v1/{path}?cluster=owens")
        assert set(await agent.tool("get_cluster_info", **on)) >= {"total_nodes", "total_gpus"}
        held = await agent.tool("submit_job", **on, script="#!/bin/bash\nsleep 60", options={"hold": True})
        one = {**on, "job_id": held["job_id"]}
        assert (await agent.tool("get_job", **one)) == as_alice.job(held["job_id"])
        assert (await agent.tool("get_job", **one))["status"] == "queued_held"
        assert (await agent.tool("release_job", **one))["job_id"] == held["job_id"]
        assert (await agent.tool("wait_for_job", **one, until="running"))["reached"]
        waited = await agent.tool("wait_for_job", **one, until="completed", seconds=1)
        assert not waited["reached"] and waited["job"]["status"] == "running"
        assert not (await agent.tool("wait_for_job", **one, until="change", seconds=1))["reached"]
        assert (await agent.tool("cancel_job", **one))["status"] == "cancelled"
        assert (await agent.tool("wait_for_job", **one))["job"]["outcome"] == "cancelled"
        named = [{"cluster": "owens", "job_id": int(held["job_id"])}, {"cluster": "nope", "job_id": "1"},
                 {"cluster": "owens", "job_id": bobs}]  # fmt: skip
        statuses = (await agent.tool("get_job_statuses", jobs=named))["jobs"]
        assert [s["error"] for s in statuses] == [None, "not_found", "not_found"]
        past = (await agent.tool("list_past_jobs", **on, outcome="cancelled"))["jobs"]
        assert held["job_id"] in [job["job_id"] for job in past]
        for tool in ("get_job", "cancel_job", "hold_job", "release_job", "read_job_output", "wait_for_job"):
            message = await agent.refused(tool, **on, job_id=bobs)
            assert "Job not found" in message and "list_jobs" in message

    try:
        with_agent(portal.url, as_alice.token, steps)
    finally:
        as_bob.data("DELETE", f"/api/v1/jobs/{bobs}?cluster=owens")


def test_what_is_refused_says_what_to_do(portal: Portal, as_alice: Client) -> None:
    """An error has the scheduler's own message or the wrong argument, and where to look."""

    async def steps(agent: Agent) -> None:
        script = "#!/bin/bash\ntrue\n"
        message = await agent.refused("submit_job", cluster="owens", script=script, options={"queue_name": "nope"})
        assert "invalid partition" in message.lower() and "list_queues" in message
        message = await agent.refused("submit_job", cluster="owens", script=script, wall_time=60)
        assert "has no argument wall_time" in message and "Put wall_time into options" in message
        for arguments, word in (
            ({"cluster": "owens"}, "script"),
            ({"cluster": "owens", "script": script, "options": {"walltime": 60}}, "walltime"),
            ({"cluster": "owens", "script": script, "options": [1]}, "options"),
            ({"cluster": "owens", "script": script, "options": {"wall_time": 0}}, "wall_time"),
            ({"cluster": "owens", "script": "  "}, "script"),
            ({"cluster": "", "script": script}, "cluster"),
        ):
            message = await agent.refused("submit_job", **arguments)
            assert word in message and "pydantic" not in message and len(message) < 500
        assert "Cluster not found" in await agent.refused("list_jobs", cluster="nope")
        assert "not configured" not in await agent.refused("get_job", cluster="../x", job_id=1)
        assert "job_id" in await agent.refused("get_job", cluster="owens", job_id=True)
        for job_id in ("", "x" * 65, "1/../../clusters", "1;id", "\0"):
            await agent.refused("get_job", cluster="owens", job_id=job_id)
        for seconds in (-1, 301, 1.5, "soon"):
            assert "seconds" in await agent.refused("wait_for_job", cluster="owens", job_id=1, seconds=seconds)
        too_many = [{"cluster": "owens", "job_id": n} for n in range(1, 1002)]
        assert "1000" in await agent.refused("get_job_statuses", jobs=too_many)
        twice = await agent.tool("get_job_statuses", jobs=too_many[:1] * 2)
        assert len(twice["jobs"]) == 2 and twice["jobs"][0] == twice["jobs"][1]

    with_agent(portal.url, as_alice.token, steps)


def test_the_sites_notes(portal: Portal, as_alice: Client) -> None:
    """The notes are a resource, a tool's result and a REST response: sorted, bounded, each with its source.

    Anything but a readable file is left out.
    """
    folder = portal.folder / "agents.d"
    folder.mkdir()
    (folder / "20-gpu.md").write_text("GPUs are in the queue gpu. ä\n")
    (folder / "10-rules.md").write_text("No jobs on login nodes.\n")
    (folder / "30-long.md").write_text("é" * 200_000)
    (folder / "40-secret.md").write_text("not for users")
    (folder / "40-secret.md").chmod(0o600)
    (folder / ".hidden.md").write_text("hidden")
    (folder / "notes.txt").write_text("not a note")
    os.mkfifo(folder / "50-fifo.md")
    (folder / "60-dir.md").mkdir()

    async def steps(agent: Agent) -> None:
        (resource,) = (await agent.client.list_resources()).resources
        text = text_of((await agent.client.read_resource(str(resource.uri))).contents[0])
        assert text.index("No jobs on login nodes.") < text.index("GPUs are in the queue gpu. ä")
        assert f"<!-- from {folder}/10-rules.md -->" in text and "is left out" in text and len(text.encode()) < 140_000
        assert (await agent.tool("get_site_notes")) == as_alice.data("GET", "/api/v1/context")
        with pytest.raises(Exception, match="Unknown document other"):
            await agent.client.read_resource("punway://site/other")

    with_agent(portal.url, as_alice.token, steps)
    notes = as_alice.data("GET", "/api/v1/context")["notes"]
    assert [Path(note["source"]).name for note in notes] == ["10-rules.md", "20-gpu.md", "30-long.md"]
    assert [note["truncated"] for note in notes] == [False, False, True]
    assert set(notes[2]["content"]) == {"é"}


@MODES
def test_prompts(portal: Portal, as_alice: Client, mode: str) -> None:
    """The prompts contain their arguments and name only tools that exist."""

    async def steps(agent: Agent) -> None:
        prompts = (await agent.client.list_prompts()).prompts
        assert [prompt.name for prompt in prompts] == ["why_did_my_job_fail", "write_a_job_script"]
        tools = {tool.name for tool in (await agent.client.list_tools()).tools}
        for name, arguments in (("why_did_my_job_fail", {"job_id": "17"}), ("write_a_job_script", {"task": "sort"})):
            text = text_of((await agent.client.get_prompt(name, arguments)).messages[0].content)
            assert all(value in text for value in arguments.values())
            assert set(re.findall(r"\b[a-z]+_[a-z_]+\b", text)) - {"native_reason"} <= tools

    with_agent(portal.url, as_alice.token, steps, mode)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("", 400, -32700), ('{"jsonrpc":', 400, -32700), ("[" * 100_000, 400, -32700), ("[]", 400, None),
        ("7", 400, None), ("null", 400, None), ("\xff", 400, None), ([call("whoami", {})] * 2, 400, None),
        ({"jsonrpc": "2.0", "id": 1, "method": "nope"}, 200, -32601),
        ({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": [1]}, 400, None),
        ({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": "x"}, 400, None),
        ({"jsonrpc": "2.0", "id": 1, "method": "tools/call"}, 200, -32602),
        (call(7, {}), 200, -32602), (call("get_job", [1]), 200, -32602), (call("get_job", "x"), 200, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": {"name": "nope"}}, 200, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": {"name": "why_did_my_job_fail"}}, 200, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": {"name": "write_a_job_script", "arguments": {"task": 7}}},
         200, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "punway://site/nope"}}, 200, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "file:///etc/passwd"}}, 200, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": 7}}, 200, -32602),
        (call("nope", {}), 200, "Unknown tool"), (call("get_job", None), 200, "job_id"),
        (json.dumps(call("wait_for_job", {"cluster": "owens", "job_id": 1, "seconds": 0})).replace("0}", "1e400}"),
         200, "seconds"),
        (json.dumps(call("get_job", {"cluster": "owens", "job_id": 0})).replace("0}", "1e400}"), 200, "job_id"),
        (json.dumps(call("get_job", {"cluster": "owens", "job_id": 0})).replace("0}", "9" * 5000 + "}"), 400, -32700),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_no_client_sends(portal: Portal, as_alice: Client, body: Any, status: int, code: Any) -> None:
    """Each malformed message gets a clear error of JSON-RPC or of a tool, never a 500."""
    answer = post(portal, as_alice.token, body.encode("latin-1") if isinstance(body, str) else body)
    assert answer.status_code == status, answer.text
    reply = answer.json()
    if isinstance(code, str):
        assert reply["result"]["isError"] and code in reply["result"]["content"][0]["text"]
    else:
        assert code is None or reply["error"]["code"] == code


@pytest.mark.parametrize("size", [1024**2, 51 * 1024**2], ids=["1 MB", "51 MB"])
def test_a_message_that_is_too_large(portal: Portal, as_alice: Client, size: int) -> None:
    """It is a 413 in the form of the API's errors, with a Content-Length or without."""
    body = json.dumps(call("submit_job", {"cluster": "owens", "script": "x" * size})).encode()
    answer = post(portal, as_alice.token, body)
    assert refusal(answer)[:2] == (413, "payload_too_large")
    assert size > 1024**2 or "files on the cluster" in answer.json()["message"]
    for chunked in (iter([body]), iter([body[:1000], body[1000:]])):
        try:
            assert refusal(post(portal, as_alice.token, chunked))[:2] == (413, "payload_too_large")
        except requests.ConnectionError:
            continue  # The server responded and closed the connection before all was sent.


def test_a_script_of_almost_a_megabyte(portal: Portal, as_alice: Client) -> None:
    """It passes every limit: the error is that the cluster is unknown."""
    answer = post(
        portal, as_alice.token, call("validate_job", {"cluster": "nope", "script": "#!/bin/sh\n" + "x" * 1_000_000})
    )
    assert "Cluster not found" in answer.json()["result"]["content"][0]["text"]


def test_one_users_messages_leave_the_others_theirs(
    portal: Portal, alice: User, as_alice: Client, as_bob: Client
) -> None:
    """A read-only token sends hundreds of half messages. Bob is still served, most of the messages are rejected
    unread, and the server's memory stays bounded."""
    token = portal.token(alice, "--scopes", "jobs:read")
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: {portal.url.removeprefix('http://')}\r\nAuthorization: Bearer {token}\r\n"
        "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
        "Content-Length: 1000000\r\nConnection: close\r\n\r\n"
    ).encode()
    assert post(portal, as_bob.token, call("whoami", {})).status_code == 200
    pid = portal.part("mcp")
    connections = []
    try:
        for _ in range(300):
            connections.append(socket.create_connection(("127.0.0.1", portal.port), timeout=60))
            connections[-1].sendall(head + b"{" + b"[]," * 10_000)
        for _ in range(20):
            assert post(portal, as_bob.token, call("whoami", {})).status_code == 200
        wait_for("most to be refused", lambda: len(select.select(connections, [], [], 0)[0]) >= 280)
        refused = select.select(connections, [], [], 0)[0]
        assert {connection.recv(12) for connection in refused} <= {b"HTTP/1.1 429", b"HTTP/1.1 408"}
        peak = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        assert peak and int(peak[1]) < 400 * 1024
    finally:
        for connection in connections:
            connection.close()
    wait_for("alice to be served", lambda: post(portal, token, call("whoami", {})).status_code == 200)
    assert portal.part("mcp") == pid


def test_who_may_come_in(portal: Portal, alice: User, as_alice: Client) -> None:
    """Only a token opens the server, only under the portal's own name and origin, without sessions or streams."""
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    name = portal.url.removeprefix("http://")
    for headers, status in (
        ({}, 200), ({"Origin": portal.url}, 200), ({"Origin": "https://evil.example.org"}, 403), ({"Origin": "null"}, 403),
        ({"Host": "evil.example.org"}, 421), ({"Host": f"evil.{name}"}, 421),
        ({"Host": f"{name}.evil.example.org"}, 421), ({"X-Punway-Peer": "9.9.9.9"}, 200),
    ):  # fmt: skip
        assert post(portal, as_alice.token, listing, headers=headers).status_code == status, headers
    assert all(line["address"] != "9.9.9.9" for line in portal.audit())
    for token in ("0" * 64, "x", ""):
        answer = post(portal, token, listing)
        assert answer.status_code == 401 and answer.json()["error"] == "unauthorized"
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="punway"')
        assert "resource_metadata" not in answer.headers["WWW-Authenticate"]
    expired = portal.token(alice)
    entries = json.loads(alice.token_file.read_text())
    entries[-1]["expires_at"] = "2026-01-01T00:00:00Z"
    alice.token_file.write_text(json.dumps(entries))
    answer = post(portal, expired, listing)
    assert answer.status_code == 401 and "expired" in answer.json()["message"]
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    for method in ("GET", "DELETE", "PUT", "OPTIONS"):
        answer = requests.request(
            method, f"{portal.url}/mcp", headers={"Authorization": f"Bearer {as_alice.token}"}, timeout=30
        )
        assert answer.status_code == 405 and answer.headers["Allow"] == "POST"


def test_where_the_provider_makes_tokens(gate: Portal, provider: OpenIdProvider, alice: User) -> None:
    """A 401 points to the metadata document of this address. A JWT opens the tools of its scopes, a browser's session
    none."""

    def ask(**headers: str) -> requests.Response:
        listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        accept = {"Accept": "application/json, text/event-stream", **headers}
        return requests.post(f"{gate.url}/mcp", json=listing, headers=accept, verify=gate.verify, timeout=30)

    challenge = ask().headers["WWW-Authenticate"]
    (document,) = re.findall(r'resource_metadata="([^"]+)"', challenge)
    assert document == f"{gate.url}/.well-known/oauth-protected-resource/mcp"
    metadata = requests.get(document, verify=gate.verify, timeout=30).json()
    assert (metadata["resource"], metadata["authorization_servers"]) == (f"{gate.url}/mcp", [provider.issuer])
    token = provider.access_token(alice.name, "jobs:read")
    tools = {tool["name"] for tool in ask(Authorization=f"Bearer {token}").json()["result"]["tools"]}
    assert tools == {"whoami", "get_site_notes"} | {name for name in READ_TOOLS if "job" in name}
    tab = Tab(gate).sign_in(alice)
    cookie = "; ".join(f"{cookie.name}={cookie.value}" for cookie in tab.cookies)
    assert cookie and ask(Cookie=cookie).status_code == 401


def test_eight_idle_streams_and_a_slow_sender(portal: Portal, as_alice: Client) -> None:
    """Connections that request streams or send half of a message do not block the others."""
    head = (
        f"{{}} /mcp HTTP/1.1\r\nHost: {portal.url.removeprefix('http://')}\r\nAuthorization: Bearer {as_alice.token}\r\n"
        "Accept: text/event-stream\r\n"
    )
    idle = []
    for number in range(16):
        connection = socket.create_connection(("127.0.0.1", portal.port), timeout=30)
        half = head.format("GET") + "\r\n" if number % 2 else head.format("POST") + "Content-Length: 100\r\n\r\n{"
        connection.sendall(half.encode())
        idle.append(connection)
    try:
        answer = post(portal, as_alice.token, call("list_clusters", {}))
        assert not answer.json()["result"].get("isError", False)
        listen = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {}}
        assert post(portal, as_alice.token, listen).status_code in (200, 400, 404)
    finally:
        for connection in idle:
            connection.close()


@MODES
def test_a_client_that_hangs_up_in_a_wait(portal: Portal, alice: User, as_alice: Client, mode: str) -> None:
    """After a disconnect, nothing keeps waiting: neither the MCP server nor the user's process."""
    job = as_alice.submit("#!/bin/bash\nsleep 300")["job_id"]
    headers = {}
    message = call("wait_for_job", {"cluster": "owens", "job_id": job, "seconds": 250})
    if mode == "auto":
        headers = {"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "wait_for_job"}
        message["params"]["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    pun = portal.pid_of(alice)

    def connections() -> int:
        """Return the number of open files of the user's process."""
        return len(list(Path(f"/proc/{pun}/fd").iterdir()))

    def inner() -> int:
        """Return the number of open files of the MCP server, which include its connections to nginx."""
        return len(list(Path(f"/proc/{portal.part('mcp')}/fd").iterdir()))

    before, files = connections(), inner()
    hung_up = []
    for _ in range(5):
        with pytest.raises(requests.ReadTimeout):
            hung_up.append(requests.post(
                f"{portal.url}/mcp", json=message, timeout=2,
                headers={"Authorization": f"Bearer {as_alice.token}", "Accept": "application/json, text/event-stream", **headers},
            ))  # fmt: skip
    wait_for("the waits to be cancelled", lambda: connections() <= before + 1 and inner() <= files + 3)
    as_alice.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")


def test_the_process_holds_nothing(portal: Portal, mcp_user: str) -> None:
    """The MCP server runs as its own user, without capabilities or secrets in its environment.

    Its directory and socket are closed to other users.
    """
    pid = portal.part("mcp")
    status = Path(f"/proc/{pid}/status").read_text()
    entry = pwd.getpwnam(mcp_user)
    assert re.search(rf"^Uid:\t{entry.pw_uid}\t{entry.pw_uid}\t{entry.pw_uid}\t{entry.pw_uid}$", status, re.MULTILINE)
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    environment = Path(f"/proc/{pid}/environ").read_text()
    assert "ROOTS_SECRET" not in environment
    inner = portal.run_dir / "inner"
    assert (inner.stat().st_mode & 0o777, inner.stat().st_uid, inner.stat().st_gid) == (0o750, 0, entry.pw_gid)
    assert (portal.run_dir / "mcp.sock").stat().st_mode & 0o777 == 0o660


def test_no_user_reaches_the_inner_sockets(portal: Portal, alice: User) -> None:
    """A user who reached them could write any address into the audit log."""
    for path in (portal.run_dir / "inner" / "nginx.sock", portal.run_dir / "mcp.sock"):
        program = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
        done = alice.run("/usr/bin/python3", "-c", program, check=False)
        assert "PermissionError" in done.stderr


def test_what_an_agent_changes_is_in_the_audit_log(portal: Portal, as_alice: Client) -> None:
    """The line has the agent's address, and says that the request came through the MCP server."""

    async def steps(agent: Agent) -> str:
        return str((await agent.tool("submit_job", cluster="owens", script="#!/bin/bash\ntrue"))["job_id"])

    def lines() -> list[dict[str, Any]]:
        return [line for line in portal.audit() if line["action"] == "POST /api/v1/jobs"]

    before = len(lines())
    with_agent(portal.url, as_alice.token, steps)
    wait_for("the line", lambda: len(lines()) > before)
    line = lines()[-1]
    assert (line["outcome"], line["via"], line["address"], line["status"]) == ("ok", "mcp", "127.0.0.1", 201)
    assert line["user"] and line["token_id"]
    # The address is taken from a header only on the MCP server's own socket.
    body = {"cluster": "owens", "script": {"content": "#!/bin/bash\ntrue"}}
    assert as_alice("POST", "/api/v1/jobs", body, headers={"X-Punway-Peer": "9.9.9.9"}).status_code == 201
    wait_for("the other line", lambda: len(lines()) > before + 1)
    assert (lines()[-1]["via"], lines()[-1]["address"]) == ("http", "127.0.0.1")


def test_a_portal_whose_admin_has_not_made_the_user(folder: Path, hook_user: str, alice: User) -> None:
    """Without its user, as after an upgrade, the MCP server is missing, the rest works, and the log says why."""
    box = {"box": "v2:\n  job: {adapter: local}\n"}
    portal = Portal(folder / "u", hook_user, box, tables={"mcp": {"user": "no-such-user"}})
    try:
        client = portal.start().client(alice)
        assert client("GET", "/api/v1/clusters").status_code == 200
        assert client.error("POST", "/mcp", call("whoami", {}))[0] == 404
        assert "the user no-such-user (mcp.user) does not exist" in portal.log()
    finally:
        portal.stop()


def test_it_comes_again(portal: Portal, as_alice: Client) -> None:
    """The MCP server and nginx are restarted after they are killed."""
    os.kill(portal.part("mcp"), signal.SIGKILL)
    wait_for("the MCP server", lambda: post(portal, as_alice.token, call("list_clusters", {})).status_code == 200)
    nginx = portal.part("nginx")
    for pid in (nginx, *children_of(nginx)):
        os.kill(pid, signal.SIGKILL)
    wait_for("nginx", portal.is_well)
    wait_for("the inner socket", lambda: post(portal, as_alice.token, call("list_clusters", {})).status_code == 200)


def test_many_agents_wait_at_once(portal: Portal, alice: User, as_alice: Client) -> None:
    """Forty waiting calls do not block the MCP server, nginx or the PUN for other calls."""
    job = as_alice.submit("#!/bin/bash\nsleep 300")["job_id"]
    message = call("wait_for_job", {"cluster": "owens", "job_id": job, "until": "completed", "seconds": 60})
    answers: list[int] = []
    waiting = [
        threading.Thread(target=lambda: answers.append(post(portal, as_alice.token, message).status_code))
        for _ in range(40)
    ]
    for thread in waiting:
        thread.start()
    time.sleep(1)
    assert post(portal, as_alice.token, call("list_clusters", {})).status_code == 200
    as_alice.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")
    for thread in waiting:
        thread.join(150)
    assert answers == [200] * 40
