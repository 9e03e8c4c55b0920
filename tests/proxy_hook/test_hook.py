"""proxy_hook/app.py, hook.py, identify.py, errors.py and web.py: what the hook answers to nginx.

The spawner is a fake one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from proxy_hook.accounts import UnixAccount
from tests.clock import Clock
from tests.proxy_hook.local_hook import FakeSpawner, LocalHook
from tokens.csrf import csrf_token
from tokens.token import issue


@pytest.fixture
def hook(tmp_path: Path) -> Iterator[LocalHook]:
    hook = LocalHook(tmp_path)
    yield hook
    hook.close()


def as_token(secret: str) -> dict[str, Any]:
    return {"authorization": f"Bearer {secret}"}


def test_a_valid_token_is_204_with_socket_and_assertion(hook: LocalHook, spawner: FakeSpawner) -> None:
    answer = hook.one("/auth/api", **as_token(hook.secret))
    assert (answer.status, answer.headers["x-pun-socket"]) == (204, "/run/x/pun.sock")
    assert answer.headers["x-pun-user"] == "alice"
    assertion = hook.verifier.verify(answer.headers["x-pun-assertion"], 1001)
    assert (assertion.uid, assertion.user, assertion.via, assertion.sha256) == (
        1001,
        "alice",
        "token",
        hook.token.sha256,
    )
    assert spawner.asked == [{"id": 1, "ask": "ensure", "uid": 1001, "name": "alice"}]


def test_simultaneous_requests_are_one_request_to_the_spawner(hook: LocalHook, spawner: FakeSpawner) -> None:
    answers = hook.ask(times=100, **as_token(hook.secret))
    assert {answer.status for answer in answers} == {204}
    assert len(spawner.asked) == 1


@pytest.mark.parametrize(
    ("answer_of_spawner", "status", "message"),
    [({"refused": "root is not served"}, "403", "root is not served"),
     ({"unavailable": "the home directory does not answer", "retry_after": 7}, "503", "does not answer")],
    ids=["refused", "unavailable"],
)  # fmt: skip
def test_what_the_spawner_refuses(
    hook: LocalHook, spawner: FakeSpawner, answer_of_spawner: dict[str, Any], status: str, message: str
) -> None:
    """nginx gets a 403. The real status, the message for the client, and the user are in headers."""
    spawner.answer = answer_of_spawner
    answer = hook.one("/auth/api", **as_token(hook.secret))
    assert (answer.status, answer.headers["x-punway-status"]) == (403, status)
    assert message in json.loads(answer.headers["x-punway-answer"])["message"]
    assert answer.headers.get("x-punway-retry-after") == ("7" if status == "503" else None)
    assert answer.headers["x-pun-user"] == "alice"
    assert "x-pun-assertion" not in answer.headers


def test_without_a_spawner_it_is_503(hook: LocalHook) -> None:
    answer = hook.one("/auth/api", **as_token(hook.secret))
    assert (answer.status, answer.headers["x-punway-status"]) == (403, "503")
    assert hook.one("/health").status == 503


def test_root_is_never_routed(hook: LocalHook, spawner: FakeSpawner) -> None:
    """root is refused even if the route table contains root's token."""
    token, secret = issue("x")
    hook.routes.add(0, "root", [token.sha256])
    answer = hook.one("/auth/api", **as_token(secret))
    assert (answer.status, answer.headers["x-punway-status"]) == (403, "403")
    assert spawner.asked == []


def test_unknown_and_revoked_tokens_get_the_same_answer(hook: LocalHook, spawner: FakeSpawner) -> None:
    hook.routes.revoke(1001, [hook.token.sha256])
    revoked = hook.one("/auth/api", **as_token(hook.secret))
    unknown = hook.one("/auth/api", **as_token(issue("y")[1]))
    assert revoked == unknown
    assert revoked.status == 401
    assert 'error="invalid_token"' in revoked.headers["www-authenticate"]
    assert "resource_metadata" not in revoked.headers["www-authenticate"]
    assert spawner.asked == []


def test_an_unexpected_error_lets_nobody_in(
    hook: LocalHook, spawner: FakeSpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_sha256: str) -> None:
        raise RuntimeError("the table is broken")

    monkeypatch.setattr(hook.routes, "route_of", broken)
    answer = hook.one("/auth/api", **as_token(hook.secret))
    assert (answer.status, answer.headers["x-punway-status"]) == (403, "503")


def test_health_and_other_addresses(hook: LocalHook, spawner: FakeSpawner) -> None:
    assert hook.one("/health").status == 200
    assert hook.one("/nothing").status == 404


def test_the_spawners_health_is_cached(hook: LocalHook, spawner: FakeSpawner) -> None:
    """The spawner runs as root, and anybody can request /health. However many do, the spawner gets one request."""
    answers = [*hook.ask("/health", times=100), *hook.ask("/health", times=100)]
    assert {answer.status for answer in answers} == {200}
    assert [question["ask"] for question in spawner.asked] in (["ping"], ["ping"] * 2)


def test_a_session_opens_the_pages_and_never_the_api(hook: LocalHook, spawner: FakeSpawner) -> None:
    cookie = f"punway={hook.sessions.begin(UnixAccount(1001, 'alice'), 'link')}"
    answer = hook.one("/auth/pages", cookie=cookie)
    assert answer.status == 204
    assertion = hook.verifier.verify(answer.headers["x-pun-assertion"], 1001)
    assert (assertion.via, assertion.sha256, assertion.scopes) == ("session", None, ())
    assert assertion.sid and assertion.sid not in cookie
    assert hook.one("/auth/api", cookie=cookie).status == 401


def test_a_token_never_opens_the_pages(hook: LocalHook, spawner: FakeSpawner) -> None:
    assert hook.one("/auth/pages", **as_token(hook.secret)).status == 401


