"""proxy_hook/browser/oidc.py: a sign-in with an identity provider, and the responses that sign nobody in.

The provider is a fake one over real HTTP, which can also send what an honest one never would. tests/system/test_pages.py
tests a complete sign-in with a certified provider.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from proxy_hook.browser.oidc import STATE_LIFETIME_S
from proxy_hook.idp.provider import DISCOVERY_RETRY_S
from tests.proxy_hook.fake_provider import FORGERIES, FakeProvider
from tests.proxy_hook.local_hook import Answer, FakeSpawner, LocalHook


@pytest.fixture
def hook(tmp_path: Path, provider: FakeProvider, spawner: FakeSpawner) -> Iterator[LocalHook]:
    hook = LocalHook(
        tmp_path,
        {"idp": {"issuer": provider.issuer, "user_map": "(.*)"}, "login": {"oidc": True, "client_id": "portal"}},
    )
    yield hook
    hook.close()


class SignIn:
    """The sign-in of one browser, up to the provider's response."""

    def __init__(self, hook: LocalHook, provider: FakeProvider) -> None:
        self.hook, self.provider = hook, provider
        begun = hook.one("/login/oidc")
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
        return self.hook.one(f"/login/oidc/callback?{urlencode(query)}", **{"cookie": self.cookie, **headers})


@pytest.fixture
def sign_in(hook: LocalHook, provider: FakeProvider) -> SignIn:
    return SignIn(hook, provider)


def refused(answer: Answer, *statuses: int) -> bool:
    """Return whether there is no session, and a page says so."""
    return answer.status in statuses and not answer.cookies and "text/html" in answer.headers["content-type"]


def test_a_good_answer_signs_in(sign_in: SignIn, hook: LocalHook, provider: FakeProvider) -> None:
    """It uses code, PKCE with S256, state and nonce. Afterwards the state's cookie is deleted."""
    assert sign_in.address.startswith(f"{provider.issuer}/auth?")
    assert sign_in.asked["response_type"] == "code"
    assert sign_in.asked["code_challenge_method"] == "S256"
    assert sign_in.asked["redirect_uri"] == "http://127.0.0.1:8080/login/oidc/callback"
    answer = sign_in.finish(provider.sign(sign_in.id_token()))
    assert (answer.status, answer.headers["location"]) == (303, "/settings/api_tokens")
    assert hook.one("/auth/pages", cookie=answer.cookie).status == 204
    assert any(c.startswith("punway-state=;") and "Max-Age=0" in c for c in answer.cookies)
    (posted,) = provider.posted
    challenge = base64.urlsafe_b64encode(hashlib.sha256(posted["code_verifier"].encode()).digest()).rstrip(b"=")
    assert sign_in.asked["code_challenge"] == challenge.decode()
    for secret in (sign_in.asked["nonce"], posted["code_verifier"]):
        assert secret not in sign_in.cookie


def test_two_sign_ins_share_nothing(hook: LocalHook, provider: FakeProvider) -> None:
    first, second = SignIn(hook, provider).asked, SignIn(hook, provider).asked
    for name in ("state", "nonce", "code_challenge"):
        assert first[name] != second[name]


def test_an_answer_to_another_browser(sign_in: SignIn, hook: LocalHook, provider: FakeProvider) -> None:
    """The state is missing, wrong, or another sign-in's; or the cookie is missing or altered."""
    good = provider.sign(sign_in.id_token())
    other = SignIn(hook, provider)
    state = sign_in.asked["state"]
    for query in ({"code": "c"}, {"code": "c", "state": ""}, {"code": "c", "state": "x"},
                  {"code": "c", "state": other.asked["state"]}):  # fmt: skip
        assert refused(sign_in.finish(good, query), 400), query
    assert refused(hook.one(f"/login/oidc/callback?code=c&state={state}&state={state}", cookie=sign_in.cookie), 400)
    for cookie in ("", other.cookie, sign_in.cookie[:-1], f"punway-state={state}"):
        assert refused(sign_in.finish(good, cookie=cookie), 400), cookie
    assert provider.posted == []


def test_an_answer_that_took_too_long(sign_in: SignIn, hook: LocalHook, provider: FakeProvider) -> None:
    """Only monotonic time counts, so setting the wall clock ends no sign-in."""
    good = provider.sign(sign_in.id_token())
    hook.monotonic.now += STATE_LIFETIME_S + 1
    assert refused(sign_in.finish(good), 400)
    late = SignIn(hook, provider)
    hook.monotonic.now += STATE_LIFETIME_S - 1
    assert late.finish(provider.sign(late.id_token())).status == 303


