"""Tests of pun_app/app.py with WebTest: matching, authorising, decoding, and errors in one form."""

from __future__ import annotations

import re
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from webtest.app import TestRequest

from pun_app.clusters.load import ClusterFolder
from pun_app.routes import PAGES, ROUTES
from tests.pun_app.pun import Pun
from tokens import scopes
from tokens.token import issue, to_text, utc_now

SCOPED = [route for route in ROUTES if route.scope]


@pytest.mark.parametrize("route", SCOPED, ids=lambda r: f"{r.method} {r.path}")
def test_every_route_needs_a_token_with_its_scope(pun: Pun, route: Any) -> None:
    """Without an assertion it is 401. With every scope but the needed one it is 403, which names the scope."""
    path = route.path.replace("<id>", "box") + "?cluster=box"
    answer = pun.app.request(path, method=route.method, status=401)
    assert answer.json["error"] == "unauthorized"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    other = tuple(s for s in scopes.ALL if not scopes.allows([s], route.scope))
    answer = pun(route.method, path, 403, scopes=other)
    assert answer.json["error"] == "insufficient_scope"
    assert route.scope in answer.json["message"]
    assert f'scope="{route.scope}"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: f"{r.method} {r.path}")
def test_a_session_never_opens_the_api(pun: Pun, route: Any) -> None:
    """A token that is not in the user's own file does not open it either, whatever else the assertion says."""
    token, _ = issue("x")
    pun.store.add(token)
    for via, digest in (
        ("session", None), ("session", token.sha256), ("else", token.sha256), ("token", None), ("token", "a" * 64)
    ):  # fmt: skip
        note = pun.signer.sign(1001, "alice", via, digest, scopes.ALL, "s1")
        pun.app.request(
            route.path.replace("<id>", "box"), method=route.method, headers={"X-Pun-Assertion": note}, status=401
        )


def test_who_am_i(pun: Pun) -> None:
    """Every credential, even one without scopes, can ask for its scopes and its expiry."""
    token, _ = issue("ci", ("jobs:write",), utc_now() + timedelta(days=1))
    pun.store.add(token)
    note = pun.signer.sign(1001, "alice", "token", token.sha256, scopes.ALL)
    said = pun.app.get("/api/v1/whoami", headers={"X-Pun-Assertion": note}).json["data"]
    assert said == {
        "user": "alice", "via": "token", "scopes": ["jobs:read", "jobs:write"], "token_id": token.id, "token_name": "ci",
        "expires_at": to_text(token.expires_at),
    }  # fmt: skip
    note = pun.signer.sign(1001, "alice", "jwt", None, ())
    said = pun.app.get("/api/v1/whoami", headers={"X-Pun-Assertion": note}).json["data"]
    assert (said["via"], said["scopes"], said["token_id"], said["expires_at"]) == ("jwt", [], None, None)
    pun.app.get("/api/v1/whoami", status=401)


@pytest.mark.parametrize("route", SCOPED, ids=lambda r: f"{r.method} {r.path}")
def test_a_jwt_has_the_scopes_of_its_note(pun: Pun, route: Any) -> None:
    path = route.path.replace("<id>", "box") + "?cluster=box"
    for held in ((), tuple(s for s in scopes.ALL if not scopes.allows([s], route.scope))):
        note = pun.signer.sign(1001, "alice", "jwt", None, held)
        answer = pun.app.request(path, method=route.method, headers={"X-Pun-Assertion": note}, status=403)
        assert route.scope in answer.json["message"]
    note = pun.signer.sign(1001, "alice", "jwt", None, (route.scope,))
    answer = pun.app.request(path, method=route.method, headers={"X-Pun-Assertion": note}, status="*")
    assert answer.status_int not in (401, 403)


@pytest.mark.parametrize("route", PAGES, ids=lambda r: f"{r.method} {r.path}")
def test_no_token_opens_a_page(pun: Pun, route: Any) -> None:
    """Neither our tokens nor JWTs open it, so nobody can make a token with a token."""
    token, _ = issue("x")
    pun.store.add(token)
    for via, digest, sid in (("token", token.sha256, "s1"), ("jwt", None, "s1"), ("session", None, None)):
        note = pun.signer.sign(1001, "alice", via, digest, scopes.ALL, sid)
        pun.app.request(route.path, method=route.method, headers={"X-Pun-Assertion": note}, status=401)
    pun.app.request(route.path, method=route.method, status=401)
    assert len(pun.store.tokens()) == 1


