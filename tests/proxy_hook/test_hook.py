"""proxy_hook/hook.py: what it tells nginx. The spawner here is a small one over a real socket."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest

from proxy_hook import identify
from proxy_hook import token_routes as routes
from proxy_hook.accounts import UnixAccount
from tests.proxy_hook.front import SmallSpawner, World, spawner
from tokens.csrf import csrf_token
from tokens.token import issue

__all__ = ["spawner"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def as_token(secret: str) -> dict[str, Any]:
    return {"authorization": f"Bearer {secret}"}


def test_a_good_token_is_204_with_socket_and_note(world: World, spawner: SmallSpawner) -> None:
    answer = world.one("/auth/api", **as_token(world.secret))
    assert (answer.status, answer.headers["x-pun-socket"]) == (204, "/run/x/pun.sock")
    assert answer.headers["x-pun-user"] == "alice"
    said = world.verifier.verify(answer.headers["x-pun-assertion"], 1001)
    assert (said.uid, said.user, said.via, said.sha256) == (1001, "alice", "token", world.token.sha256)
    assert spawner.asked == [{"id": 1, "ask": "ensure", "uid": 1001, "name": "alice"}]


def test_a_hundred_at_once_are_one_question(world: World, spawner: SmallSpawner) -> None:
    answers = world.ask(times=100, **as_token(world.secret))
    assert {answer.status for answer in answers} == {204}
    assert len(spawner.asked) == 1


@pytest.mark.parametrize(
    ("told", "status", "said"),
    [({"refused": "root is not served"}, "403", "root is not served"),
     ({"unavailable": "the home directory does not answer", "retry_after": 7}, "503", "does not answer")],
)  # fmt: skip
def test_what_the_spawner_refuses(
    world: World, spawner: SmallSpawner, told: dict[str, Any], status: str, said: str
) -> None:
    """nginx hears 403, and in headers what the client is to hear, and who it was."""
    spawner.answer = told
    answer = world.one("/auth/api", **as_token(world.secret))
    assert (answer.status, answer.headers["x-punway-status"]) == (403, status)
    assert said in json.loads(answer.headers["x-punway-answer"])["message"]
    assert answer.headers.get("x-punway-retry-after") == ("7" if status == "503" else None)
    assert answer.headers["x-pun-user"] == "alice"
    assert "x-pun-assertion" not in answer.headers


def test_without_a_spawner_it_is_503(world: World) -> None:
    answer = world.one("/auth/api", **as_token(world.secret))
    assert (answer.status, answer.headers["x-punway-status"]) == (403, "503")
    assert world.one("/health").status == 503


def test_root_is_never_routed(world: World, spawner: SmallSpawner) -> None:
    """Whatever a row says."""
    token, secret = issue("x")
    world.routes.add(0, "root", [token.sha256])
    answer = world.one("/auth/api", **as_token(secret))
    assert (answer.status, answer.headers["x-punway-status"]) == (403, "403")
    assert spawner.asked == []


def test_unknown_and_revoked_are_one_answer(world: World, spawner: SmallSpawner) -> None:
    world.routes.drop(1001, [world.token.sha256])
    revoked = world.one("/auth/api", **as_token(world.secret))
    unknown = world.one("/auth/api", **as_token(issue("y")[1]))
    assert revoked == unknown
    assert revoked.status == 401
    assert 'error="invalid_token"' in revoked.headers["www-authenticate"]
    assert "resource_metadata" not in revoked.headers["www-authenticate"]
    assert spawner.asked == []


def test_a_failure_of_its_own_is_a_closed_door(
    world: World, spawner: SmallSpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_sha256: str) -> None:
        raise RuntimeError("the table is broken")

    monkeypatch.setattr(world.routes, "route_of", broken)
    answer = world.one("/auth/api", **as_token(world.secret))
    assert (answer.status, answer.headers["x-punway-status"]) == (403, "503")


def test_health_and_other_addresses(world: World, spawner: SmallSpawner) -> None:
    assert world.one("/health").status == 200
    assert world.one("/nothing").status == 404


def test_however_many_ask_for_health_the_spawner_is_asked_once(world: World, spawner: SmallSpawner) -> None:
    """It runs as root, and the address is open to anybody."""
    answers = [*world.ask("/health", times=100), *world.ask("/health", times=100)]
    assert {answer.status for answer in answers} == {200}
    assert [question["ask"] for question in spawner.asked] in (["ping"], ["ping"] * 2)


def test_a_session_opens_the_pages_and_never_the_api(world: World, spawner: SmallSpawner) -> None:
    cookie = f"punway={world.sessions.begin(UnixAccount(1001, 'alice'), 'link')}"
    answer = world.one("/auth/pages", cookie=cookie)
    assert answer.status == 204
    said = world.verifier.verify(answer.headers["x-pun-assertion"], 1001)
    assert (said.via, said.sha256, said.scopes) == ("session", None, ())
    assert said.sid and said.sid not in cookie
    assert world.one("/auth/api", cookie=cookie).status == 401


def test_a_token_never_opens_the_pages(world: World, spawner: SmallSpawner) -> None:
    assert world.one("/auth/pages", **as_token(world.secret)).status == 401


def test_two_sessions_have_two_notes_and_forms(world: World, spawner: SmallSpawner) -> None:
    """A note is used again for its own credential alone."""
    account = UnixAccount(1001, "alice")
    notes = [
        world.one("/auth/pages", cookie=f"punway={world.sessions.begin(account, 'link')}").headers["x-pun-assertion"]
        for _ in range(2)
    ]
    first, second = (world.verifier.verify(note, 1001).sid or "" for note in notes)
    assert csrf_token(first) != csrf_token(second)


def test_what_is_left_is_told_to_nginx(world: World, spawner: SmallSpawner) -> None:
    """Of the API's requests alone: what the MCP server is asked is counted when it asks."""
    limits = world.config.limits
    answer = world.one("/auth/api", **as_token(world.secret))
    assert answer.headers["x-punway-ratelimit"].startswith(f'"token-reads";r={limits.token_reads - 1};t=')
    answer = world.one("/auth/api", **as_token(world.secret), x_punway_writes="1")
    assert answer.headers["x-punway-ratelimit"].startswith(f'"token-writes";r={limits.token_writes - 1};t=')
    assert "x-punway-ratelimit" not in world.one("/auth/mcp", **as_token(world.secret)).headers


