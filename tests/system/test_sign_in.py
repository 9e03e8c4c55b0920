"""Sign-in, bearer tokens of the identity provider, and attacks on both, with real nginx and a certified provider."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.system.gate import FRONT_SECRET, HOME, Tab
from tests.system.identity import OpenIdProvider
from tests.system.portal import Client, Portal, User, command_of, processes_of, small_disk
from tests.system.slurm import wait_for
from tokens.token import is_secret


@pytest.fixture
def tab(gate: Portal, alice: User) -> Tab:
    return Tab(gate).sign_in(alice)


def test_a_session_cookie_that_is_not_good(gate: Portal, tab: Tab, bob: User) -> None:
    """Altered and ended sessions are refused. Another user's session shows nothing of this user."""
    good = tab.session_cookie
    for bad in (good[:-1], good[1:], good.swapcase(), f"{good}x", "x", "", good.split(".")[0]):
        tab.session_cookie = bad
        assert not tab.is_in(), bad
    tab.session_cookie = good
    assert tab.is_in()
    tab.fill_in(name="of alice")
    bobs = Tab(gate).sign_in(bob)
    assert "of alice" not in bobs.get(gate.url + HOME, timeout=30).text
    assert tab.fill_in(csrf_token=bobs.form()).status_code == 403
    out = tab.post(
        f"{gate.url}/logout", {"csrf_token": tab.form()}, headers={"Origin": gate.url}, allow_redirects=False
    )
    assert out.status_code == 303
    tab.session_cookie = good
    assert not tab.is_in()


