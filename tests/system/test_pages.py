"""Tests of the API Tokens page and of signing in, with real nginx, a certified OpenID provider and Chromium."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.system.gate import HOME
from tests.system.identity import sign_in_at_provider
from tests.system.portal import Client, Portal, User
from tests.system.slurm import wait_for
from tokens.token import is_secret, sha256_of, utc_now

SCREENSHOTS = Path(__file__).parents[1] / "screenshots"
AXE = Path(__file__).parent / "axe" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture
def browse(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Return a function that opens separate browser windows. A warning or an error of a page fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def noted(page: Page, text: str) -> None:
        # The provider's pages are not ours: they load fonts from another host. Chromium logs an error for each 422,
        # the answer to a wrong form, and for each 404.
        if page.url.startswith("https://localhost") and not re.search("status of (404|422)", text):
            complaints.append(text)

    def browse(**options: Any) -> Page:
        contexts.append(chromium.new_context(ignore_https_errors=True, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(120_000)
        page.on("console", lambda message: noted(page, message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: noted(page, str(error)))
        return page

    yield browse
    for context in contexts:
        context.close()
    assert complaints == []


def tomorrow() -> str:
    return (utc_now() + timedelta(days=1)).date().isoformat()


def shots(page: Page, name: str) -> None:
    """Take screenshots in light and dark and on a narrow screen, and check that the page fits."""
    SCREENSHOTS.mkdir(exist_ok=True)
    for scheme, width in (("light", 1280), ("dark", 1280), ("light", 375), ("dark", 375)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 800})
        page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} is wider than {width} px"
        assert axe(page) == [], f"{name}, {scheme}, {width} px"
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 800})


def axe(page: Page) -> list[str]:
    """Return the certain violations that axe finds on a page: the rule, its help text, the element and the reason."""
    # Evaluated rather than added as a script, which the page's Content-Security-Policy would block.
    page.evaluate(f"() => {{ if (!window.axe) {{ {AXE.read_text()} }} }}")
    found = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{one['id']}: {one['help']}: {node['html'][:200]}: {node['failureSummary']}"
        for one in found
        for node in one["nodes"]
    ]


def make_use_and_revoke(page: Page, portal: Portal, user: User, name: str) -> None:
    """Make, use and revoke a token as a signed-in newcomer who reads only the page."""
    expect(page).to_have_title("API Tokens · Punway")
    expect(page.get_by_text(f"Signed in as {user.name}")).to_be_visible()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Read only").check()
    page.get_by_label("On a date").check()
    page.get_by_label("Last day of use").fill(tomorrow())
    page.get_by_role("button", name="Generate Token").click()
    expect(page.get_by_text("It is not shown again.")).to_be_visible()
    secret = page.get_by_label("The token", exact=True).inner_text()
    assert is_secret(secret)
    expect(page.get_by_role("heading", name=f"Your new token: {name}")).to_be_focused()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == secret
    command = page.get_by_label("A command that uses the token").inner_text()
    assert "box" in subprocess.run(f"{command} -sk", shell=True, capture_output=True, text=True, check=True).stdout
    page.reload()
    expect(page.get_by_text("A new token is shown once.")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text=name)).to_have_count(1)
    assert secret not in page.content() and secret not in page.url
    page.goto(portal.url + HOME)
    row = page.get_by_role("row").filter(has_text=name)
    expect(row).to_contain_text("Read only")
    assert secret not in page.content()
    client = Client(portal.url, secret, portal.verify)
    assert client("GET", "/api/v1/clusters").status_code == 200
    script = {"cluster": "box", "script": {"content": "#!/bin/sh\ntrue"}}
    assert client.error("POST", "/api/v1/jobs", script)[:2] == (403, "insufficient_scope")

    def used() -> bool:
        page.reload()
        return "just now" in (row.get_by_role("cell").nth(3).text_content() or "")

    wait_for("its last use", used)
    row.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("status")).to_contain_text(f"The token {name} (ID ")
    expect(page.get_by_role("status")).to_contain_text("has been revoked")
    expect(page.get_by_role("row").filter(has_text=name)).to_have_count(0)
    assert client.error("GET", "/api/v1/clusters")[:2] == (401, "unauthorized")


def test_a_newcomer_signs_in_with_the_provider(gate: Portal, alice: User, browse: Callable[..., Page]) -> None:
    """A newcomer goes from the portal's bare address to a read-only token for a day, uses and revokes it, and signs out."""
    page = browse()
    page.goto(gate.url)
    shots(page, "sign-in")
    page.get_by_role("link", name="Sign in with Example University").click()
    sign_in_at_provider(page, alice.name)
    make_use_and_revoke(page, gate, alice, "My first token")
    (cookie,) = [c for c in page.context.cookies() if "punway" in str(c["name"])]
    assert cookie["name"] == "__Host-punway"
    assert cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Lax"
    assert (cookie["domain"], cookie["path"]) == ("localhost", "/")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    page.context.add_cookies([cookie])  # type: ignore[list-item]
    page.goto(gate.url + HOME)
    expect(page).to_have_title("Sign in · Punway")


