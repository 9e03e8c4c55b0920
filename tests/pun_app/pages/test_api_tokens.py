"""Tests of the API Tokens page (pun_app/pages/), with a real token file and a real registrar."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from proxy_hook.token_routes import RouteTable
from pun_app.pages.flash import MAX_FLASHES, Flashes
from pun_app.pages.render import ago, exact
from tests.proxy_hook.local_registrar import USER
from tests.pun_app.pun import ORIGIN, Pun, form_field
from tokens import scopes
from tokens.csrf import csrf_token
from tokens.errors import StoreUnavailable
from tokens.lifetime import Policy
from tokens.store import TokenStore
from tokens.token import from_text, is_secret, issue, sha256_of, utc_now

FORM = {"name": "CI pipeline", "preset": "jobs", "expires": "90d"}


def secret_in(answer: Any) -> str:
    secret: str = answer.html.find(id="token").text
    assert is_secret(secret)
    return secret


def test_a_token_is_made_and_shown_once(pun: Pun, registrar: RouteTable) -> None:
    answer = pun.made(FORM)
    secret = secret_in(answer)
    (token,) = pun.store.tokens()
    assert (token.name, token.sha256) == ("CI pipeline", sha256_of(secret))
    assert token.scopes == ("clusters:read", "jobs:read", "jobs:write")
    assert token.expires_at and timedelta(days=89, hours=23) < token.expires_at - utc_now() <= timedelta(days=90)
    assert registrar.find(token.sha256)
    assert f"curl -H 'Authorization: Bearer {secret}' '{ORIGIN}/api/v1/clusters'" in answer.html.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert token.id in answer.html.find(class_="new").text
    assert secret not in pun.page().text


def test_a_reload_makes_no_second_token_and_claims_nothing(pun: Pun) -> None:
    """The form redirects to a page that only its own session sees, once. The address has no secret in it."""
    location = pun.post(FORM, 303).headers["Location"]
    (token,) = pun.store.tokens()
    assert token.id not in location and token.sha256 not in location
    assert pun.page(path=location, sid="s2").html.find(id="token") is None
    pun.app.head(location, headers=pun.session(), status=200)
    assert sha256_of(secret_in(pun.page(path=location))) == token.sha256
    for path in (
        location,
        location,
        "/settings/api_tokens?new=x",
        "/settings/api_tokens?done=1",
        "/settings/api_tokens?new=a&new=b",
    ):
        page = pun.page(path=path).html
        assert page.find(id="token") is None and "revoked" not in page.main.text and "was made" not in page.main.text
    assert len(pun.store.tokens()) == 1


def test_a_secret_expires_even_if_nobody_fetches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is dropped even if nobody fetches it."""
    flashes: Flashes[str] = Flashes(ttl_s=0)
    key = flashes.keep("s1", "secret")
    deadline = time.monotonic() + 60
    while flashes._kept and time.monotonic() < deadline:
        time.sleep(0.01)
    assert flashes.take("s1", key) is None and not flashes._kept
    many: Flashes[int] = Flashes()
    keys = [many.keep("s1", number) for number in range(MAX_FLASHES + 5)]
    assert [many.take("s1", key) for key in keys] == [None] * 5 + list(range(5, MAX_FLASHES + 5))


def test_an_address_fills_the_form_in_and_does_nothing_else(pun: Pun) -> None:
    """This happens after an expired session. Unknown values are not selected, and markup stays text."""
    query = {
        "name": "<b>CI</b>",
        "preset": "some",
        "scope": ["jobs:read", "x"],
        "expires": "date",
        "date": "2099-01-02",
    }
    page = pun.page(path=f"/settings/api_tokens?{urlencode(query, doseq=True)}").html
    chosen = [field["value"] for field in page.find_all(attrs={"checked": True})]
    assert (page.find(id="name")["value"], page.find(id="date")["value"]) == ("<b>CI</b>", "2099-01-02")
    assert chosen == ["some", "jobs:read", "date"]
    assert pun.store.tokens() == [] and page.find(class_="reason") is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({"preset": "read"}, scopes.PRESETS["read"][1]), ({"preset": "all"}, scopes.OFFERED),
     ({"preset": "some", "scope": ["jobs:read", "files:write"]}, ("jobs:read", "files:write")),
     ({"preset": "some", "scope": "jobs:write"}, ("jobs:write",)),
     ({"preset": "read", "scope": "jobs:write"}, scopes.PRESETS["read"][1])],
    ids=["read", "all", "some", "one", "preset before scopes"],
)  # fmt: skip
def test_scopes(pun: Pun, fields: dict[str, Any], expected: tuple[str, ...]) -> None:
    pun.made({**FORM, **fields})
    assert pun.store.tokens()[0].scopes == expected