def test_the_front_is_told_which_token_it_was(pun: Pun) -> None:
    """The headers name the token in one line of bytes, whatever its name, and also for a rejected token."""
    name = "Ünï \u202e \U0001f680"
    token, _ = issue(name, ("clusters:read",))
    late, _ = issue("late", expires_at=utc_now())
    pun.store.add(token)
    pun.store.add(late)
    for path, status in (("/api/v1/clusters", 200), ("/api/v1/jobs?cluster=box", 403), ("/api/v1/nothing", 404)):
        note = pun.signer.sign(1001, "alice", "token", token.sha256, scopes.ALL)
        answer = pun.app.get(path, headers={"X-Pun-Assertion": note}, status=status)
        assert answer.headers["X-Punway-Token-Id"] == token.id
        assert answer.headers["X-Punway-Token-Name"].encode("latin-1").decode() == "Ünï   \U0001f680"
    note = pun.signer.sign(1001, "alice", "token", late.sha256, ())
    answer = pun.app.get("/api/v1/clusters", headers={"X-Pun-Assertion": note}, status=401)
    assert answer.headers["X-Punway-Token-Name"] == "late"


def test_another_uids_note_is_401(pun: Pun) -> None:
    token, _ = issue("x")
    pun.store.add(token)
    note = pun.signer.sign(1002, "bob", "token", token.sha256, ())
    pun.app.get("/api/v1/clusters", headers={"X-Pun-Assertion": note}, status=401)


@pytest.mark.parametrize(
    "path",
    ["/api/v1//clusters", "/api/v1/../v1/clusters", "/api/v1/./clusters", "/api/v1/%2e%2e/clusters", "/api/v1/jobs/1%2f2",
     "/api/v1/jobs/1%5C2", "/api/v1/jobs/1%00", "/api/v1/clusters;x", "/api/v1/clusters/.."],
)  # fmt: skip
def test_an_ambiguous_address_is_400(pun: Pun, path: str) -> None:
    """The raw address is checked, because nginx matches the resolved one."""
    request = TestRequest.blank("/?cluster=box", headers=pun.headers())
    request.environ.update({"REQUEST_URI": f"{path}?cluster=box", "PATH_INFO": unquote(path)})
    answer = pun.app.do_request(request, status=400, expect_errors=True)
    assert "ambiguous" in answer.json["message"]


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1", "/api/v1/clusters/", "/api/v1/nothing", "/api/v2/clusters"])
def test_an_unknown_address_is_404(pun: Pun, path: str) -> None:
    assert pun("GET", path, 404).json["error"] == "not_found"


def test_405_names_the_methods(pun: Pun) -> None:
    answer = pun("PUT", "/api/v1/clusters", 405)
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(("method", "path", "allowed"), [
    ("DELETE", "/api/v1/jobs/historic", "GET, HEAD"), ("DELETE", "/api/v1/jobs/status", "POST"),
    ("GET", "/api/v1/jobs/status", "POST"), ("DELETE", "/api/v1/jobs/statuses", None),
])  # fmt: skip
def test_a_fixed_address_is_not_a_job_id(pun: Pun, method: str, path: str, allowed: str | None) -> None:
    """This holds for every method: DELETE jobs/historic cancels nothing."""
    answer = pun(method, f"{path}?cluster=box", 405 if allowed else 404)
    assert answer.headers.get("Allow") == allowed


@pytest.mark.parametrize(("wall_time", "status"), [("60.0", 201), ("6e1", 201), ("60.5", 400), ("1e400", 400), ('"60"', 400),
                                                   ("1e300", 400), ("true", 400), ("0.0", 400),
                                                   ('60.0, "nodes": "8"', 400), ('60.0, "hold": "true"', 400)])  # fmt: skip
