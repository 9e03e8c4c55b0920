"""proxy_hook/idp/provider.py and keys.py: whom the identity provider's bearer tokens prove, and whom they do not.

The provider is a small one over real HTTP; the account that its users lead to is this machine's ``daemon``.
"""

from __future__ import annotations

import json
import logging
import pwd
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy_hook.idp import keys as module
from proxy_hook.idp.keys import usable_keys
from tests.proxy_hook.front import SmallSpawner, World, spawner
from tests.proxy_hook.provider import FORGERIES, ScriptedProvider, key_of, provider, public_jwk

__all__ = ["provider", "spawner"]
DAEMON = pwd.getpwnam("daemon")
METADATA = 'resource_metadata="http://127.0.0.1:8080/.well-known/oauth-protected-resource"'


@pytest.fixture
def world(tmp_path: Path, provider: ScriptedProvider, spawner: SmallSpawner) -> Iterator[World]:
    world = World(tmp_path, {"idp": {"issuer": provider.issuer, "audience": "https://portal/api"}})
    yield world
    world.close()


def status(world: World, token: str) -> int:
    """What a client would see."""
    answer = world.one("/auth/api", authorization=f"Bearer {token}")
    return 204 if answer.status == 204 else int(answer.headers["x-punway-status"])


def test_a_good_token_is_its_user_with_its_scopes(world: World, provider: ScriptedProvider) -> None:
    """Those of its scopes that the portal has; what else it lists gives nothing."""
    token = provider.sign(provider.claims(scope="openid jobs:read everything clusters:read"))
    answer = world.one("/auth/api", authorization=f"Bearer {token}")
    said = world.verifier.verify(answer.headers["x-pun-assertion"], DAEMON.pw_uid)
    assert (said.user, said.via, said.sha256) == ("daemon", "jwt", None)
    assert said.scopes == ("clusters:read", "jobs:read")


@pytest.mark.parametrize("scope", [["jobs:read"], "jobs:read"], ids=["array", "text"])
def test_scopes_are_an_array_or_one_text(world: World, provider: ScriptedProvider, scope: Any) -> None:
    token = provider.sign(provider.claims(scope=scope))
    answer = world.one("/auth/api", authorization=f"Bearer {token}")
    assert world.verifier.verify(answer.headers["x-pun-assertion"], DAEMON.pw_uid).scopes == ("jobs:read",)


def test_the_site_bounds_the_scopes(tmp_path: Path, provider: ScriptedProvider, spawner: SmallSpawner) -> None:
    """As it does those of the portal's own tokens."""
    idp = {"issuer": provider.issuer, "audience": "https://portal/api"}
    world = World(tmp_path, {"idp": idp, "tokens": {"allowed_scopes": ["jobs:read"]}})
    token = provider.sign(provider.claims(scope="jobs:write files:read"))
    answer = world.one("/auth/api", authorization=f"Bearer {token}")
    assert world.verifier.verify(answer.headers["x-pun-assertion"], DAEMON.pw_uid).scopes == ("jobs:read",)
    world.close()


@pytest.mark.parametrize("scope", [None, "", 7, {"jobs:read": True}, [["jobs:read"]]])
def test_no_scopes_are_none(world: World, provider: ScriptedProvider, scope: Any) -> None:
    token = provider.sign(provider.claims(scope=scope))
    answer = world.one("/auth/api", authorization=f"Bearer {token}")
    assert world.verifier.verify(answer.headers["x-pun-assertion"], DAEMON.pw_uid).scopes == ()


@pytest.mark.parametrize("how", FORGERIES)
def test_a_forged_token_is_401(world: World, provider: ScriptedProvider, how: str) -> None:
    """And no address that it names is asked for anything."""
    assert status(world, provider.sign(provider.claims())) == 204
    assert status(world, provider.forge(provider.claims(), how)) == 401
    assert set(provider.asked) <= {"/.well-known/openid-configuration", "/jwks"}


def test_a_refusal_says_where_tokens_come_from(world: World, provider: ScriptedProvider) -> None:
    """RFC 9728, section 5.1: also to who sends nothing."""
    refused: list[dict[str, Any]] = [{}, {"authorization": f"Bearer {provider.forge(provider.claims(), 'none')}"}]
    for headers in refused:
        assert METADATA in world.one("/auth/api", **headers).headers["www-authenticate"]
    document = json.loads(world.one("/.well-known/oauth-protected-resource").body)
    assert document["resource"] == "http://127.0.0.1:8080"
    assert document["authorization_servers"] == [provider.issuer]
    assert "jobs:write" in document["scopes_supported"]
    below = json.loads(world.one("/.well-known/oauth-protected-resource/api/v1").body)
    assert below["resource"] == "http://127.0.0.1:8080/api/v1"
    assert world.one("/.well-known/oauth-protected-resource/else").status == 404