def test_an_answer_of_another_provider(sign_in: SignIn, provider: FakeProvider) -> None:
    """RFC 9207."""
    query = {"code": "c", "state": sign_in.asked["state"], "iss": "https://evil.example"}
    assert refused(sign_in.finish(provider.sign(sign_in.id_token()), query), 403)
    assert provider.posted == []


@pytest.mark.parametrize("how", FORGERIES)
def test_an_id_token_that_is_forged(sign_in: SignIn, provider: FakeProvider, how: str) -> None:
    assert refused(sign_in.finish(provider.forge(sign_in.id_token(), how)), 401)


@pytest.mark.parametrize(
    "claims",
    [{"nonce": "another"}, {"nonce": None}, {"iss": "https://evil.example"}, {"iss": None}, {"aud": "another"},
     {"aud": None}, {"aud": ["portal", "another"]}, {"aud": ["portal", "another"], "azp": "another"}, {"azp": "another"},
     {"exp": 1}, {"exp": None}, {"nbf": 99_999_999_999}, {"nonce": ["x"]}],
    ids=str,
)  # fmt: skip
def test_an_id_token_that_is_not_for_this_sign_in(
    sign_in: SignIn, provider: FakeProvider, claims: dict[str, Any]
) -> None:
    assert refused(sign_in.finish(provider.sign(sign_in.id_token(**claims))), 401)


@pytest.mark.parametrize(
    "name", ["root", "../daemon", "%2e", "DAEMON", "daemon.", "daemon\n", "", None, 7, ["daemon"], "nobody-such", "0"], ids=repr
)  # fmt: skip
def test_an_identity_that_is_no_user_here(sign_in: SignIn, provider: FakeProvider, name: Any) -> None:
    """It is refused although the user map accepts every name."""
    provider.userinfo = {"sub": "1"}
    assert refused(sign_in.finish(provider.sign(sign_in.id_token(preferred_username=name))), 403)


def test_the_claim_may_come_from_userinfo_of_the_same_user(
    hook: LocalHook, provider: FakeProvider, sign_in: SignIn
) -> None:
    provider.userinfo = {"sub": "2", "preferred_username": "daemon"}
    assert refused(sign_in.finish(provider.sign(sign_in.id_token(preferred_username=None))), 403)
    provider.userinfo = {"sub": "1", "preferred_username": "daemon"}
    again = SignIn(hook, provider)
    assert again.finish(provider.sign(again.id_token(preferred_username=None))).status == 303


@pytest.mark.parametrize(
    ("status", "response", "expected"),
    [(400, {"error": "invalid_grant"}, 403), (500, {}, 503), (200, {}, 401), (200, {"id_token": 7}, 401)],
    ids=["rejected", "server error", "no ID token", "ID token is a number"],
)
def test_a_provider_that_does_not_confirm(
    sign_in: SignIn, provider: FakeProvider, status: int, response: dict[str, Any], expected: int
) -> None:
    if status == 200:
        response = {"access_token": "at", "token_type": "Bearer", **response}
    provider.tokens = (status, response)
    assert refused(sign_in.finish(None), expected)


def test_a_user_who_declines_at_the_provider(sign_in: SignIn) -> None:
    """The provider's reason is shown as text, never as HTML."""
    query = {"error": "access_denied", "error_description": "<script>no</script>", "state": sign_in.asked["state"]}
    answer = sign_in.finish(None, query)
    assert refused(answer, 403)
    assert "&lt;script&gt;" in answer.body


def test_a_provider_that_is_down_or_leads_elsewhere(hook: LocalHook, provider: FakeProvider) -> None:
    """The response is a 503. Nobody is sent to an address that is not https."""
    provider.down = True
    for _ in range(20):
        assert refused(hook.one("/login/oidc"), 503)
    assert len(provider.asked) == 1, "a flood of sign-ins must not reach the provider"
    provider.down = False
    hook.monotonic.now += DISCOVERY_RETRY_S
    provider.discovery = {"authorization_endpoint": "http://evil.example/auth"}
    assert refused(hook.one("/login/oidc"), 503)