def test_a_whole_number_in_any_notation(pun: Pun, wall_time: str, status: int) -> None:
    """60.0 is an integer, as in JSON Schema."""
    body = f'{{"cluster": "box", "script": {{"content": "#!/bin/sh"}}, "options": {{"hold": true, "wall_time": {wall_time}}}}}'
    answer = pun("POST", "/api/v1/jobs", status, body=body.encode(), headers={"Content-Type": "application/json"})
    assert status == 201 or re.search(
        "options.(wall_time|nodes|hold): write (a whole number|true or false)", answer.json["message"]
    )


def test_answers_are_not_cached(pun: Pun) -> None:
    for path, status in (("/api/v1/clusters", 200), ("/nothing", 404)):
        answer = pun("GET", path, status)
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.content_type == "application/json"


@pytest.mark.parametrize(
    "adapter",
    [
        "kubernetes",
        "coder",
        "ccq",
        "fujitsu_tcs",
        "systemd",
        "linux_host",
        "psij",
        "drmaa",
        "no/such.thing",
        "slurm.adapter",
    ],
)
def test_an_adapter_that_is_not_there_is_501_everywhere(pun: Pun, tmp_path: Path, adapter: str) -> None:
    """Its cluster is listed, and every other response names the adapter. The name of one of our modules is not an adapter."""
    (tmp_path / "clusters.d" / "other.yml").write_text(f"v2:\n  job: {{adapter: {adapter}}}\n")
    assert "other" in [cluster["id"] for cluster in pun("GET", "/api/v1/clusters", 200).json["data"]]
    for path in ("jobs", "jobs/1", "jobs/historic", "queues", "accounts", "cluster_info"):
        assert adapter in pun("GET", f"/api/v1/{path}?cluster=other", 501).json["message"]
    body = b'{"cluster": "other", "script": {"content": "#!/bin/sh\\n"}}'
    answer = pun("POST", "/api/v1/jobs", 501, body=body, headers={"Content-Type": "application/json"})
    assert adapter in answer.json["message"]


def test_an_adapter_that_is_not_there_is_501(pun: Pun) -> None:
    assert "kubernetes" in pun("GET", "/api/v1/jobs?cluster=cloud", 501).json["message"]
    pun("GET", "/api/v1/jobs/1?cluster=cloud", 501)


def test_a_scheduler_that_is_not_there_is_503(pun: Pun) -> None:
    body = b'{"cluster": "slow", "script": {"content": "#!/bin/sh\\n"}}'
    for method, path, more in (
        ("GET", "/api/v1/jobs?cluster=slow", {}),
        ("DELETE", "/api/v1/jobs/1?cluster=slow", {}),
        ("POST", "/api/v1/jobs", {"body": body, "headers": {"Content-Type": "application/json"}}),
    ):
        answer = pun(method, path, 503, **more)
        assert answer.json["error"] == "service_unavailable"
        assert int(answer.headers["Retry-After"]) > 0


def test_a_body_beyond_the_limit_is_413(pun: Pun) -> None:
    answer = pun("POST", "/api/v1/jobs", 413, body=b"x" * 10_001, headers={"Content-Type": "application/json"})
    assert answer.json["error"] == "payload_too_large"


JSON = {"Content-Type": "application/json"}
MEGABYTE = 1024 * 1024


