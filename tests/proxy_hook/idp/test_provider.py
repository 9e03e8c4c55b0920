"""proxy_hook/idp/provider.py, keys.py and resource_metadata.py: which bearer tokens of the provider are accepted.

The provider is a fake one over real HTTP. Its user maps to this machine's account ``daemon``.
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

from proxy_hook.idp.keys import (
    FIRST_FETCH_RETRY_S,
    KEYS_TTL_S,
    MAX_KEYS_AGE_S,
    MIN_FETCH_INTERVAL_S,
    usable_keys,
)
from tests.clock import Clock
from tests.proxy_hook.fake_provider import FORGERIES, FakeProvider, key_of, public_jwk
from tests.proxy_hook.local_hook import FakeSpawner, LocalHook

DAEMON = pwd.getpwnam("daemon")
METADATA = 'resource_metadata="http://127.0.0.1:8080/.well-known/oauth-protected-resource"'


@pytest.fixture
def hook(tmp_path: Path, provider: FakeProvider, spawner: FakeSpawner) -> Iterator[LocalHook]:
    hook = LocalHook(tmp_path, {"idp": {"issuer": provider.issuer, "audience": "https://portal/api"}})
    yield hook
    hook.close()


def status(hook: LocalHook, token: str) -> int:
    """Return the status that a client would see."""
    answer = hook.one("/auth/api", authorization=f"Bearer {token}")
    return 204 if answer.status == 204 else int(answer.headers["x-punway-status"])


def test_a_good_token_is_its_user_with_its_scopes(hook: LocalHook, provider: FakeProvider) -> None:
    """Only scopes that the portal knows count. Others in the claim have no effect."""
    token = provider.sign(provider.claims(scope="openid jobs:read everything clusters:read"))
    answer = hook.one("/auth/api", authorization=f"Bearer {token}")
    assertion = hook.verifier.verify(answer.headers["x-pun-assertion"], DAEMON.pw_uid)
    assert (assertion.user, assertion.via, assertion.sha256) == ("daemon", "jwt", None)
    assert assertion.scopes == ("clusters:read", "jobs:read")


@pytest.mark.parametrize("scope", [["jobs:read"], "jobs:read"], ids=["array", "text"])
def test_scopes_are_an_array_or_one_text(hook: LocalHook, provider: FakeProvider, scope: Any) -> None:
    token = provider.sign(provider.claims(scope=scope))
    answer = hook.one("/auth/api", authorization=f"Bearer {token}")
    assert hook.verifier.verify(answer.headers["x-pun-assertion"], DAEMON.pw_uid).scopes == ("jobs:read",)


def test_the_site_bounds_the_scopes(tmp_path: Path, provider: FakeProvider, spawner: FakeSpawner) -> None:
    """The same limit applies to Punway tokens."""
    idp = {"issuer": provider.issuer, "audience": "https://portal/api"}
    hook = LocalHook(tmp_path, {"idp": idp, "tokens": {"allowed_scopes": ["jobs:read"]}})
    token = provider.sign(provider.claims(scope="jobs:write files:read"))
    answer = hook.one("/auth/api", authorization=f"Bearer {token}")
    assert hook.verifier.verify(answer.headers["x-pun-assertion"], DAEMON.pw_uid).scopes == ("jobs:read",)
    hook.close()


@pytest.mark.parametrize("scope", [None, "", 7, {"jobs:read": True}, [["jobs:read"]]], ids=repr)
def test_no_scopes_are_none(hook: LocalHook, provider: FakeProvider, scope: Any) -> None:
    token = provider.sign(provider.claims(scope=scope))
    answer = hook.one("/auth/api", authorization=f"Bearer {token}")
    assert hook.verifier.verify(answer.headers["x-pun-assertion"], DAEMON.pw_uid).scopes == ()


@pytest.mark.parametrize("how", FORGERIES)
def test_a_forged_token_is_401(hook: LocalHook, provider: FakeProvider, how: str) -> None:
    """No address that it names is requested."""
    assert status(hook, provider.sign(provider.claims())) == 204
    assert status(hook, provider.forge(provider.claims(), how)) == 401
    assert set(provider.asked) <= {"/.well-known/openid-configuration", "/jwks"}


def test_a_refusal_says_where_tokens_come_from(hook: LocalHook, provider: FakeProvider) -> None:
    """RFC 9728, section 5.1. It also tells clients that sent no credential."""
    refused: list[dict[str, Any]] = [{}, {"authorization": f"Bearer {provider.forge(provider.claims(), 'none')}"}]
    for headers in refused:
        assert METADATA in hook.one("/auth/api", **headers).headers["www-authenticate"]
    document = json.loads(hook.one("/.well-known/oauth-protected-resource").body)
    assert document["resource"] == "http://127.0.0.1:8080"
    assert document["authorization_servers"] == [provider.issuer]
    assert "jobs:write" in document["scopes_supported"]
    below = json.loads(hook.one("/.well-known/oauth-protected-resource/api/v1").body)
    assert below["resource"] == "http://127.0.0.1:8080/api/v1"
    assert hook.one("/.well-known/oauth-protected-resource/else").status == 404


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
def test_a_token_that_is_not_for_the_api(hook: LocalHook, provider: FakeProvider, name: str) -> None:
    """It is signed with the provider's own key, and still refused with 401."""
    assert status(hook, provider.sign(provider.claims(**WRONG[name]))) == 401