WRONG: dict[str, dict[str, Any]] = {
    "issuer": {"iss": "https://evil.example"},
    "no-issuer": {"iss": None},
    "audience": {"aud": "https://other/api"},
    "no-audience": {"aud": None},
    "audiences": {"aud": ["https://other/api"]},
    "no-expiry": {"exp": None},
    "expired": {"exp": int(time.time()) - 1},
    "expired-long-ago": {"exp": 1},
    "expiry-is-no-number": {"exp": "soon"},
    "expiry-is-infinite": {"exp": float("inf")},
    "not-yet": {"nbf": int(time.time()) + 3600},
    "issued-tomorrow": {"iat": int(time.time()) + 86_400},
    "id-token": {"nonce": "x"},
    "id-token-by-hash": {"at_hash": "x"},
    "keycloaks-id-token": {"typ": "ID"},
    "bound-to-a-key": {"cnf": {"jkt": "x"}},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_token_that_is_not_for_the_api(world: World, provider: ScriptedProvider, name: str) -> None:
    """Signed by the provider's own key, and 401 all the same."""
    assert status(world, provider.sign(provider.claims(**WRONG[name]))) == 401


@pytest.mark.parametrize(
    "header",
    [{"typ": "logout+jwt"}, {"typ": "dpop+jwt"}, {"crit": ["x"], "x": 1}, {"alg": "RS512"}, {"kid": "two"}],
    ids=["logout", "dpop", "crit", "algorithm", "kid"],
)
def test_a_header_that_says_something_else(world: World, provider: ScriptedProvider, header: dict[str, Any]) -> None:
    assert status(world, provider.sign(provider.claims(), **header)) == 401


@pytest.mark.parametrize(
    "token", ["eyJ.eyJ.x", "eyJhIjoxfQ.e30.", "eyJhbGciOiJSUzI1NiJ9.e30.AA", "eyJ" + "a" * 9000 + ".b.c"]
)
def test_what_is_no_jwt(world: World, token: str) -> None:
    assert status(world, token) == 401


@pytest.mark.parametrize("claim", [None, 7, ["daemon"], "", "nobody-of-that-name", "daemon ", "root", "DAEMON"])
def test_an_identity_that_is_no_user_here(world: World, provider: ScriptedProvider, claim: Any) -> None:
    assert status(world, provider.sign(provider.claims(preferred_username=claim))) == 403


def test_it_ends_at_the_second(world: World, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the clocks may differ for its beginning."""
    now = time.time()
    token = provider.sign(provider.claims(exp=int(now) + 100, nbf=int(now) + 10))
    assert status(world, token) == 204
    monkeypatch.setattr("proxy_hook.idp.provider.time.time", lambda: int(now) + 99.9)
    assert status(world, token) == 204
    monkeypatch.setattr("proxy_hook.idp.provider.time.time", lambda: int(now) + 100)
    assert status(world, token) == 401


def test_the_keys_are_fetched_once_and_again_for_an_unknown_name(
    world: World, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most once a minute, whatever names clients make up; a new key of the provider is found so."""
    for _ in range(5):
        assert status(world, provider.sign(provider.claims())) == 204
    assert provider.asked.count("/jwks") == 1
    first, provider.key = provider.key, key_of("provider, later")
    provider.keys.append(public_jwk(provider.key, "two"))
    assert status(world, provider.sign(provider.claims(), kid="two")) == 204
    for name in range(5):
        assert status(world, provider.sign(provider.claims(), kid=f"made-up-{name}")) == 401
    assert provider.asked.count("/jwks") == 2
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + module.MIN_FETCH_INTERVAL_S + 1)
    assert status(world, provider.sign(provider.claims(), kid="made-up")) == 401
    assert provider.asked.count("/jwks") == 3
    assert first is not provider.key


def test_a_hundred_at_once_fetch_the_keys_once(world: World, provider: ScriptedProvider) -> None:
    token = provider.sign(provider.claims())
    answers = world.ask(times=100, authorization=f"Bearer {token}")
    assert {answer.status for answer in answers} == {204}
    assert provider.asked.count("/jwks") == 1


def test_an_unreachable_provider_lets_nobody_in_and_stops_nobody(
    world: World, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its keys its tokens are 503, and a token of ours is good; with old keys both are, for a day."""
    provider.down = True
    token = provider.sign(provider.claims())
    with caplog.at_level(logging.WARNING):
        assert status(world, token) == 503
    assert "could not be fetched" in caplog.text
    assert status(world, world.secret) == 204
    provider.down = False
    assert status(world, token) == 503, "asked again at once"
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + module.FIRST_FETCH_RETRY_S + 1)
    assert status(world, token) == 204
    provider.down = True
    monkeypatch.setattr(module.time, "monotonic", lambda: now + module.KEYS_TTL_S + 100)
    assert status(world, token) == 204
    monkeypatch.setattr(module.time, "monotonic", lambda: now + module.MAX_KEYS_AGE_S + 1000)
    assert status(world, token) == 503
    assert status(world, world.secret) == 204


def test_a_provider_of_another_name_gives_no_keys(world: World, provider: ScriptedProvider) -> None:
    """OpenID Connect Discovery 1.0, section 4.3."""
    provider.discovery = {"issuer": "https://evil.example"}
    assert status(world, provider.sign(provider.claims())) == 503


def test_keys_that_are_of_no_use() -> None:
    """Secret ones, ones for encryption, broken ones; where nothing is left the document is refused."""
    good = public_jwk(key_of("provider, later"), "good")
    bad = [{"kty": "oct", "k": "c2VjcmV0", "kid": "hmac"}, {**good, "kid": "encryption", "use": "enc"},
           {**good, "kid": "private", "d": "AQAB"}, {"kty": "RSA", "kid": "broken", "n": 5}, "no key", None]  # fmt: skip
    assert list(usable_keys({"keys": [*bad, good]})) == ["good"]
    for document in ({"keys": bad}, {"keys": "x"}, {}):
        with pytest.raises(ValueError, match="no key"):
            usable_keys(document)


def test_without_an_audience_no_jwt_is_taken(tmp_path: Path, provider: ScriptedProvider) -> None:
    world = World(tmp_path, {"idp": {"issuer": provider.issuer}})
    try:
        assert status(world, provider.sign(provider.claims())) == 401
        assert world.one("/.well-known/oauth-protected-resource").status == 404
        assert provider.asked == []
    finally:
        world.close()