def test_two_sessions_have_different_assertions_and_csrf_tokens(hook: LocalHook, spawner: FakeSpawner) -> None:
    """A cached assertion is used only for its own credential."""
    account = UnixAccount(1001, "alice")
    assertions = [
        hook.one("/auth/pages", cookie=f"punway={hook.sessions.begin(account, 'link')}").headers["x-pun-assertion"]
        for _ in range(2)
    ]
    first, second = (hook.verifier.verify(signed, 1001).sid or "" for signed in assertions)
    assert csrf_token(first) != csrf_token(second)


def test_nginx_gets_what_remains_of_the_limits(hook: LocalHook, spawner: FakeSpawner) -> None:
    """Only requests to the API count. Those to the MCP server count when it calls the API."""
    limits = hook.config.limits
    answer = hook.one("/auth/api", **as_token(hook.secret))
    assert answer.headers["x-punway-ratelimit"].startswith(f'"token-reads";r={limits.token_reads - 1};t=')
    answer = hook.one("/auth/api", **as_token(hook.secret), x_punway_writes="1")
    assert answer.headers["x-punway-ratelimit"].startswith(f'"token-writes";r={limits.token_writes - 1};t=')
    assert "x-punway-ratelimit" not in hook.one("/auth/mcp", **as_token(hook.secret)).headers


def test_guesses_are_limited_and_valid_tokens_pass(hook: LocalHook, spawner: FakeSpawner) -> None:
    """A valid token passes even if it is not cached. A request without a credential is not a guess."""
    bad = as_token("0" * 64)
    answers = [hook.one("/auth/api", **bad) for _ in range(hook.config.limits.refused + 1)]
    assert [answer.headers["x-punway-status"] for answer in answers[-2:]] == ["401", "429"]
    assert answers[-1].status == 403 and int(answers[-1].headers["x-punway-retry-after"]) > 0
    assert hook.one("/auth/api").headers["x-punway-status"] == "401"
    assert hook.one("/auth/api", **bad, x_punway_peer="192.0.2.8").headers["x-punway-status"] == "401"
    hook.ask(times=hook.config.limits.refused * 10, **bad)
    assert hook.one("/auth/api", **as_token(hook.secret)).status == 204
    fresh, secret = issue("fresh")
    hook.routes.add(1001, "alice", [fresh.sha256])
    assert hook.one("/auth/api", **as_token(secret)).status == 204
    assert hook.one("/auth/api", **bad).headers["x-punway-status"] == "429"


@pytest.mark.parametrize("step", [-86_400, 86_400], ids=["set back", "set forward"])
def test_a_clock_that_is_set_locks_nobody_out(tmp_path: Path, spawner: FakeSpawner, step: int) -> None:
    """After the clock was set, the next assertion is valid by the new time, whatever was cached before."""
    clock = Clock(time.time())
    hook = LocalHook(tmp_path, wall_clock=clock)
    (before,) = hook.ask(**as_token(hook.secret))
    (again,) = hook.ask(**as_token(hook.secret))
    assert again.headers["x-pun-assertion"] == before.headers["x-pun-assertion"]
    clock.now += step
    (after,) = hook.ask(**as_token(hook.secret))
    claims = jwt.decode(after.headers["x-pun-assertion"], options={"verify_signature": False})
    assert claims["iat"] <= clock() < claims["exp"]
    hook.close()


def test_a_lifetime_counts_from_when_the_hook_first_saw_the_token(tmp_path: Path, spawner: FakeSpawner) -> None:
    """It does whatever the file says, and also after the token was released and registered again."""
    clock = Clock(time.time())
    hook = LocalHook(tmp_path, {"tokens": {"max_lifetime": "1h"}}, wall_clock=clock)
    assert hook.one("/auth/api", **as_token(hook.secret)).status == 204
    clock.now += 120
    hook.routes.release_others(1001, [])
    hook.routes.add(1001, "alice", [hook.token.sha256])
    clock.now += 3600
    answer = hook.one("/auth/api", **as_token(hook.secret))
    assert answer.headers["x-punway-status"] == "401"
    assert "older than the site allows" in answer.headers["x-punway-answer"]
    hook.close()


def test_the_site_says_what_any_token_may_do(tmp_path: Path, spawner: FakeSpawner) -> None:
    """The assertion contains the site's scopes. The PUN allows what both the site and the file allow."""
    hook = LocalHook(tmp_path, {"tokens": {"allowed_scopes": ["jobs:write"]}})
    answer = hook.one("/auth/api", **as_token(hook.secret))
    assert hook.verifier.verify(answer.headers["x-pun-assertion"], 1001).scopes == ("jobs:read", "jobs:write")
    hook.close()


def test_a_browsers_session_never_opens_the_mcp_server(hook: LocalHook, spawner: FakeSpawner) -> None:
    session = f"punway={hook.sessions.begin(UnixAccount(1001, 'alice'), 'link')}"
    for path in ("/auth/api", "/auth/mcp"):
        assert hook.one(path, cookie=session).headers["x-punway-status"] == "401"


def test_the_challenge_of_the_mcp_server_names_its_own_document(tmp_path: Path) -> None:
    tables = {"idp": {"issuer": "https://idp.example.org", "audience": "https://portal.example.org"}}
    hook = LocalHook(tmp_path, tables)
    for path, resource in (("/auth/api", ""), ("/auth/mcp", "/mcp")):
        challenge = hook.one(path).headers["www-authenticate"]
        assert challenge.endswith(f'/.well-known/oauth-protected-resource{resource}"')
    document = json.loads(hook.one("/.well-known/oauth-protected-resource/mcp").body)
    assert document["resource"] == hook.config.portal.public_url + "/mcp"
    hook.close()