@pytest.mark.parametrize(
    "header",
    [{"typ": "logout+jwt"}, {"typ": "dpop+jwt"}, {"crit": ["x"], "x": 1}, {"alg": "RS512"}, {"kid": "two"}],
    ids=["logout", "dpop", "crit", "algorithm", "kid"],
)
def test_a_header_that_says_something_else(hook: LocalHook, provider: FakeProvider, header: dict[str, Any]) -> None:
    assert status(hook, provider.sign(provider.claims(), **header)) == 401


@pytest.mark.parametrize(
    "token",
    ["eyJ.eyJ.x", "eyJhIjoxfQ.e30.", "eyJhbGciOiJSUzI1NiJ9.e30.AA", "eyJ" + "a" * 9000 + ".b.c"],
    ids=["invalid JSON", "no algorithm", "no issuer", "too long"],
)
def test_what_is_no_jwt(hook: LocalHook, token: str) -> None:
    assert status(hook, token) == 401


@pytest.mark.parametrize(
    "claim", [None, 7, ["daemon"], "", "nobody-of-that-name", "daemon ", "root", "DAEMON"], ids=repr
)
def test_an_identity_that_is_no_user_here(hook: LocalHook, provider: FakeProvider, claim: Any) -> None:
    assert status(hook, provider.sign(provider.claims(preferred_username=claim))) == 403


def test_it_ends_at_the_second(tmp_path: Path, provider: FakeProvider, spawner: FakeSpawner) -> None:
    """There is a tolerance for the beginning of a token, since clocks differ, but none for its end."""
    clock = Clock(int(time.time()))
    hook = LocalHook(tmp_path, {"idp": {"issuer": provider.issuer, "audience": "https://portal/api"}}, wall_clock=clock)
    token = provider.sign(provider.claims(exp=int(clock.now) + 100, nbf=int(clock.now) + 10))
    assert status(hook, token) == 204
    clock.now += 99.9
    assert status(hook, token) == 204
    clock.now += 0.1
    assert status(hook, token) == 401
    hook.close()


def test_the_keys_are_fetched_once_and_again_for_an_unknown_name(hook: LocalHook, provider: FakeProvider) -> None:
    """They are fetched at most once a minute, however many names clients invent. New keys are found this way."""
    for _ in range(5):
        assert status(hook, provider.sign(provider.claims())) == 204
    assert provider.asked.count("/jwks") == 1
    first, provider.key = provider.key, key_of("provider, later")
    provider.keys.append(public_jwk(provider.key, "two"))
    assert status(hook, provider.sign(provider.claims(), kid="two")) == 204
    for name in range(5):
        assert status(hook, provider.sign(provider.claims(), kid=f"made-up-{name}")) == 401
    assert provider.asked.count("/jwks") == 2
    hook.monotonic.now += MIN_FETCH_INTERVAL_S + 1
    assert status(hook, provider.sign(provider.claims(), kid="made-up")) == 401
    assert provider.asked.count("/jwks") == 3
    assert first is not provider.key


def test_a_hundred_at_once_fetch_the_keys_once(hook: LocalHook, provider: FakeProvider) -> None:
    token = provider.sign(provider.claims())
    answers = hook.ask(times=100, authorization=f"Bearer {token}")
    assert {answer.status for answer in answers} == {204}
    assert provider.asked.count("/jwks") == 1


def test_an_unreachable_provider_lets_nobody_in_and_stops_nobody(
    hook: LocalHook, provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """Without keys, its tokens get a 503, and Punway tokens work. With old keys, both work for a day."""
    provider.down = True
    token = provider.sign(provider.claims())
    with caplog.at_level(logging.WARNING):
        assert status(hook, token) == 503
    assert "failed to fetch" in caplog.text
    assert status(hook, hook.secret) == 204
    provider.down = False
    assert status(hook, token) == 503, "the provider is not asked again at once"
    start = hook.monotonic.now
    hook.monotonic.now = start + FIRST_FETCH_RETRY_S + 1
    assert status(hook, token) == 204
    provider.down = True
    hook.monotonic.now = start + KEYS_TTL_S + 100
    assert status(hook, token) == 204
    hook.monotonic.now = start + MAX_KEYS_AGE_S + 1000
    assert status(hook, token) == 503
    assert status(hook, hook.secret) == 204


def test_a_provider_of_another_name_gives_no_keys(hook: LocalHook, provider: FakeProvider) -> None:
    """OpenID Connect Discovery 1.0, section 4.3."""
    provider.discovery = {"issuer": "https://evil.example"}
    assert status(hook, provider.sign(provider.claims())) == 503


def test_keys_that_are_of_no_use() -> None:
    """Secret keys, encryption keys and malformed keys are ignored. A document without other keys is refused."""
    good = public_jwk(key_of("provider, later"), "good")
    bad = [{"kty": "oct", "k": "c2VjcmV0", "kid": "hmac"}, {**good, "kid": "encryption", "use": "enc"},
           {**good, "kid": "private", "d": "AQAB"}, {"kty": "RSA", "kid": "broken", "n": 5}, "no key", None]  # fmt: skip
    assert list(usable_keys({"keys": [*bad, good]})) == ["good"]
    for document in ({"keys": bad}, {"keys": "x"}, {}):
        with pytest.raises(ValueError, match="no key"):
            usable_keys(document)


def test_without_an_audience_no_jwt_is_taken(tmp_path: Path, provider: FakeProvider) -> None:
    hook = LocalHook(tmp_path, {"idp": {"issuer": provider.issuer}})
    try:
        assert status(hook, provider.sign(provider.claims())) == 401
        assert hook.one("/.well-known/oauth-protected-resource").status == 404
        assert provider.asked == []
    finally:
        hook.close()
