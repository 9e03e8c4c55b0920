"""proxy_hook/browser/oidc.py: a sign-in with a provider, and the answers that sign nobody in.

The provider is a small one over real HTTP that says what no honest one would; the whole way with a certified
one is in tests/system/test_pages.py.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from itsdangerous import SignatureExpired

from proxy_hook.browser import oidc as module
from tests.proxy_hook.front import Answer, SmallSpawner, World, spawner
from tests.proxy_hook.provider import FORGERIES, ScriptedProvider, provider

__all__ = ["provider", "spawner"]


@pytest.fixture
def world(tmp_path: Path, provider: ScriptedProvider, spawner: SmallSpawner) -> Iterator[World]:
    world = World(
        tmp_path,
        {"idp": {"issuer": provider.issuer, "user_map": "(.*)"}, "login": {"oidc": True, "client_id": "portal"}},
    )
    yield world
    world.close()


class SignIn:
    """One browser's sign-in, up to the provider's answer."""

    def __init__(self, world: World, provider: ScriptedProvider) -> None:
        self.world, self.provider = world, provider
        begun = world.one("/login/oidc")
        assert begun.status == 303
        self.cookie = begun.cookie
        self.address = begun.headers["location"]
        self.asked = {key: values[0] for key, values in parse_qs(urlsplit(self.address).query).items()}

    def id_token(self, **more: Any) -> dict[str, Any]:
        return self.provider.claims(**{"aud": "portal", "nonce": self.asked["nonce"], "scope": None, **more})

    def finish(self, id_token: str | None, query: dict[str, str] | None = None, **headers: Any) -> Answer:
        if id_token is not None:
            answer = {"access_token": "at", "token_type": "Bearer", "id_token": id_token}
            self.provider.tokens = (200, answer)
        query = {"code": "c", "state": self.asked["state"], "iss": self.provider.issuer} if query is None else query
        return self.world.one(f"/login/oidc/callback?{urlencode(query)}", **{"cookie": self.cookie, **headers})


@pytest.fixture
def sign_in(world: World, provider: ScriptedProvider) -> SignIn:
    return SignIn(world, provider)


def refused(answer: Answer, *statuses: int) -> bool:
    """No session, and a page that says so."""
    return answer.status in statuses and not answer.cookies and "text/html" in answer.headers["content-type"]


def test_a_good_answer_signs_in(sign_in: SignIn, world: World, provider: ScriptedProvider) -> None:
    """Code, PKCE with S256, state and nonce; the state's cookie goes with it."""
    assert sign_in.address.startswith(f"{provider.issuer}/auth?")
    assert sign_in.asked["response_type"] == "code"
    assert sign_in.asked["code_challenge_method"] == "S256"
    assert sign_in.asked["redirect_uri"] == "http://127.0.0.1:8080/login/oidc/callback"
    answer = sign_in.finish(provider.sign(sign_in.id_token()))
    assert (answer.status, answer.headers["location"]) == (303, "/settings/api_tokens")
    assert world.one("/auth/pages", cookie=answer.cookie).status == 204
    assert any(c.startswith("punway-state=;") and "Max-Age=0" in c for c in answer.cookies)
    (posted,) = provider.posted
    challenge = base64.urlsafe_b64encode(hashlib.sha256(posted["code_verifier"].encode()).digest()).rstrip(b"=")
    assert sign_in.asked["code_challenge"] == challenge.decode()
    for secret in (sign_in.asked["nonce"], posted["code_verifier"]):
        assert secret not in sign_in.cookie


def test_two_sign_ins_share_nothing(world: World, provider: ScriptedProvider) -> None:
    first, second = SignIn(world, provider).asked, SignIn(world, provider).asked
    for name in ("state", "nonce", "code_challenge"):
        assert first[name] != second[name]


def test_an_answer_to_another_browser(sign_in: SignIn, world: World, provider: ScriptedProvider) -> None:
    """Wrong state, none, another sign-in's, without the cookie, with an altered one, with one that is over."""
    good = provider.sign(sign_in.id_token())
    other = SignIn(world, provider)
    state = sign_in.asked["state"]
    for query in ({"code": "c"}, {"code": "c", "state": ""}, {"code": "c", "state": "x"},
                  {"code": "c", "state": other.asked["state"]}):  # fmt: skip
        assert refused(sign_in.finish(good, query), 400), query
    assert refused(world.one(f"/login/oidc/callback?code=c&state={state}&state={state}", cookie=sign_in.cookie), 400)
    for cookie in ("", other.cookie, sign_in.cookie[:-1], f"punway-state={state}"):
        assert refused(sign_in.finish(good, cookie=cookie), 400), cookie
    assert provider.posted == []


