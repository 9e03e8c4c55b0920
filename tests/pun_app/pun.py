"""The app of one user in the test's process, with a signer in place of the hook and a real registrar."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from webtest import TestApp

from pun_app.access import Access
from pun_app.app import PARKED_CALL, App
from pun_app.clusters.load import ClusterFolder
from pun_app.long_poll import Parked
from pun_app.pages.auth import Pages
from pun_app.routes import PAGES
from pun_app.settings import Settings
from tokens import scopes
from tokens.assertion import Signer, Verifier
from tokens.lifetime import Policy
from tokens.manage import TokenManager
from tokens.registrar_client import RegistrarClient
from tokens.store import TokenStore
from tokens.token import issue

ORIGIN = "https://portal.example.org"


def settings(folder: Path, **more: Any) -> Settings:
    usual = {
        "run_dir": str(folder), "clusters": str(folder / "clusters.d"), "threads": 2, "idle_timeout": 300,
        "max_lifetime": 1000, "max_body": 10_000, "public_url": ORIGIN, "origin": ORIGIN, "metadata_url": "",
        "site_docs": str(folder / "agents.d"),
        "token_longest": None, "token_never": True, "token_scopes": scopes.ALL,
    }  # fmt: skip
    return Settings(**{**usual, **more})


class Pun:
    """The app and its surroundings. ``policy`` is the site's policy on tokens."""

    def __init__(self, folder: Path, policy: Policy | None = None, **more: Any) -> None:
        folder.chmod(0o700)
        self.signer = Signer()
        (folder / "pub").write_bytes(self.signer.public_pem())
        self.store = TokenStore(folder)
        clusters = folder / "clusters.d"
        clusters.mkdir()
        (clusters / "box.yml").write_text("v2:\n  job: {adapter: local}\n")
        (clusters / "cloud.yml").write_text("v2:\n  job: {adapter: kubernetes}\n")
        (clusters / "slow.yml").write_text("v2:\n  job: {adapter: slurm, bin: /nonexistent}\n")
        access = Access(Verifier(folder / "pub"), self.store, uid=1001)
        self.registrar = RegistrarClient(folder / "register.sock")
        manager = TokenManager(self.store, self.registrar, policy or Policy())
        given = settings(folder, **more)
        self.app = TestApp(served(App(access, ClusterFolder(clusters), Pages(PAGES, access, manager, given), given)))

    def headers(self, scope_names: tuple[str, ...] = scopes.ALL) -> dict[str, str]:
        token, _ = issue("x", scope_names)
        self.store.add(token)
        return {"X-Pun-Assertion": self.signer.sign(1001, "alice", "token", token.sha256, scopes.ALL)}

    def __call__(self, method: str, path: str, status: int, **more: Any) -> Any:
        headers = {**self.headers(more.pop("scopes", scopes.ALL)), **more.pop("headers", {})}
        return self.app.request(path, method=method, headers=headers, status=status, **more)

    def session(self, sid: str = "s1") -> dict[str, str]:
        """Return the headers of a signed-in browser."""
        return {"X-Pun-Assertion": self.signer.sign(1001, "alice", "session", None, (), sid)}

    def page(self, status: int = 200, path: str = "/settings/api_tokens", sid: str = "s1") -> Any:
        return self.app.get(path, headers=self.session(sid), status=status)

    def post(
        self, form: dict[str, Any], status: int, path: str = "", sid: str = "s1", headers: dict[str, str] | None = None
    ) -> Any:
        """Send a form, with its page's CSRF token unless the form has another."""
        form = {"csrf_token": form_field(self.page(sid=sid).text), **form}
        given = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin", **self.session(sid), **(headers or {})}
        return self.app.post(f"/settings/api_tokens{path}", form, headers=given, status=status)

    def made(self, form: dict[str, Any], sid: str = "s1") -> Any:
        """Return the page to which the form for a new token redirects."""
        return self.page(path=self.post(form, 303, sid=sid).headers["Location"], sid=sid)


def served(app: App) -> Callable[..., Any]:
    """Return the app with a server that blocks while a request waits."""

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        try:
            return app(environ, start_response)
        except Parked as parked:
            over = threading.Event()
            parked.wait.park(over.set)
            while not over.wait(0.05):
                app.long_poll.expire()
            return app({**environ, PARKED_CALL: parked.call}, start_response)

    return call


def form_field(page: str) -> str:
    """Return the CSRF token that is in every form of a page."""
    (value,) = set(re.findall(r'name="csrf_token" value="([0-9a-f]+)"', page))
    return str(value)