def test_a_guesser_is_told_to_wait_and_a_good_token_passes(world: World, spawner: SmallSpawner) -> None:
    """Also one that is not in memory; and whoever sends no credential has guessed none."""
    bad = as_token("0" * 64)
    answers = [world.one("/auth/api", **bad) for _ in range(world.config.limits.refused + 1)]
    assert [answer.headers["x-punway-status"] for answer in answers[-2:]] == ["401", "429"]
    assert answers[-1].status == 403 and int(answers[-1].headers["x-punway-retry-after"]) > 0
    assert world.one("/auth/api").headers["x-punway-status"] == "401"
    assert world.one("/auth/api", **bad, x_punway_peer="192.0.2.8").headers["x-punway-status"] == "401"
    world.ask(times=world.config.limits.refused * 10, **bad)
    assert world.one("/auth/api", **as_token(world.secret)).status == 204
    fresh, secret = issue("fresh")
    world.routes.add(1001, "alice", [fresh.sha256])
    assert world.one("/auth/api", **as_token(secret)).status == 204
    assert world.one("/auth/api", **bad).headers["x-punway-status"] == "429"


@pytest.mark.parametrize("step", [-86_400, 86_400])
def test_a_clock_that_is_set_locks_nobody_out(
    world: World, spawner: SmallSpawner, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The next request has a note that is good by the clock as it is then, whatever was signed before."""
    (before,) = world.ask(**as_token(world.secret))
    (again,) = world.ask(**as_token(world.secret))
    assert again.headers["x-pun-assertion"] == before.headers["x-pun-assertion"]
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + step)
    (after,) = world.ask(**as_token(world.secret))
    claims = jwt.decode(after.headers["x-pun-assertion"], options={"verify_signature": False})
    assert claims["iat"] <= time.time() < claims["exp"]


def test_a_lifetime_counts_from_when_the_hook_first_saw_the_token(
    tmp_path: Path, spawner: SmallSpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the file says, and also after the token was released and registered again."""
    world = World(tmp_path, {"tokens": {"max_lifetime": "1h"}})
    assert world.one("/auth/api", **as_token(world.secret)).status == 204
    monkeypatch.setattr(routes, "MIN_AGE_TO_RELEASE", timedelta(seconds=-5))
    world.routes.keep(1001, [])
    world.routes.add(1001, "alice", [world.token.sha256])
    now = time.time()
    monkeypatch.setattr(identify, "time", SimpleNamespace(time=lambda: now + 3700))
    answer = world.one("/auth/api", **as_token(world.secret))
    assert answer.headers["x-punway-status"] == "401"
    assert "older than the site allows" in answer.headers["x-punway-answer"]
    world.close()


def test_the_site_says_what_any_token_may_do(tmp_path: Path, spawner: SmallSpawner) -> None:
    """It is in the assertion; the PUN takes what both the site and the file allow."""
    world = World(tmp_path, {"tokens": {"allowed_scopes": ["jobs:write"]}})
    answer = world.one("/auth/api", **as_token(world.secret))
    assert world.verifier.verify(answer.headers["x-pun-assertion"], 1001).scopes == ("jobs:read", "jobs:write")
    world.close()


def test_a_browsers_session_never_opens_the_mcp_server(world: World, spawner: SmallSpawner) -> None:
    session = f"punway={world.sessions.begin(UnixAccount(1001, 'alice'), 'link')}"
    for path in ("/auth/api", "/auth/mcp"):
        assert world.one(path, cookie=session).headers["x-punway-status"] == "401"


def test_the_challenge_of_the_mcp_server_names_its_own_document(tmp_path: Path) -> None:
    tables = {"idp": {"issuer": "https://idp.example.org", "audience": "https://portal.example.org"}}
    world = World(tmp_path, tables)
    for path, resource in (("/auth/api", ""), ("/auth/mcp", "/mcp")):
        challenge = world.one(path).headers["www-authenticate"]
        assert challenge.endswith(f'/.well-known/oauth-protected-resource{resource}"')
    document = json.loads(world.one("/.well-known/oauth-protected-resource/mcp").body)
    assert document["resource"] == world.config.portal.public_url + "/mcp"
    world.close()