def test_a_session_never_opens_the_api_and_a_token_never_a_page(gate: Portal, tab: Tab, alice: User) -> None:
    for path in ("/api/v1/clusters", "/api/v1/jobs?cluster=box"):
        assert tab.get(gate.url + path, timeout=30).status_code == 401
    client = gate.client(alice)
    for method, path in (("GET", HOME), ("POST", HOME), ("POST", f"{HOME}/revoke")):
        answer = client(method, path, allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
        assert "WWW-Authenticate" not in answer.headers


def test_what_a_page_may_do(gate: Portal, tab: Tab) -> None:
    """Its policy allows only the portal's own styles and scripts. It is never cached and never framed."""
    for path in (HOME, "/login", "/settings/else"):
        answer = tab.get(gate.url + path, timeout=30)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';")
        for part in (
            "style-src 'self'",
            "script-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ):
            assert part in policy
        assert "unsafe" not in policy
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert re.findall(r'(?:src|href)="(?!/|data:,)', answer.text) == []
        assert " style=" not in answer.text and "<style" not in answer.text
        assert re.findall(r"<[^>]* on\w+=", answer.text) == []


def test_a_form_that_is_too_large(gate: Portal, tab: Tab) -> None:
    """nginx refuses it in the form of the API's contract, not with its own page."""
    for path in (HOME, "/logout", "/login/once/x"):
        answer = tab.post(gate.url + path, {"name": "x" * 100_000}, headers={"Origin": gate.url}, timeout=30)
        assert (answer.status_code, answer.json()["error"]) == (413, "payload_too_large")


def test_forms_of_elsewhere(gate: Portal, tab: Tab, alice: User) -> None:
    """Forms without a valid CSRF token, or from another origin, get a 403. No token is created or revoked."""
    tab.fill_in(name="stays")
    before = alice.token_file.read_text()
    stale = Tab(gate).sign_in(alice).form()
    evil = {"Origin": "https://evil.example"}
    for fields in ({"csrf_token": "x"}, {"csrf_token": stale}, {"headers": evil}, {"headers": {"Origin": "null"}},
                   {"headers": {"Sec-Fetch-Site": "cross-site"}}):  # fmt: skip
        for path in ("", "/revoke"):
            answer = tab.fill_in(path, **fields)
            assert (answer.status_code, answer.headers["Content-Type"]) == (403, "text/html; charset=utf-8"), fields
    assert tab.post(f"{gate.url}/logout", {"csrf_token": tab.form()}, headers=evil).status_code == 403
    assert tab.is_in()
    assert alice.token_file.read_text() == before


def test_a_link_is_good_once_and_for_one(gate: Portal, alice: User) -> None:
    link = gate.link(alice)
    tabs = [Tab(gate) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda tab: tab.post(link, allow_redirects=False, timeout=30), tabs))
    assert sorted(answer.status_code for answer in answers) == [303] + [410] * 7
    assert [tab.is_in() for tab in tabs].count(True) == 1
    assert "punway login" in Tab(gate).get(link, timeout=30).text
    evil = Tab(gate).post(
        gate.link(alice), headers={"Origin": "https://evil.example"}, allow_redirects=False, timeout=30
    )
    assert (evil.status_code, "Set-Cookie" in evil.headers) == (403, False)


def test_only_the_user_of_the_shell_gets_a_link(gate: Portal, alice: User) -> None:
    """Root gets no link, and the code is in no log."""
    done = gate.punway("login", check=False)
    assert done.returncode == 1 and "ordinary user" in done.stderr
    link = gate.link(alice)
    Tab(gate).get(link, timeout=30)
    code = link.rpartition("/")[2]
    assert is_secret(code)
    assert code not in gate.log()


NAMES = [
    "root",
    "daemon",
    "../{0}",
    "%2e%2e/{0}",
    "{0}.",
    "{0}\n",
    "{0}/",
    " {0}",
    "{0}\0",
    "{0}@",
    "nobody-of-that-name",
    "",
]


@pytest.mark.parametrize("pattern", [*NAMES, "{1}"], ids=ascii)
def test_an_identity_that_is_no_user_of_the_portal(
    gate: Portal, provider: OpenIdProvider, alice: User, pattern: str
) -> None:
    """Names such as root's, or those with dots or another case, get a 403, although the user map accepts them."""
    name = pattern.format(alice.name, alice.name.upper())
    client = Client(gate.url, provider.sign(name), gate.verify)
    assert client.error("GET", "/api/v1/clusters")[:2] == (403, "forbidden")
    assert not [pid for pid in processes_of(0) if "punway pun" in command_of(pid)]


@pytest.mark.parametrize("name", ["root", "daemon", "nobody-of-that-name"])
def test_no_session_for_who_is_no_user(gate: Portal, provider: OpenIdProvider, name: str) -> None:
    """The user is signed in at the provider, and the page says why the portal refuses."""
    tab = Tab(gate)
    answer = provider.sign_in(tab, gate.url, name)
    assert answer.status_code == 403
    assert "text/html" in answer.headers["Content-Type"]
    assert "__Host-punway=" not in answer.headers.get("Set-Cookie", "")
    assert not tab.is_in()


def test_a_provider_token_as_a_bearer_token(gate: Portal, provider: OpenIdProvider, alice: User) -> None:
    """A real access token of alice has the scopes that she granted and the portal knows."""
    token = provider.access_token(alice.name, "clusters:read jobs:read")
    client = Client(gate.url, token, gate.verify)
    assert client.data("GET", "/api/v1/clusters")[0]["id"] == "box"
    script = {"cluster": "box", "script": {"content": "#!/bin/sh\ntrue"}}
    assert client.error("POST", "/api/v1/jobs", script)[:2] == (403, "insufficient_scope")
    more = Client(gate.url, provider.access_token(alice.name, "jobs:write"), gate.verify)
    job = more.data("POST", "/api/v1/jobs", script, 201)
    assert job["job_owner"] == alice.name
    assert more("GET", HOME, allow_redirects=False).status_code == 303
    assert token not in gate.log()


def test_forged_and_foreign_tokens(gate: Portal, provider: OpenIdProvider, alice: User) -> None:
    """They get a 401, which refers to the metadata that names the provider."""
    good = provider.sign(alice.name)
    head, claims, signature = good.split(".")
    bad = [f"{head}.{claims}.", f"{head}.{claims}.{signature[::-1]}", f"eyJhbGciOiJub25lIn0.{claims}.",
           provider.sign(alice.name, aud="https://other"), provider.sign(alice.name, iss="https://other"),
           provider.sign(alice.name, exp=1), provider.sign(alice.name, nonce="an ID token")]  # fmt: skip
    for token in bad:
        answer = Client(gate.url, token, gate.verify)("GET", "/api/v1/clusters")
        assert answer.status_code == 401
        where = re.search(r'resource_metadata="([^"]+)"', answer.headers["WWW-Authenticate"])
        assert where
    metadata = requests.get(where[1], verify=gate.verify, timeout=30)
    assert metadata.json()["authorization_servers"] == [provider.issuer]
    assert metadata.headers["Access-Control-Allow-Origin"] == "*"
    assert Client(gate.url, good, gate.verify)("GET", "/api/v1/clusters").status_code == 200


def test_a_revoked_tokens_401_points_there_too(gate: Portal, alice: User) -> None:
    client = gate.client(alice)
    assert client("GET", "/api/v1/clusters").status_code == 200
    # Wait until the PUN has recorded the use: a write without the lock may be overwritten.
    wait_for("the use to be recorded", lambda: json.loads(alice.token_file.read_text())[-1]["last_used_at"])
    alice.token_file.write_text("[]")
    answer = client("GET", "/api/v1/clusters")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].count("resource_metadata=") == 1