@pytest.fixture
def roomy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registrar: object) -> Pun:
    """Return a PUN whose site allows bodies of 20 MB."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return Pun(tmp_path, max_body=20 * MEGABYTE)


def test_a_body_is_as_large_as_its_route_says(roomy: Pun) -> None:
    """The limit is 1 MB, except for a submit."""
    submit = b'{"cluster": "box", "script": {"content": "#!/bin/sh\\n#%s"}, "options": {"hold": true}}' % (
        b"x" * 3 * MEGABYTE
    )
    assert roomy("POST", "/api/v1/jobs", 201, body=submit, headers=JSON)
    answer = roomy("POST", "/api/v1/jobs/status", 413, body=b" " * (MEGABYTE + 1), headers=JSON)
    assert (answer.json["error"], str(MEGABYTE) in answer.json["message"]) == ("payload_too_large", True)
    roomy("POST", "/api/v1/jobs/status", 400, body=b" " * MEGABYTE, headers=JSON)


ARRAYS = b"[" + b"[]," * 5_000_000 + b"[]]"


@pytest.mark.parametrize(
    "options",
    [
        b'"native": ' + ARRAYS,
        b'"native": ["a"' + b',"a"' * 4_000_000 + b"]",
        b'"wall_time": ' + ARRAYS,
        b'"wall_time": 60.0, "native": ["a"' + b',"a"' * 4_000_000 + b"]",
        b'"environment": {' + b",".join(b'"a%d":""' % n for n in range(1_000_000)) + b"}",
        b'"x": ' + ARRAYS,
    ],
    ids=["arrays", "texts", "number", "fraction", "environment", "unknown"],
)
def test_only_a_script_may_make_a_body_large(roomy: Pun, options: bytes) -> None:
    """Any other large body is a 413 before it is decoded into objects."""
    body = b'{"cluster": "box", "script": {"content": "#!/bin/sh"}, "options": {%s}}' % options
    tracemalloc.start()
    try:
        answer = roomy("POST", "/api/v1/jobs", 413, body=body, headers=JSON)
        assert tracemalloc.get_traced_memory()[1] < 2.5 * len(body)
    finally:
        tracemalloc.stop()
    assert "script" in answer.json["message"]


@pytest.mark.parametrize("content", [ARRAYS, b"{" + b'"a": [],' * 2_000_000 + b'"b": 1}'], ids=["array", "object"])
def test_a_script_is_text_whatever_its_size(roomy: Pun, content: bytes) -> None:
    """The body is rejected at the first value that is not text, and the rest is not decoded, not even in the second
    pass for 60.0."""
    for script in (content, b'{"content": %s}' % content):
        body = b'{"cluster": "box", "options": {"wall_time": 60.0}, "script": %s}' % script
        tracemalloc.start()
        try:
            roomy("POST", "/api/v1/jobs", 400, body=body, headers=JSON)
            assert tracemalloc.get_traced_memory()[1] < 2.5 * len(body)
        finally:
            tracemalloc.stop()


def test_a_large_script_may_have_a_fraction_beside_it(roomy: Pun) -> None:
    body = b'{"cluster": "box", "script": {"content": "#!/bin/sh\\n#%s"}, "options": {"hold": true, "wall_time": 60.0}}'
    job = roomy("POST", "/api/v1/jobs", 201, body=body % (b"x" * 2 * MEGABYTE), headers=JSON).json["data"]
    assert job["wallclock_limit"] == 60


@pytest.mark.parametrize(("body", "status"), [
    (b'{"%s": 1}' % (b"x" * 8000), 400),
    (b'{"cluster": "box", "script": {"content": "#!", "workdir": "%s"}}' % (b"x" * 4000), 422),
])  # fmt: skip
def test_an_error_repeats_little_of_what_was_sent(pun: Pun, body: bytes, status: int) -> None:
    answer = pun("POST", "/api/v1/jobs", status, body=body, headers=JSON)
    assert 20 < len(answer.json["message"]) < 1100


def test_a_failure_of_ours_is_500_and_says_nothing(pun: Pun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The response has the contract's form and nothing of the traceback."""

    def broken(_self: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(ClusterFolder, "listed", broken)
    answer = pun("GET", "/api/v1/clusters", 500)
    assert answer.json["error"] == "internal_error"
    assert "secret detail" not in answer.text


def test_a_job_from_submit_to_its_end(pun: Pun) -> None:
    """The local scheduler through the app: a submit is a 201, then the same job is found by id and in the list."""
    headers = {"Content-Type": "application/json"}
    body = b'{"cluster": "box", "script": {"content": "#!/bin/sh\\nexit 3\\n"}, "options": {"job_name": "j"}}'
    job = pun("POST", "/api/v1/jobs", 201, body=body, headers=headers).json["data"]
    assert (job["status"], job["job_name"], job["cluster"]) == ("queued", "j", "box")
    for _ in range(200):
        got = pun("GET", f"/api/v1/jobs/{job['job_id']}?cluster=box", 200, headers={"Cache-Control": "no-cache"})
        if got.json["data"]["status"] == "completed":
            break
    assert (got.json["data"]["outcome"], got.json["data"]["exit_code"]) == ("failed", 3)
    assert got.headers["Age"] == "0"
    assert pun("GET", "/api/v1/jobs?cluster=box", 200).json["data"][0]["job_id"] == job["job_id"]
