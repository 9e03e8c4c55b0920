"""A portal with every way to sign in, and a browser without a screen to try them with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.system.identity import AUDIENCE, OpenIdProvider
from tests.system.portal import Portal, User

HOME = "/settings/api_tokens"
FRONT_SECRET = "of the front"


@pytest.fixture(scope="session")
def provider(folder: Path) -> Iterator[OpenIdProvider]:
    provider = OpenIdProvider(folder / "idp")
    yield provider
    provider.stop()


@pytest.fixture(scope="session")
def gate(folder: Path, hook_user: str, mcp_user: str, provider: OpenIdProvider) -> Iterator[Portal]:
    """A portal with TLS and every way to sign in, whose user map lets any name through."""
    secrets = {"client_secret_file": provider.client_secret, "header_secret_file": FRONT_SECRET}
    for name, secret in secrets.items():
        (folder / name).write_text(f"{secret}\n")
        (folder / name).chmod(0o600)
    portal = Portal(
        folder / "gate", hook_user, {"box": "v2:\n  job: {adapter: local}\n"}, mcp_user=mcp_user,
        tables={
            "idp": {"issuer": provider.issuer, "audience": AUDIENCE, "user_map": "(.*)", "title": "Example University"},
            "login": {
                "oidc": True, "client_id": "portal", "header": "X-Remote-User", "header_peers": ["127.0.0.1"],
                **{name: str(folder / name) for name in secrets},
            },
        },
    ).use_tls()  # fmt: skip
    provider.redirect_uris.append(f"{portal.url}/login/oidc/callback")
    provider.start()
    try:
        yield portal.start()
    finally:
        portal.stop()


class Tab(requests.Session):
    """A browser without a screen: cookies, and the token that each form of a page carries."""

    def __init__(self, portal: Portal) -> None:
        super().__init__()
        self.portal = portal
        # Otherwise what the environment names as certificates goes before what is named here.
        self.trust_env = False
        self.verify = portal.verify

    def sign_in(self, user: User) -> Tab:
        answer = self.post(self.portal.link(user), allow_redirects=False, timeout=30)
        assert (answer.status_code, answer.headers["Location"]) == (303, HOME), answer.text
        return self

    def form(self) -> str:
        answer = self.get(self.portal.url + HOME, timeout=30)
        return str(re.findall(r'name="csrf_token" value="(\w+)"', answer.text)[0])

    def fill_in(self, path: str = "", **fields: Any) -> requests.Response:
        form = {
            "csrf_token": fields.pop("csrf_token", None) or self.form(),
            "name": "x",
            "preset": "read",
            "expires": "30d",
            **fields,
        }
        headers = {"Origin": self.portal.url, "Sec-Fetch-Site": "same-origin", **form.pop("headers", {})}
        return self.post(self.portal.url + HOME + path, form, headers=headers, allow_redirects=False, timeout=30)

    def is_in(self) -> bool:
        answer = self.get(self.portal.url + HOME, allow_redirects=False, timeout=30)
        assert answer.status_code in (200, 303)
        return answer.status_code == 200

    @property
    def session_cookie(self) -> str:
        (cookie,) = [cookie.value for cookie in self.cookies if cookie.name == "__Host-punway"]
        return str(cookie)

    @session_cookie.setter
    def session_cookie(self, value: str) -> None:
        self.cookies.clear()
        self.cookies.set("__Host-punway", value, domain="localhost.local", path="/", secure=True)