def test_a_last_day(pun: Pun) -> None:
    tomorrow = (utc_now() + timedelta(days=1)).date().isoformat()
    pun.made({**FORM, "expires": "date", "date": tomorrow})
    assert pun.store.tokens()[0].expires_at == from_text(f"{tomorrow}T23:59:59Z")


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"name": ""}, "name"), ({"name": "   "}, "name"), ({"name": "x" * 101}, "name"), ({"name": "x" * 10_240}, "name"),
     ({"name": "a\nb"}, "name"), ({"name": "a\0b"}, "name"), ({"name": ["a", "b"]}, "name"),
     ({"preset": "some"}, "scopes"), ({"preset": ""}, "scopes"), ({"preset": "root"}, "scopes"),
     ({"preset": "some", "scope": "tokens:write"}, "scopes"), ({"preset": "some", "scope": ""}, "scopes"),
     ({"expires": ""}, "expires"), ({"expires": "soon"}, "expires"), ({"expires": "-1d"}, "expires"),
     ({"expires": "date", "date": ""}, "expires"), ({"expires": "date", "date": "2020-01-01"}, "expires"),
     ({"expires": "date", "date": "2027-02-30"}, "expires"), ({"expires": "date", "date": "<b>"}, "expires")],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_an_invalid_form_names_the_field_and_keeps_the_input(pun: Pun, fields: dict[str, Any], field: str) -> None:
    """The page returns with the entered values and marks the field."""
    answer = pun.post({**FORM, **fields}, 422)
    assert pun.store.tokens() == []
    assert answer.html.title.text.startswith("Error: ")
    (reason,) = answer.html.find_all(class_="reason")
    (focused,) = answer.html.find_all(autofocus=True)
    assert reason["id"] in focused["aria-describedby"].split() and reason.text
    names = {"name": ("name",), "scopes": ("preset", "scope"), "expires": ("expires", "date")}
    assert focused["name"] in names[field]
    group = focused.find_parent("fieldset") or focused.find_parent(class_="field")
    assert reason in group.find_all(class_="reason")
    # ARIA has no invalid radio buttons.
    assert (focused.get("aria-invalid") == "true") == (focused["type"] != "radio")
    if field != "name":
        assert answer.html.find(id="name")["value"] == "CI pipeline"


NAMES = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}", "</bdi></title>", "a&amp;b",
    "\u202eevil\u202c", "\u2067abc", "שלום", "🏃‍♀️", "x" * 100, "'; DROP TABLE routes; --", "Ä" * 100,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_is_text_whatever_it_contains(pun: Pun, name: str) -> None:
    """It is in a <bdi>, so that its marks of direction do not affect other text."""
    for page in (pun.made({**FORM, "name": name}), pun.page()):
        assert page.html.tbody.th.bdi.text == name
        assert [script["src"] for script in page.html.find_all("script")] == ["/assets/copy.js"]
        assert page.html.find_all("img") == []
    assert pun.store.tokens()[0].name == name


def test_the_list(pun: Pun) -> None:
    """The newest token is first. Expired, unused and plain-text tokens are marked. Exact times are in a hint."""
    now = utc_now().replace(microsecond=0)
    used, _ = issue("used", scopes.OFFERED, now + timedelta(days=2, minutes=1))
    over, _ = issue("over", ("jobs:read",), now - timedelta(hours=3))
    pun.store.add(used)
    pun.store.add(over)
    pun.store.record_last_used({used.id: now - timedelta(minutes=3)})
    text = pun.store.path.read_text().rstrip().removesuffix("]")
    pun.store.path.write_text(f'{text}, {{"id": "odd/../id", "name": "plugin", "token": "{"c" * 64}"}}]')
    page = pun.page()
    rows = {row.th.bdi.text: row for row in page.html.tbody.find_all("tr")}
    assert set(rows) == {"used", "over", "plugin"}
    assert "3 minutes ago" in rows["used"].text
    (shown,) = [time for time in rows["used"].find_all("time") if time.text == exact(now - timedelta(minutes=3))]
    assert from_text(shown["datetime"]) == now - timedelta(minutes=3)
    assert used.id in rows["used"].th.text and f"ID {used.id}" in rows["used"].button.text
    assert "in 2 days" in rows["used"].text and "Jobs" in rows["used"].text
    assert "expired 3 hours ago" in " ".join(rows["over"].text.split())
    assert "never" in rows["over"].text and "jobs:read" in rows["over"].text
    assert "stored in plain text" in rows["plugin"].text
    assert "c" * 64 not in page.text
    assert "Last use of any of them: 3 minutes ago" in page.html.text