def test_a_user_signs_in_with_a_link_of_punway_login(gate: Portal, bob: User, browse: Callable[..., Page]) -> None:
    page = browse()
    page.goto(gate.link(bob))
    shots(page, "link")
    page.get_by_role("button", name=f"Sign in as {bob.name}").click()
    make_use_and_revoke(page, gate, bob, "By a link")


def test_how_the_page_looks(gate: Portal, alice: User, browse: Callable[..., Page]) -> None:
    """The page has tokens of every kind, and names with markup. The screenshots are for people to look at."""
    names = ["CI pipeline", "<script>alert(1)</script><b>bold</b>", "\u202eesrever\u202c ‮", "x" * 100]
    for name in names:
        gate.punway("token", "create", name, "--scopes", "jobs:read,files:write", user=alice)
    gate.punway("token", "create", "over in a minute", "--expires", "1m", user=alice)
    page = browse()
    page.goto(gate.link(alice))
    page.get_by_role("button", name="Sign in as").click()
    for name in names:
        expect(page.get_by_role("rowheader").get_by_text(name.strip(), exact=True)).to_have_count(1)
    expect(page.locator("tbody script, tbody b")).to_have_count(0)
    page.get_by_label("Name", exact=True).fill("Made in a browser")
    page.get_by_label("Choose individual scopes").check()
    page.get_by_label("jobs:write").check()
    page.get_by_role("button", name="Generate Token").click()
    shots(page, "made")
    page.goto(gate.url + HOME)
    shots(page, "list")
    page.get_by_label("Name", exact=True).fill("Nothing chosen")
    page.get_by_label("Choose individual scopes").check()
    page.get_by_role("button", name="Generate Token").click()
    expect(page.get_by_text("at least one of the scopes")).to_be_visible()
    expect(page.get_by_label("Choose individual scopes")).to_be_focused()
    expect(page).to_have_title("Error: API Tokens · Punway")
    assert page.get_by_label("Name", exact=True).input_value() == "Nothing chosen"
    shots(page, "wrong")


def test_the_page_without_javascript_and_by_keyboard_alone(
    gate: Portal, alice: User, browse: Callable[..., Page]
) -> None:
    """A token is made with Tab, Space and Enter. The Copy button, which needs JavaScript, is absent."""
    page = browse(java_script_enabled=False)
    page.goto(gate.link(alice))
    page.get_by_role("button", name="Sign in as").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Name", exact=True).focus()
    page.keyboard.type("By keyboard")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Read only")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("Jobs", exact=True)).to_be_checked()
    page.keyboard.press("Tab")
    expect(page.get_by_label("In 90 days")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Generate Token")).to_be_focused()
    page.keyboard.press("Enter")
    assert is_secret(page.get_by_label("The token", exact=True).inner_text())
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)
    page.get_by_role("button", name="Revoke By keyboard").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("revoked")