def test_without_a_provider_there_is_no_metadata(portal: Portal) -> None:
    assert requests.get(f"{portal.url}/.well-known/oauth-protected-resource", timeout=30).status_code == 404
    assert (
        "resource_metadata" not in requests.get(f"{portal.url}/api/v1/clusters", timeout=30).headers["WWW-Authenticate"]
    )


def test_a_provider_that_is_gone(gate: Portal, provider: OpenIdProvider, alice: User, tab: Tab) -> None:
    """Tokens and sessions continue to work, and so do JWTs as long as the keys are cached. No new sign-in is possible."""
    client, by_jwt = gate.client(alice), Client(gate.url, provider.sign(alice.name), gate.verify)
    assert by_jwt("GET", "/api/v1/clusters").status_code == 200
    provider.stop()
    try:
        assert client("GET", "/api/v1/clusters").status_code == 200
        assert by_jwt("GET", "/api/v1/clusters").status_code == 200
        assert tab.is_in()
        hook = gate.part("hook")
        os.kill(hook, 9)
        wait_for("the hook to be gone", lambda: not Path(f"/proc/{hook}").exists())
        wait_for("another", lambda: client("GET", "/api/v1/clusters").status_code == 200)
        assert by_jwt.error("GET", "/api/v1/clusters")[:2] == (503, "service_unavailable")
        answer = Tab(gate).get(f"{gate.url}/login/oidc", allow_redirects=False, timeout=30)
        assert answer.status_code == 503
        assert client("GET", "/api/v1/clusters").status_code == 200
        assert not tab.is_in(), "sessions end with the hook"
    finally:
        provider.start()


def shown(tab: Tab, answer: requests.Response) -> str:
    """Return the secret on the page that a form redirects to."""
    assert answer.status_code == 303, answer.text
    answer = tab.get(tab.portal.url + answer.headers["Location"], timeout=60)
    (secret,) = re.findall(r'<code id="token"[^>]*>([0-9a-f]{64})</code>', answer.text)
    return str(secret)


def ask_with_headers(portal: Portal, *headers: str, peer: str = "127.0.0.1") -> tuple[int, str]:
    """Request /login with curl, from an address of this machine. Return the status and the cookie."""
    argv = ["curl", "-s", "-k", "-o", "/dev/null", "-D", "-", "--interface", peer, f"{portal.url}/login"]
    for header in headers:
        argv += ["-H", header]
    head = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    cookie = re.search(r"(?i)^set-cookie: (\S+?);", head, re.MULTILINE)
    return int(head.split()[1]), cookie[1] if cookie else ""


def test_the_trusted_header(gate: Portal, alice: User) -> None:
    """It signs in only from the proxy's address, with its secret, once, and spelled with hyphens."""
    name, secret = f"X-Remote-User: {alice.name}", f"X-Punway-Front-Secret: {FRONT_SECRET}"
    status, cookie = ask_with_headers(gate, name, secret)
    assert (status, cookie.partition("=")[0]) == (303, "__Host-punway")
    with_header = requests.get(
        gate.url + HOME, headers={"Cookie": cookie, "X-Remote-User": alice.name, "X-Punway-Front-Secret": FRONT_SECRET},
        verify=gate.verify, timeout=30,
    )  # fmt: skip
    assert f"Signed in as <b>{alice.name}</b>" in with_header.text
    without = requests.get(gate.url + HOME, headers={"Cookie": cookie}, verify=gate.verify, timeout=30)
    assert "Sign in" in without.text and alice.name not in without.text
    assert ask_with_headers(gate, name, secret, peer="127.0.0.2") == (403, "")
    assert ask_with_headers(
        gate, name, secret, "X-Punway-Peer: 127.0.0.1", "X-Forwarded-For: 127.0.0.1", peer="127.0.0.2"
    ) == (
        403,
        "",
    )
    assert ask_with_headers(gate, name) == (403, "")
    assert ask_with_headers(gate, name, "X-Punway-Front-Secret: guessed") == (403, "")
    assert ask_with_headers(gate, name, name, secret) == (400, "")
    assert ask_with_headers(gate, name, "X-Remote-User: root", secret) == (400, "")
    assert ask_with_headers(gate, f"X_Remote_User: {alice.name}", secret) == (200, "")
    assert ask_with_headers(gate, "X-Remote-User: root", secret) == (403, "")
    assert ask_with_headers(gate, "X-Remote-User: daemon", secret) == (403, "")