def test_revoking(pun: Pun, registrar: RouteTable) -> None:
    """A revoked token is gone at once, and the others stay. Revoking it again succeeds, too."""
    pun.made(FORM)
    pun.made({**FORM, "name": "stays"})
    stays, gone = sorted(pun.store.tokens(), key=lambda token: token.name == "CI pipeline")
    for said in (f"The token CI pipeline (ID {gone.id}) has been revoked", "This token had already been revoked"):
        location = pun.post({"id": gone.id}, 303, "/revoke").headers["Location"]
        assert said in pun.page(path=location).html.find(role="status").text
        assert pun.page(path=location).html.find(role="status", class_="notice") is None
    assert [token.id for token in pun.store.tokens()] == [stays.id]
    assert registrar.find(gone.sha256) is None
    assert registrar.find(stays.sha256)
    for claim in ("revoked=1", "done=1", "new=1"):
        assert "has been revoked" not in pun.page(path=f"/settings/api_tokens?{claim}").html.text


@pytest.mark.parametrize("path", ["", "/revoke"], ids=["make", "revoke"])
@pytest.mark.parametrize(
    "form", ["", "0" * 64, csrf_token("another session"), "é", ["twice", "twice"], "s1"], ids=lambda value: str(value)[:8]
)  # fmt: skip
def test_a_form_that_is_not_of_this_session(pun: Pun, form: Any, path: str) -> None:
    """A missing, invented, stale or foreign CSRF token is a 403, and nothing is done."""
    token, _ = issue("x")
    pun.store.add(token)
    answer = pun.post({**FORM, "id": token.id, "csrf_token": form}, 403, path)
    assert "Your session has expired. Reload the page and try again." in answer.text
    assert [kept.id for kept in pun.store.tokens()] == [token.id]


def test_a_form_of_another_session_of_the_same_user(pun: Pun) -> None:
    theirs = form_field(pun.page(sid="s2").text)
    assert theirs != form_field(pun.page(sid="s1").text)
    pun.post({**FORM, "csrf_token": theirs}, 403, sid="s1")
    pun.made({**FORM, "csrf_token": theirs}, sid="s2")


@pytest.mark.parametrize("path", ["", "/revoke"], ids=["make", "revoke"])
@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": f"{ORIGIN}.evil.example"},
     {"Origin": "http://portal.example.org"}, {"Origin": f"{ORIGIN}:8443"}, {"Sec-Fetch-Site": "cross-site"},
     {"Sec-Fetch-Site": "same-site"}],
    ids=str,
)  # fmt: skip
def test_a_form_of_another_origin(pun: Pun, headers: dict[str, str], path: str) -> None:
    """It is rejected even with the session's own CSRF token."""
    token, _ = issue("x")
    pun.store.add(token)
    pun.post({**FORM, "id": token.id}, 403, path, headers=headers)
    assert [kept.id for kept in pun.store.tokens()] == [token.id]


def test_forms_as_browsers_send_them(pun: Pun) -> None:
    form = {"csrf_token": form_field(pun.page().text), **FORM}
    pun.app.post_json("/settings/api_tokens", form, headers=pun.session(), status=415)
    pun.app.post("/settings/api_tokens", {**form, "name": "x" * 70_000}, headers=pun.session(), status=413)
    pun.app.put("/settings/api_tokens", form, headers=pun.session(), status=405)
    pun.page(404, "/settings/else")
    assert pun.store.tokens() == []


def test_what_the_site_allows(tmp_path: Path, registrar: RouteTable) -> None:
    pun = Pun(tmp_path, Policy(timedelta(days=60), never=False))
    page = pun.page()
    choices = [field["value"] for field in page.html.find_all(attrs={"name": "expires"})]
    assert choices == ["30d", "date"]
    assert page.html.find(attrs={"name": "date"})["max"] == (utc_now() + timedelta(days=60)).date().isoformat()
    for expires in ("90d", "never", "1y"):
        assert "this site" in pun.post({**FORM, "expires": expires}, 422).html.find(class_="reason").text
    pun.made({**FORM, "expires": "30d"})
    unbound = [field["value"] for field in pun_below(tmp_path / "b").page().html.find_all(attrs={"name": "expires"})]
    assert unbound == ["30d", "90d", "1y", "date", "never"]


def test_the_site_says_what_a_token_may_do(tmp_path: Path, registrar: RouteTable) -> None:
    """Other scopes are not offered. A form with one is rejected, and the message names it."""
    pun = Pun(tmp_path, Policy(scopes=("clusters:read", "jobs:read")))
    page = pun.page().html
    assert [field["value"] for field in page.find_all(attrs={"name": "scope"})] == ["clusters:read", "jobs:read"]
    assert [field["value"] for field in page.find_all(attrs={"name": "preset"})] == ["read", "some"]
    no = pun.post({**FORM, "preset": "some", "scope": "jobs:write"}, 422)
    assert "does not allow jobs:write" in no.html.find(class_="reason").text
    pun.made({**FORM, "preset": "all"})
    assert [token.scopes for token in pun.store.tokens()] == [("clusters:read", "jobs:read")]