def test_a_token_after_an_expired_session_by_keyboard_at_375_pixels(
    gate: Portal, bob: User, browse: Callable[..., Page]
) -> None:
    """A token is made, copied, distinguished from one of the same name, and revoked. Typed values outlive the session."""
    gate.punway("token", "create", "Twin", user=bob)
    page = browse(viewport={"width": 375, "height": 667})
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])

    def press(role: Any, name: str, *, exact: bool = False) -> None:
        page.get_by_role(role, name=name, exact=exact).focus()
        page.keyboard.press("Enter")

    page.goto(gate.link(bob))
    press("button", "Sign in as")
    page.get_by_label("Name", exact=True).focus()
    page.keyboard.type("Twin")
    page.get_by_label("Read only").focus()
    for _ in range(2):  # First to Jobs, then to individual scopes.
        page.keyboard.press("ArrowDown")
    expect(page.get_by_label("Choose individual scopes")).to_be_checked()
    page.get_by_label("jobs:write").focus()
    page.keyboard.press("Space")
    page.get_by_label("In 90 days").focus()
    page.keyboard.press("ArrowUp")
    # An expired session looks the same to the portal: the browser still sends a cookie, but no session has it.
    (cookie,) = [c for c in page.context.cookies() if c["name"] == "__Host-punway"]
    page.context.add_cookies([{**cookie, "value": "over"}])  # type: ignore[typeddict-item]
    press("button", "Generate Token")
    expect(page.get_by_role("alert")).to_contain_text("Your session has expired")
    expect(page.get_by_role("alert")).to_contain_text("Your input is saved")
    shots(page, "expired")
    page.set_viewport_size({"width": 375, "height": 667})
    page.goto(gate.link(bob))
    press("button", "Sign in as")
    expect(page.get_by_label("Name", exact=True)).to_have_value("Twin")
    for label in ("Choose individual scopes", "jobs:write", "In 30 days"):
        expect(page.get_by_label(label)).to_be_checked()
    press("button", "Generate Token")
    secret = page.get_by_label("The token", exact=True).inner_text()
    press("button", "Copy the command")
    press("button", "Copy", exact=True)
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == secret
    new, *_ = json.loads(bob.token_file.read_text())[::-1]
    assert sha256_of(secret) == new["sha256"]
    expect(page.get_by_role("row").filter(has_text="Twin")).to_have_count(2)
    press("button", f"Revoke Twin, ID {new['id']}")
    expect(page.get_by_role("status")).to_contain_text(f"The token Twin (ID {new['id']}) has been revoked")
    expect(page.get_by_role("status")).to_be_focused()
    assert [entry["name"] for entry in json.loads(bob.token_file.read_text())] == ["Twin"]


def test_the_pages_for_an_unknown_address_for_help_and_for_the_api(gate: Portal, browse: Callable[..., Page]) -> None:
    """Browsers get pages with links. Programs get the contract's form."""
    page = browse()
    page.goto(f"{gate.url}/no/such/page")
    expect(page.get_by_role("heading", name="Page not found")).to_be_visible()
    shots(page, "not-found")
    page.get_by_role("link", name="Help").click()
    expect(page.get_by_role("heading", name="Help", exact=True)).to_be_visible()
    shots(page, "help")
    page.get_by_role("link", name="The API").first.click()
    expect(page.locator(".opblock").first).to_be_visible()
    page.locator(".opblock-summary-control").nth(7).press("Enter")
    expect(page.locator(".opblock-body").first).to_be_visible()
    shots(page, "api")
    for accept, kind in (
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html", "text/html"),
    ):
        answer = requests.get(f"{gate.url}/no/such", headers={"Accept": accept}, verify=gate.verify, timeout=30)
        assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (404, kind)
    answer = requests.get(f"{gate.url}/api/v1/x", headers={"Accept": "text/html"}, verify=gate.verify, timeout=30)
    assert answer.json()["error"] == "unauthorized"


def test_a_cross_origin_page_in_a_real_browser(gate: Portal, alice: User, chromium: Browser) -> None:
    """A page of another origin cannot post a form to the portal from a signed-in browser."""
    context = chromium.new_context(ignore_https_errors=True)
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.goto(gate.link(alice))
    page.get_by_role("button", name="Sign in as").click()
    form = page.locator("input[name=csrf_token]").first.input_value()
    expect(page.get_by_text("You have no tokens yet.")).to_be_visible()
    evil = f'<form method=post action="{gate.url}{HOME}"><input name=csrf_token value={form}><input name=name value=evil><input name=preset value=all><input name=expires value=30d><button>go</button></form>'
    context.route("http://evil.test/", lambda route: route.fulfill(body=evil, content_type="text/html"))
    page.goto("http://evil.test/")
    page.get_by_role("button", name="go").click()
    # With SameSite=Lax the form is sent without the cookie, so the portal redirects to the sign-in page. That request
    # has the cookie, and the signed-in browser ends on the API Tokens page.
    expect(page).to_have_title("API Tokens · Punway")
    expect(page.get_by_text("You have no tokens yet.")).to_be_visible()
    assert not alice.token_file.exists() or "evil" not in alice.token_file.read_text()
    context.close()
