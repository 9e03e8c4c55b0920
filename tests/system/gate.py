"""A scripted browser that signs in to the portal of the fixture ``gate``, which has every way to sign in."""

from __future__ import annotations

import re
from typing import Any

import requests

from tests.system.portal import Portal, User

HOME = "/settings/api_tokens"
FRONT_SECRET = "of the front"


class Tab(requests.Session):
    """A scripted browser, which keeps cookies and sends the CSRF token of each page's form."""

    def __init__(self, portal: Portal) -> None:
        super().__init__()
        self.portal = portal
        # Otherwise certificates that the environment names take precedence over ``verify``.
        self.trust_env = False
        self.verify = portal.verify

    def sign_in(self, user: User) -> Tab:
        """Sign in with a one-time link of the user."""
        answer = self.post(self.portal.link(user), allow_redirects=False, timeout=30)
        assert (answer.status_code, answer.headers["Location"]) == (303, HOME), answer.text
        return self

    def form(self) -> str:
        """Return the CSRF token of the API Tokens page."""
        answer = self.get(self.portal.url + HOME, timeout=30)
        return str(re.findall(r'name="csrf_token" value="(\w+)"', answer.text)[0])

    def fill_in(self, path: str = "", **fields: Any) -> requests.Response:
        """Send the form for a new token, with ``fields`` in place of the usual ones. ``headers`` are extra headers."""
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
        """Return whether the browser is signed in."""
        answer = self.get(self.portal.url + HOME, allow_redirects=False, timeout=30)
        assert answer.status_code in (200, 303)
        return answer.status_code == 200

    @property
    def session_cookie(self) -> str:
        """The value of the session cookie."""
        (cookie,) = [cookie.value for cookie in self.cookies if cookie.name == "__Host-punway"]
        return str(cookie)

    @session_cookie.setter
    def session_cookie(self, value: str) -> None:
        self.cookies.clear()
        self.cookies.set("__Host-punway", value, domain="localhost.local", path="/", secure=True)