def pun_below(folder: Path) -> Pun:
    folder.mkdir()
    return Pun(folder)


def test_a_file_that_will_not_do_is_said(pun: Pun) -> None:
    pun.made(FORM)
    before = pun.store.path.read_bytes()
    form = {"csrf_token": form_field(pun.page().text)}
    pun.store.path.chmod(0o644)
    assert "chmod 600" in pun.page(422).html.find(role="alert").text
    headers = {"Origin": ORIGIN, **pun.session()}
    answer = pun.app.post("/settings/api_tokens", {**form, **FORM}, headers=headers, status=422)
    assert "chmod 600" in answer.html.find(role="alert").text
    assert answer.html.find(id="name")["value"] == "CI pipeline"
    assert pun.store.path.read_bytes() == before


def test_a_full_disk_loses_nothing(pun: Pun, registrar: RouteTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says so, shows no secret of a token that does not exist, and the token's route is revoked.

    tests/system/test_pages.py tests this with a file system that is really full.
    """
    pun.made(FORM)
    before = pun.store.path.read_bytes()

    def full(*_: object) -> bool:
        raise StoreUnavailable("no space or quota is left")

    monkeypatch.setattr(TokenStore, "_replace", full)
    answer = pun.post(FORM, 503)
    assert "no space" in answer.html.find(role="alert").text
    assert answer.html.find(id="token") is None
    assert pun.store.path.read_bytes() == before
    (token,) = pun.store.tokens()
    assert registrar.hashes(registrar.find(token.sha256).uid) == [token.sha256]  # type: ignore[union-attr]
    location = pun.post({"id": token.id}, 303, "/revoke").headers["Location"]
    assert "still in your file" in pun.page(path=location).html.find(role="status").text
    assert registrar.find(token.sha256) is None


def test_many_tabs_at_once(pun: Pun, registrar: RouteTable) -> None:
    """Tabs make and revoke tokens: every shown token exists, and no revoked one does."""
    for number in range(4):
        pun.made({**FORM, "name": f"old {number}"})
    old = pun.store.tokens()
    form = form_field(pun.page().text)
    headers = {"Origin": ORIGIN, **pun.session()}
    shown: list[str] = []

    def make(number: int) -> None:
        made = {**FORM, "csrf_token": form, "name": f"new {number}"}
        answer = pun.app.post("/settings/api_tokens", made, headers=headers, status=303)
        answer = pun.page(path=answer.headers["Location"])
        shown.append(sha256_of(secret_in(answer)))

    def revoke(number: int) -> None:
        pun.app.post(
            "/settings/api_tokens/revoke", {"csrf_token": form, "id": old[number].id}, headers=headers, status=303
        )

    threads = [threading.Thread(target=act, args=(number,)) for number in range(4) for act in (make, revoke)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(token.sha256 for token in pun.store.tokens()) == sorted(shown)
    assert len(shown) == 4


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "just now"), (59, "just now"), (60, "1 minute ago"), (3 * 60 + 5, "3 minutes ago"), (3600, "1 hour ago"),
     (86_400 * 2, "2 days ago"), (86_400 * 130, "4 months ago"), (86_400 * 800, "2 years ago"), (-10, "in a moment"),
     (-90 * 86_400 + 5, "in 90 days"), (-365 * 86_400 + 5, "in 1 year"), (-3599, "in 60 minutes"), (-180 * 86_400, "in 6 months"),
     (86_399, "23 hours ago"), (-86_400 * 1.9, "in 2 days")],
)  # fmt: skip
def test_how_long_ago(seconds: int, said: str) -> None:
    now = utc_now()
    assert ago(now - timedelta(seconds=seconds), now) == said


def test_the_page_registers_tokens_of_another_program(pun: Pun, registrar: RouteTable, tmp_path: Path) -> None:
    """Open OnDemand's dashboard writes tokens in plain text. To register one, the user opens the page."""
    pun.page()
    secret = "ab" * 32
    entries = [
        {"id": "1", "name": "dashboard", "token": secret, "created_at": "2026-11-01T00:00:00Z", "last_used_at": None}
    ]
    pun.store.path.parent.mkdir(parents=True, exist_ok=True)
    pun.store.path.parent.chmod(0o700)
    pun.store.path.parent.parent.chmod(0o700)
    pun.store.path.write_text(json.dumps(entries))
    pun.store.path.chmod(0o600)
    assert registrar.hashes(USER.pw_uid) == []
    assert "dashboard" in pun.page().text
    assert registrar.hashes(USER.pw_uid) == [sha256_of(secret)]


def test_the_page_works_without_the_registrar(pun: Pun, tmp_path: Path) -> None:
    """Tokens that cannot be registered now are registered later."""
    pun.store.add(issue("kept")[0])
    pun.registrar._path = tmp_path / "nobody"
    assert "kept" in pun.page().text