def test_an_answer_that_took_too_long(
    sign_in: SignIn, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = provider.sign(sign_in.id_token())
    monkeypatch.setattr(module, "STATE_LIFETIME_S", -1)
    assert refused(sign_in.finish(good), 400)


@pytest.mark.parametrize("step", [-86_400, 86_400])
def test_a_clock_that_is_set_ends_no_sign_in(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The time that a user has for it is time that passes."""
    signer = module._Signer(b"key")
    state = signer.sign("state")
    wall, now = time.time(), time.monotonic()
    monkeypatch.setattr(time, "time", lambda: wall + step)
    assert signer.unsign(state, max_age=module.STATE_LIFETIME_S) == b"state"
    monkeypatch.setattr(time, "monotonic", lambda: now + module.STATE_LIFETIME_S + 2)
    with pytest.raises(SignatureExpired):
        signer.unsign(state, max_age=module.STATE_LIFETIME_S)


def test_an_answer_of_another_provider(sign_in: SignIn, provider: ScriptedProvider) -> None:
    """RFC 9207."""
    query = {"code": "c", "state": sign_in.asked["state"], "iss": "https://evil.example"}
    assert refused(sign_in.finish(provider.sign(sign_in.id_token()), query), 403)
    assert provider.posted == []


@pytest.mark.parametrize("how", FORGERIES)
def test_an_id_token_that_is_forged(sign_in: SignIn, provider: ScriptedProvider, how: str) -> None:
    assert refused(sign_in.finish(provider.forge(sign_in.id_token(), how)), 401)


@pytest.mark.parametrize(
    "claims",
    [{"nonce": "another"}, {"nonce": None}, {"iss": "https://evil.example"}, {"iss": None}, {"aud": "another"},
     {"aud": None}, {"aud": ["portal", "another"]}, {"aud": ["portal", "another"], "azp": "another"}, {"azp": "another"},
     {"exp": 1}, {"exp": None}, {"nbf": 99_999_999_999}, {"nonce": ["x"]}],
    ids=str,
)  # fmt: skip
def test_an_id_token_that_is_not_an_answer_to_us(
    sign_in: SignIn, provider: ScriptedProvider, claims: dict[str, Any]
) -> None:
    assert refused(sign_in.finish(provider.sign(sign_in.id_token(**claims))), 401)


@pytest.mark.parametrize(
    "name", ["root", "../daemon", "%2e", "DAEMON", "daemon.", "daemon\n", "", None, 7, ["daemon"], "nobody-such", "0"], ids=repr
)  # fmt: skip
def test_an_identity_that_is_no_user_here(sign_in: SignIn, provider: ScriptedProvider, name: Any) -> None:
    """With a user map that lets anything through."""
    provider.userinfo = {"sub": "1"}
    assert refused(sign_in.finish(provider.sign(sign_in.id_token(preferred_username=name))), 403)


def test_the_claim_may_come_from_userinfo_of_the_same_user(
    world: World, provider: ScriptedProvider, sign_in: SignIn
) -> None:
    provider.userinfo = {"sub": "2", "preferred_username": "daemon"}
    assert refused(sign_in.finish(provider.sign(sign_in.id_token(preferred_username=None))), 403)
    provider.userinfo = {"sub": "1", "preferred_username": "daemon"}
    again = SignIn(world, provider)
    assert again.finish(provider.sign(again.id_token(preferred_username=None))).status == 303


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [(400, {"error": "invalid_grant"}, 403), (500, {}, 503), (200, {}, 401), (200, {"id_token": 7}, 401)],
    ids=["refused", "broken", "nothing", "no-token"],
)
def test_a_provider_that_does_not_confirm(
    sign_in: SignIn, provider: ScriptedProvider, status: int, said: dict[str, Any], expected: int
) -> None:
    if status == 200:
        said = {"access_token": "at", "token_type": "Bearer", **said}
    provider.tokens = (status, said)
    assert refused(sign_in.finish(None), expected)


def test_a_user_who_says_no_at_the_provider(sign_in: SignIn) -> None:
    """What the provider says is shown as text."""
    query = {"error": "access_denied", "error_description": "<script>no</script>", "state": sign_in.asked["state"]}
    answer = sign_in.finish(None, query)
    assert refused(answer, 403)
    assert "&lt;script&gt;" in answer.body


def test_a_provider_that_is_down_or_leads_elsewhere(world: World, provider: ScriptedProvider) -> None:
    """503, and nobody is sent to an address that is not https."""
    provider.down = True
    for _ in range(20):
        assert refused(world.one("/login/oidc"), 503)
    assert len(provider.asked) == 1, "a flood of sign-ins is none at the provider"
    provider.down = False
    world.provider._not_before = 0.0
    provider.discovery = {"authorization_endpoint": "http://evil.example/auth"}
    assert refused(world.one("/login/oidc"), 503)