def test_two_tabs_making_and_revoking_at_once(tab: Tab, alice: User) -> None:
    """Every token that was shown exists and works, and every revoked one is gone."""
    for number in range(6):
        tab.fill_in(name=f"old {number}")
    form = tab.form()
    ids = re.findall(r'name="id" value="(\w+)"', tab.get(tab.portal.url + HOME, timeout=30).text)
    assert len(ids) == 6

    def make(number: int) -> str:
        answer = tab.fill_in(name=f"new {number}", csrf_token=form)
        return shown(tab, answer)

    def revoke(token_id: str) -> int:
        return tab.fill_in("/revoke", id=token_id, csrf_token=form).status_code

    with ThreadPoolExecutor(4) as pool:
        made, gone = pool.map(make, range(6)), pool.map(revoke, ids)
        secrets = list(made)
        assert set(gone) == {303}
    assert len(set(secrets)) == 6
    for secret in secrets:
        assert Client(tab.portal.url, secret, tab.verify)("GET", "/api/v1/clusters").status_code == 200  # type: ignore[arg-type]
    listed = tab.get(tab.portal.url + HOME, timeout=30).text
    assert len(re.findall(r'name="id" value="(\w+)"', listed)) == 6


def test_a_full_disk(gate: Portal, new_user: Callable[..., User]) -> None:
    """Nothing is lost, no secret is shown for a token that was not stored, and the page says so."""
    user = new_user("pwfull")
    with small_disk(user) as fill:
        client = gate.client(user)
        tab = Tab(gate).sign_in(user)
        before = user.token_file.read_bytes()
        fill()
        answer = tab.fill_in(name="too much")
        assert answer.status_code == 503
        assert "no space or quota is left" in answer.text
        assert '<code id="token"' not in answer.text
        assert user.token_file.read_bytes() == before
        assert client("GET", "/api/v1/clusters").status_code == 200


def test_the_audit_log(gate: Portal, alice: User, tab: Tab) -> None:
    """It has a line for each sign-in, each token created, revoked or refused, and each write, with its user and origin."""
    secret = shown(tab, tab.fill_in(name="Ünï “audited”", preset="jobs"))
    token_id = re.findall(r'name="id" value="(\w+)"', tab.get(gate.url + HOME, timeout=30).text)[0]
    client = Client(gate.url, secret, gate.verify)
    made = client("POST", "/api/v1/jobs", {"cluster": "box", "script": {"content": "#!/bin/sh\ntrue"}})
    job = made.json()["data"]["job_id"]
    read = client("GET", f"/api/v1/jobs/{job}?cluster=box")
    wrong = client("POST", "/api/v1/jobs", {"cluster": "none", "script": {"content": "#!/bin/sh\ntrue"}})
    tab.fill_in("/revoke", id=token_id)
    refused = client("GET", "/api/v1/clusters")
    unknown = Client(gate.url, "0" * 64, gate.verify)("GET", "/api/v1/clusters")

    def line(request: requests.Response) -> dict[str, Any]:
        wait_for("its line", lambda: request.headers["X-Request-Id"] in gate.audit_file.read_text())
        lines = [line for line in gate.audit() if line["request_id"] == request.headers["X-Request-Id"]]
        assert len(lines) == 1
        return lines[0]

    keys = {"time", "action", "outcome", "user", "token_id", "token_name", "address", "request_id"}
    for request, outcome, of_token in ((made, "ok", True), (wrong, "refused", True), (refused, "refused", False), (unknown, "refused", False)):  # fmt: skip
        entry = line(request)
        assert keys <= set(entry)
        assert (entry["outcome"], entry["address"]) == (outcome, "127.0.0.1")
        if of_token:
            assert (entry["user"], entry["token_id"], entry["token_name"]) == (alice.name, token_id, "Ünï “audited”")
    assert line(made)["action"] == "POST /api/v1/jobs"
    assert not [entry for entry in gate.audit() if entry["request_id"] == read.headers["X-Request-Id"]]
    of_this = [
        entry for entry in gate.audit() if entry["token_id"] == token_id and entry["action"].startswith("token.")
    ]
    assert [(entry["action"], entry["outcome"], entry["user"]) for entry in of_this] == [
        ("token.made", "ok", alice.name), ("token.revoked", "ok", alice.name)
    ]  # fmt: skip
    assert all(entry["address"] == "127.0.0.1" and entry["request_id"] for entry in of_this)
    assert [entry for entry in gate.audit() if entry["action"] == "sign-in" and entry["user"] == alice.name]
    assert secret not in gate.log()
    assert tab.session_cookie not in gate.log()
