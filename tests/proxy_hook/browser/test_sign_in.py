"""proxy_hook/browser/sign_in.py, saved_form.py and pages.py: who gets a session, and how it ends.

The hook runs in the test's process, without nginx.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from werkzeug.http import parse_cookie

from proxy_hook.accounts import UnixAccount
from proxy_hook.browser.sign_in import EXPIRY_NOTICE_S
from tests.proxy_hook.local_hook import Answer, FakeSpawner, LocalHook
from tokens.csrf import csrf_token

ALICE = UnixAccount(1001, "alice")
HOME = "/settings/api_tokens"
HEADER = {"header": "X-Remote-User", "header_peers": ["192.0.2.0/24"], "header_secret_file": "/secret"}
SECRET = "of the front"
FRONT = {"x_punway_direct_peer": "192.0.2.7", "x_punway_front_secret": SECRET}
"""The headers of a request from the front-end proxy."""


@pytest.fixture
def hook(tmp_path: Path, spawner: FakeSpawner) -> Iterator[LocalHook]:
    hook = LocalHook(tmp_path, {"login": HEADER}, SECRET)
    yield hook
    hook.close()


def is_in(hook: LocalHook, cookie: str, **headers: Any) -> bool:
    return hook.one("/auth/pages", cookie=cookie, **headers).status == 204


def audited(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.message) for record in caplog.records if record.name == "punway.audit"]


def by_link(hook: LocalHook, **headers: Any) -> Answer:
    return hook.one(f"/login/once/{hook.links.make(ALICE)}", method="POST", form={}, **headers)


def test_a_link_only_asks_and_its_button_signs_in(hook: LocalHook, caplog: pytest.LogCaptureFixture) -> None:
    """A program that previews links therefore uses none up."""
    code = hook.links.make(ALICE)
    for method in ("GET", "HEAD", "GET"):
        page = hook.one(f"/login/once/{code}", method=method)
        assert (page.status, page.cookies) == (200, [])
        assert "Sign in as alice" in page.body
    with caplog.at_level(logging.INFO, "punway.audit"):
        answer = hook.one(f"/login/once/{code}", method="POST", form={}, x_request_id="r1")
    assert (answer.status, answer.headers["location"]) == (303, HOME)
    assert is_in(hook, answer.cookie)
    (line,) = audited(caplog)
    assert (line["action"], line["outcome"], line["user"], line["via"]) == ("sign-in", "ok", "alice", "link")
    assert (line["address"], line["request_id"]) == ("192.0.2.7", "r1")
    assert code not in caplog.text
    assert answer.cookie.partition("=")[2] not in caplog.text


def test_a_used_or_unknown_link_is_gone(hook: LocalHook, caplog: pytest.LogCaptureFixture) -> None:
    code = hook.links.make(ALICE)
    assert hook.one(f"/login/once/{code}", method="POST", form={}).status == 303
    with caplog.at_level(logging.INFO, "punway.audit"):
        for path in (code, "0" * 64, "", "../x", "é"):
            for method, form in (("GET", None), ("POST", {})):
                answer = hook.one(f"/login/once/{path}", method=method, form=form)
                assert (answer.status, answer.cookies) == (410, [])
    assert {line["outcome"] for line in audited(caplog)} == {"refused"}


def test_of_two_browsers_at_once_one_is_signed_in(hook: LocalHook) -> None:
    code = hook.links.make(ALICE)
    answers = hook.ask(f"/login/once/{code}", times=10, method="POST", form={})
    assert sorted(answer.status for answer in answers) == [303] + [410] * 9


def test_the_cookie(hook: LocalHook, tmp_path: Path, spawner: FakeSpawner) -> None:
    """It is HttpOnly and SameSite=Lax. With TLS, it is also Secure, and its prefix binds it to this host."""
    (cookie,) = by_link(hook).cookies
    assert {"HttpOnly", "SameSite=Lax", "Path=/", f"Max-Age={28_800 + EXPIRY_NOTICE_S}"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "spawner.sock").symlink_to(tmp_path / "spawner.sock")
    tls = LocalHook(tmp_path / "tls", {"portal": {"public_url": "https://portal.example.org"}})
    try:
        (cookie,) = by_link(tls).cookies
        assert cookie.startswith("__Host-punway=")
        assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
        assert not is_in(tls, cookie.replace("__Host-punway", "punway").partition(";")[0])
    finally:
        tls.close()


def test_two_cookies_of_the_name_are_none(hook: LocalHook) -> None:
    """Somebody else set one of them, and it is impossible to tell which."""
    mine, theirs = by_link(hook).cookie, by_link(hook).cookie
    assert is_in(hook, mine)
    assert not is_in(hook, f"{theirs}; {mine}")
    assert not is_in(hook, mine, more=(("cookie", theirs),))


def test_signing_in_again_ends_the_previous_session(hook: LocalHook) -> None:
    first = by_link(hook).cookie
    second = by_link(hook, cookie=first).cookie
    assert first != second
    assert is_in(hook, second)
    assert not is_in(hook, first)


def test_whom_the_rules_refuse_has_no_session(
    hook: LocalHook, spawner: FakeSpawner, caplog: pytest.LogCaptureFixture
) -> None:
    spawner.answer = {"refused": "uid 1001 is under 2000"}
    with caplog.at_level(logging.INFO, "punway.audit"):
        answer = by_link(hook)
    assert (answer.status, answer.cookies) == (403, [])
    assert "under 2000" in answer.body
    (line,) = audited(caplog)
    assert (line["outcome"], line["user"]) == ("refused", "alice")
    assert "under 2000" in line["reason"]


def test_signing_out_ends_it_on_this_side_too(hook: LocalHook) -> None:
    cookie = by_link(hook).cookie
    session = hook.sessions.find(cookie.partition("=")[2])
    assert session
    for form in (
        {},
        {"csrf_token": ""},
        {"csrf_token": "0" * 64},
        {"csrf_token": csrf_token("another session")},
        {"csrf_token": session.sid},
    ):
        assert hook.one("/logout", method="POST", form=form, cookie=cookie).status == 403
        assert is_in(hook, cookie)
    form = {"csrf_token": csrf_token(session.sid)}
    foreign = hook.one("/logout", method="POST", form=form, cookie=cookie, origin="https://evil.example")
    assert foreign.status == 403
    answer = hook.one("/logout", method="POST", form=form, cookie=cookie, origin=hook.config.origin)
    assert (answer.status, answer.headers["location"]) == (303, "/login/out")
    assert "Max-Age=0" in answer.cookies[0]
    assert not is_in(hook, cookie)
    assert hook.one("/login/out").status == 200


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:8080.evil.example"},
     {"origin": "http://127.0.0.1"}, {"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"},
     {"sec_fetch_site": "none"}],
    ids=str,
)  # fmt: skip
def test_a_form_of_another_origin_signs_nobody_in(hook: LocalHook, headers: dict[str, Any]) -> None:
    """Not even an attacker's own link signs a user in, to the attacker's account."""
    code = hook.links.make(ALICE)
    answer = hook.one(f"/login/once/{code}", method="POST", form={}, **headers)
    assert (answer.status, answer.cookies) == (403, [])
    assert hook.links.look(code) == ALICE


def test_the_header_of_a_trusted_peer_signs_in(hook: LocalHook, caplog: pytest.LogCaptureFixture) -> None:
    """Its session is valid only together with the header, so signing out at the proxy ends it here too."""
    with caplog.at_level(logging.INFO, "punway.audit"):
        answer = hook.one("/login", x_remote_user="daemon", **FRONT)
    assert (answer.status, answer.headers["location"]) == (303, HOME)
    assert is_in(hook, answer.cookie, x_remote_user="daemon", **FRONT)
    assert not is_in(hook, answer.cookie)
    assert not is_in(hook, answer.cookie, x_remote_user="bin", **FRONT)
    assert not is_in(hook, answer.cookie, x_remote_user="daemon", x_punway_direct_peer="192.0.2.7")
    assert audited(caplog)[0]["via"] == "header"
    assert hook.one("/login", cookie=answer.cookie, x_remote_user="daemon", **FRONT).headers["location"] == HOME


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"x_remote_user": "daemon", "x_punway_direct_peer": "198.51.100.7"}, 403),
     ({"x_remote_user": "daemon", "x_punway_direct_peer": "127.0.0.1"}, 403),
     ({"x_remote_user": "daemon", "x_punway_direct_peer": "::1"}, 403),
     ({"x_remote_user": "daemon", "x_punway_direct_peer": ""}, 403),
     ({"x_remote_user": "daemon", "x_punway_direct_peer": "unix:"}, 403),
     ({"x_remote_user": "daemon", "x_punway_front_secret": ""}, 403),
     ({"x_remote_user": "daemon", "x_punway_front_secret": "of another"}, 403),
     ({"x_remote_user": "daemon", "more": (("x-punway-front-secret", SECRET),)}, 400),
     ({"x_remote_user": "daemon", "more": (("x-remote-user", "daemon"),)}, 400),
     ({"more": (("x_remote_user", "daemon"),)}, 200),
     ({"x_remote_user": "root"}, 403), ({"x_remote_user": "../daemon"}, 403), ({"x_remote_user": "%2e"}, 403),
     ({"x_remote_user": "DAEMON"}, 403), ({"x_remote_user": "daemon."}, 403), ({"x_remote_user": "(null)"}, 403),
     ({"x_remote_user": ""}, 403), ({"x_remote_user": "daemon, root"}, 403), ({"x_remote_user": "nobody-such"}, 403)],
    ids=str,
)  # fmt: skip
def test_a_header_that_signs_nobody_in(
    hook: LocalHook, headers: dict[str, Any], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "punway.audit"):
        answer = hook.one("/login", **{**FRONT, **headers})
    assert (answer.status, answer.cookies) == (status, [])
    assert all(line["outcome"] == "refused" for line in audited(caplog))
    assert bool(audited(caplog)) == (status == 403)


def test_the_fronts_secret(tmp_path: Path, spawner: FakeSpawner) -> None:
    """Without a configured secret, the header is never accepted, not even with an empty secret."""
    hook = LocalHook(tmp_path, {"login": HEADER}, front_secret="")
    try:
        peer = {"x_punway_direct_peer": "192.0.2.7"}
        assert hook.one("/login", x_remote_user="daemon", **peer).status == 403
        assert hook.one("/login", x_remote_user="daemon", x_punway_front_secret="", **peer).status == 403
    finally:
        hook.close()


def test_the_front_is_who_connected(hook: LocalHook) -> None:
    """Behind a balancer, the client's address differs from that of the proxy. Only the proxy's address counts."""
    by_client = {**FRONT, "x_punway_direct_peer": "198.51.100.7"}
    assert hook.one("/login", x_remote_user="daemon", x_punway_peer="192.0.2.7", **by_client).status == 403
    assert hook.one("/login", x_remote_user="daemon", x_punway_peer="198.51.100.7", **FRONT).status == 303


def test_without_the_switch_a_header_means_nothing(tmp_path: Path, spawner: FakeSpawner) -> None:
    hook = LocalHook(tmp_path)
    try:
        answer = hook.one("/login", x_remote_user="daemon")
        assert (answer.status, answer.cookies) == (200, [])
        assert hook.one("/login/oidc").status == 404
        assert hook.one("/login/oidc/callback?code=x&state=y").status == 404
    finally:
        hook.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/login/else", 404), ("PUT", "/login", 405), ("GET", "/logout", 405), ("POST", "/login", 405),
     ("DELETE", "/login/once/x", 405)],
)  # fmt: skip
def test_other_addresses_and_methods(hook: LocalHook, method: str, path: str, status: int) -> None:
    assert hook.one(path, method=method).status == status


def test_a_large_form(hook: LocalHook) -> None:
    assert hook.one("/logout", method="POST", form={"csrf_token": "x" * 20_000}).status == 413
    assert hook.one("/logout", method="POST", form={str(i): "" for i in range(100)}).status == 303


OWN = {"origin": "http://127.0.0.1:8080", "sec_fetch_site": "same-origin"}
TYPED = {
    "csrf_token": "f" * 64,
    "name": "CI & <b>",
    "preset": "some",
    "scope": "jobs:read",
    "expires": "30d",
    "date": "",
}


def test_an_expired_session_keeps_what_was_typed(hook: LocalHook) -> None:
    """The browser keeps it, without the CSRF token, until the user has signed in. The page says what happened."""
    sent = hook.one("/pages/expired", method="POST", form=TYPED, **OWN)
    assert (sent.status, sent.headers["location"]) == (303, "/login")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(sent.cookies[0].split("; "))
    assert "f" * 64 not in sent.cookies[0]
    page = hook.one("/login", cookie=sent.cookie).body
    assert "Your session has expired" in page and "No token was created or revoked." in page and "is saved" in page
    answer = by_link(hook, cookie=sent.cookie)
    address, _, query = answer.headers["location"].partition("?")
    assert (address, parse_qsl(query)) == (HOME, [(k, v) for k, v in TYPED.items() if k != "csrf_token" and v])
    assert any(c.startswith("punway-form=;") and "Max-Age=0" in c for c in answer.cookies)


@pytest.mark.parametrize(
    ("form", "headers", "kept"),
    [
        ({"csrf_token": "x", "id": "7"}, OWN, "-"),
        ({"name": "ab" * 32, "preset": "jobs", "more": "x"}, OWN, "preset=jobs"),
        ({"name": "eyJhbGciOi.x", "expires": "30d"}, OWN, "expires=30d"),
        (TYPED, {**OWN, "origin": "https://evil.example"}, None),
        (TYPED, {**OWN, "sec_fetch_site": "cross-site"}, None),
    ],
    ids=["revoking", "a token as a name", "a JWT as a name", "another origin", "another site"],
)
def test_what_an_expired_session_does_not_keep(
    hook: LocalHook, form: dict[str, str], headers: dict[str, str], kept: str | None
) -> None:
    answer = hook.one("/pages/expired", method="POST", form=form, **headers)
    assert (answer.status, answer.headers["location"]) == (303, "/login")
    assert [parse_cookie(c)["punway-form"] for c in answer.cookies] == ([] if kept is None else [kept])


@pytest.mark.parametrize("kept", ["-", "x=1", "next=//evil.example&name=a%0d%0ab", "&".join(["a=b"] * 50), "\u00ff"])
def test_a_cookie_leads_nowhere_else(hook: LocalHook, kept: str) -> None:
    """That holds whoever wrote the cookie."""
    location = by_link(hook, cookie=f"punway-form={kept}").headers["location"]
    assert location in (HOME, f"{HOME}?name=a%0D%0Ab")


def test_an_expired_session_differs_from_a_first_visit(hook: LocalHook) -> None:
    assert "expired" not in hook.one("/login").body
    session = by_link(hook).cookie
    hook.monotonic.now += hook.config.login.session_lifetime + 1
    assert "Your session has expired" in hook.one("/login", cookie=session).body
    answer = hook.one("/pages/expired", cookie=session)
    assert (answer.status, answer.headers["location"], answer.cookies) == (303, "/login", [])
