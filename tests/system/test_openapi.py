"""Tests of the OpenAPI document against a portal: Schemathesis, a generated client, and the API page."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from openapi_spec_validator import validate
from playwright.sync_api import Browser

from pun_app.openapi import document
from tests.system.portal import Client, Portal, User
from tests.system.slurm import SlurmCluster
from tests.system.test_pages import SCREENSHOTS

BIN = Path(sys.executable).parent
CONFIG = Path(__file__).with_name("openapi") / "schemathesis.toml"


def test_it_is_served_to_everybody(portal: Portal) -> None:
    """The document is served without a credential and to any origin, equals the code's, and is valid OpenAPI 3.1."""
    answer = requests.get(f"{portal.url}/api/v1/openapi.json", timeout=30)
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Access-Control-Allow-Origin"] == "*" and "ETag" in answer.headers
    assert answer.json() == document()
    validate(answer.json())
    again = requests.get(answer.url, headers={"If-None-Match": answer.headers["ETag"]}, timeout=30)
    assert again.status_code == 304
    for method in ("POST", "DELETE", "PUT"):
        for path in ("openapi.json", "docs"):
            rejected = requests.request(method, f"{portal.url}/api/v1/{path}", timeout=30)
            assert rejected.status_code == 405 and rejected.headers["Allow"] == "GET, HEAD"
            assert rejected.json()["error"] == "method_not_allowed"


@pytest.fixture
def bare(folder: Path, hook_user: str) -> Iterator[Portal]:
    """Start a portal without the clusters of the contract's examples, like a new one."""
    portal = Portal(folder / "o", hook_user, {"demo": "v2:\n  job: {adapter: local}\n"})
    try:
        yield portal.start()
    finally:
        portal.stop()


def schemathesis(portal: Portal, user: User, config: str, folder: Path, examples: int) -> None:
    """Run Schemathesis with this number of examples per operation. Fail if it finds anything."""
    (folder / "schemathesis.toml").write_text(config)
    done = subprocess.run(
        [BIN / "st", "--config-file", folder / "schemathesis.toml", "run", f"{portal.url}/api/v1/openapi.json", "-H",
         f"Authorization: Bearer {portal.token(user)}", "-n", str(examples), "--seed", "2", "--no-color", "--request-timeout", "100"],
        capture_output=True, text=True, check=False, cwd=folder, timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Tested: 16" in done.stdout


@pytest.mark.parametrize(
    "config",
    ['[parameters]\n"query.cursor" = ""\n', '[parameters]\n"query.cursor" = ""\n"query.cluster" = "demo"\n'],
    ids=["no cluster named", "cluster named"],
)
def test_schemathesis_finds_nothing(bare: Portal, alice: User, tmp_path: Path, config: str) -> None:
    """It finds nothing with a token alone, and nothing if it also knows the id of a cluster.

    The cursor stays empty: no schema describes which cursors a list has given.
    """
    schemathesis(bare, alice, config, tmp_path, 60)


def test_schemathesis_finds_nothing_on_slurm(portal: Portal, alice: User, slurm: SlurmCluster, tmp_path: Path) -> None:
    """It finds nothing on a real cluster, whose id is in the examples, except what the configuration excludes."""
    try:
        schemathesis(portal, alice, CONFIG.read_text(), tmp_path, 40)
    finally:
        slurm.run("scancel", f"--user={alice.name}", check=False)


def test_a_generated_client_submits_and_waits(portal: Portal, alice: User, tmp_path: Path) -> None:
    """openapi-python-client makes a client from the served file, whose models read the portal's responses."""
    done = subprocess.run(
        [BIN / "openapi-python-client", "generate", "--url", f"{portal.url}/api/v1/openapi.json", "--meta", "none",
         "--output-path", tmp_path / "portal_client"],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=600,
        env={"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0 and "WARNING" not in done.stdout + done.stderr, done.stdout + done.stderr
    program = tmp_path / "errand.py"
    program.write_text(
        "import json, os\n"
        "from portal_client import AuthenticatedClient\n"
        "from portal_client.api.jobs import get_job, job_output, submit_job\n"
        "from portal_client.models import Options, Script, SubmitBody, GetJobUntil, JobOutputStream\n"
        "client = AuthenticatedClient(os.environ['URL'], os.environ['TOKEN'], timeout=120)\n"
        "body = SubmitBody('owens', Script('#!/bin/sh\\necho generated; exit 5\\n'), Options(job_name='generated'))\n"
        "def data(answer):\n"
        "    assert hasattr(answer, 'data'), answer\n"
        "    return answer.data\n"
        "job = data(submit_job.sync(client=client, body=body))\n"
        "mine = dict(id=job.job_id, client=client, cluster='owens')\n"
        "while job.status != 'completed':\n"
        "    job = data(get_job.sync(**mine, wait=60, until=GetJobUntil.COMPLETED))\n"
        "output = data(job_output.sync(**mine, stream=JobOutputStream.STDOUT, tail=10))\n"
        "none = get_job.sync('999999', client=client, cluster='owens')\n"
        "print(json.dumps([job.status, job.exit_code, output.content, none.error]))\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "URL": portal.url, "TOKEN": portal.token(alice)}
    ran = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == ["completed", 5, "generated\n", "not_found"]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)])
def test_the_page_shows_it(portal: Portal, as_alice: Client, chromium: Browser, scheme: Any, width: int) -> None:
    """The page loads from this portal alone and without errors, and a call with a token gets its response."""
    page = chromium.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    page.set_default_timeout(120_000)
    seen = SimpleNamespace(hosts=set(), errors=[])
    page.on("request", lambda request: seen.hosts.add(request.url.split("/")[2] if "://" in request.url else ""))
    page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.goto(f"{portal.url}/api/v1/docs")
    page.get_by_role("button", name="Authorize").first.click()
    page.get_by_label("auth-bearer-value").fill(as_alice.token)
    page.get_by_role("button", name="Apply credentials").click()
    page.get_by_role("button", name="Close").click()
    page.screenshot(path=SCREENSHOTS / f"api-docs-{scheme}-{width}.png", full_page=True)
    row = page.locator("#operations-portal-who_am_i")
    row.get_by_role("button").first.click()
    row.get_by_role("button", name="Execute").click()
    row.locator(".live-responses-table .microlight, .live-responses-table code").first.wait_for()
    assert as_alice.data("GET", "/api/v1/whoami")["user"] in row.inner_text()
    page.screenshot(path=SCREENSHOTS / f"api-docs-tried-{scheme}-{width}.png")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert seen.hosts - {""} == {portal.url.removeprefix("http://")} and not seen.errors, seen
    page.close()
