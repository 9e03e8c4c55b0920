"""The addresses at which a browser signs in and out: /login, /login/…, /logout. Runs in the hook.

Each way ends in an account, for which the rules are asked (its PUN is started) before there is a session.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from proxy_hook import audit
from proxy_hook.accounts import Accounts, UnixAccount, UserMap
from proxy_hook.browser.oidc import CALLBACK_PATH, STATE_LIFETIME_S, OidcSignIn
from proxy_hook.browser.saved_form import FORM_COOKIE_AGE_S, query_from, saved_form_of
from proxy_hook.browser.sessions import Links, Session, Sessions
from proxy_hook.config import Config
from proxy_hook.errors import HttpError, forbidden
from proxy_hook.spawner_client import SpawnerClient
from proxy_hook.web import WebAnswer, WebRequest, cookie, page
from tokens.csrf import is_csrf_token, is_own_page

TOKENS_PAGE = "/settings/api_tokens"
LINK_PATH = "/login/once/"
EXPIRY_NOTICE_S = 86_400
"""Seconds after a session's end in which its browser is told that it has expired."""


class SignIn:
    """The ways that [login] switches on. ``front_secret`` is what login.header_secret_file holds."""

    def __init__(
        self,
        config: Config,
        sessions: Sessions,
        links: Links,
        accounts: Accounts,
        spawner: SpawnerClient,
        oidc: OidcSignIn | None,
        front_secret: str,
    ) -> None:
        self._config = config
        self._sessions = sessions
        self._links = links
        self._accounts = accounts
        self._spawner = spawner
        self._oidc = oidc
        self._front_secret = front_secret
        self._user_map = UserMap(config.idp.user_map)
        prefix = "__Host-" if config.secure else ""
        self._cookie, self._state_cookie = f"{prefix}punway", f"{prefix}punway-state"
        self._form_cookie = f"{prefix}punway-form"

    async def session(self, request: WebRequest) -> Session | None:
        """The request's session. One that the front's header began is good beside that header alone."""
        session = self._sessions.find(request.cookie(self._cookie) or "")
        if session and session.via == "header":
            return session if await self._named_by_front(request) == session.account.name else None
        return session

    async def answer(self, request: WebRequest) -> WebAnswer:
        """What the browser gets; never raises HttpError."""
        try:
            if request.method == "POST" and not is_own_page(
                request.header("origin"), request.header("sec-fetch-site"), self._config.origin
            ):
                raise forbidden(f"This form was not sent from a page of {self._config.origin}; open it there")
            method = "GET" if request.method == "HEAD" else request.method
            path = LINK_PATH if request.path.startswith(LINK_PATH) else request.path
            handler = ADDRESSES.get((method, path))
            if handler is None:
                known = any(path == address for _, address in ADDRESSES)
                raise (
                    HttpError(405, "", "This address does not take that")
                    if known
                    else HttpError(404, "", "No such page")
                )
            return await handler(self, request)
        except HttpError as no:
            return said_no(no)

    def expired(self, request: WebRequest) -> WebAnswer:
        """The way to sign in, from a page that needs a session. A form that was sent is kept by the browser."""
        answer = WebAnswer(303, location="/login")
        ours = is_own_page(request.header("origin"), request.header("sec-fetch-site"), self._config.origin)
        if request.method == "POST" and ours:
            kept = saved_form_of(request.fields)
            answer.cookies.append(cookie(self._form_cookie, kept, secure=self._config.secure, age=FORM_COOKIE_AGE_S))
        return answer

    async def _ways(self, request: WebRequest) -> WebAnswer:
        if await self.session(request):
            return WebAnswer(303, location=TOKENS_PAGE)
        if await self._named_by_front(request) is not None:
            return await self._enter(request, "header", self._by_front)
        login, idp = self._config.login, self._config.idp
        kept = request.cookie(self._form_cookie)
        return WebAnswer(
            200,
            page(
                "sign_in.html",
                site_url=self._config.portal.site_url,
                # Signing out takes the cookie away, so who still has one had a session.
                expired=kept is not None or request.cookie(self._cookie) is not None,
                undone=kept is not None,
                kept=bool(query_from(kept or "")),
                provider=(idp.title or urlsplit(idp.issuer).hostname) if login.oidc else "",
                link=login.link,
                header=login.header,
            ),
        )

    async def _to_provider(self, _request: WebRequest) -> WebAnswer:
        if self._oidc is None:
            raise HttpError(404, "not_found", "This portal has no sign-in with an identity provider")
        address, state = await self._oidc.begin()
        remember = cookie(self._state_cookie, state, secure=self._config.secure, age=STATE_LIFETIME_S)
        return WebAnswer(303, location=address, cookies=[remember])

    async def _from_provider(self, request: WebRequest) -> WebAnswer:
        answer = await self._enter(request, "oidc", self._by_provider)
        answer.cookies.append(cookie(self._state_cookie, "", secure=self._config.secure, age=0))
        return answer

    async def _ask_once(self, request: WebRequest) -> WebAnswer:
        """Only asks: programs that look at links in mails and chats must not use one up."""
        account = self._links.look(request.path.removeprefix(LINK_PATH))
        if account is None:
            raise _used()
        return WebAnswer(200, page("once.html", user=account.name, path=request.path))

    async def _once(self, request: WebRequest) -> WebAnswer:
        return await self._enter(request, "link", self._by_link)

    async def _sign_out(self, request: WebRequest) -> WebAnswer:
        session = await self.session(request)
        if session:
            if not is_csrf_token(request.form.get("csrf_token", ""), session.sid):
                raise forbidden("This form is not of your session; reload the page and try again")
            self._sessions.end(session)
            audit.record("sign-out", "ok", session.account.name, **request.origin)
        gone = [cookie(name, "", secure=self._config.secure, age=0) for name in (self._cookie, self._form_cookie)]
        return WebAnswer(303, location="/login/out", cookies=gone)

    async def _signed_out(self, _request: WebRequest) -> WebAnswer:
        return WebAnswer(200, page("message.html", title="You are signed out", message="", again="Sign in again"))

    async def _enter(
        self, request: WebRequest, via: str, prove: Callable[[WebRequest], Awaitable[UnixAccount]]
    ) -> WebAnswer:
        """A session for whom a way proves, and the way to the pages. Raises HttpError, and has it in the audit log."""
        account = None
        try:
            account = await prove(request)
            await self._spawner.socket_of(account)
        except HttpError as no:
            user = account.name if account else None
            audit.record("sign-in", "refused", user, via=via, reason=no.message, **request.origin)
            raise
        before = self._sessions.find(request.cookie(self._cookie) or "")
        if before:
            self._sessions.end(before)
        value = self._sessions.begin(account, via)
        audit.record("sign-in", "ok", account.name, via=via, **request.origin)
        # Longer than the session, so that its end can be told from a first visit.
        age = self._config.login.session_lifetime + EXPIRY_NOTICE_S
        answer = WebAnswer(303, location=TOKENS_PAGE)
        answer.cookies.append(cookie(self._cookie, value, secure=self._config.secure, age=age))
        kept = request.cookie(self._form_cookie)
        if kept is not None:
            query = query_from(kept)
            answer.location = f"{TOKENS_PAGE}?{query}" if query else TOKENS_PAGE
            answer.cookies.append(cookie(self._form_cookie, "", secure=self._config.secure, age=0))
        return answer

    async def _by_provider(self, request: WebRequest) -> UnixAccount:
        if self._oidc is None:
            raise HttpError(404, "not_found", "This portal has no sign-in with an identity provider")
        claim = await self._oidc.finish(request.query, request.cookie(self._state_cookie))
        return await self._accounts.named(self._user_map.name_of(claim))

    async def _by_link(self, request: WebRequest) -> UnixAccount:
        account = self._links.use(request.path.removeprefix(LINK_PATH))
        if account is None:
            raise _used()
        return account

    async def _by_front(self, request: WebRequest) -> UnixAccount:
        name = await self._named_by_front(request)
        return await self._accounts.named(name or "")

    async def _named_by_front(self, request: WebRequest) -> str | None:
        """Whom the trusted header names; None without it. Raises HttpError where it comes from elsewhere, or twice."""
        login = self._config.login
        name = request.header(login.header) if login.header else None
        if name is None:
            return None
        if not self._is_from_front(request):
            reason = f"{login.header} is not taken from here"
            audit.record("sign-in", "refused", None, via="header", reason=reason, **request.origin)
            raise forbidden(f"The header {login.header} is taken from the site's own front alone")
        return name

    def _is_from_front(self, request: WebRequest) -> bool:
        """Return whether the site's front sent this: by its secret, and by its address."""
        secret = request.header("x-punway-front-secret") or ""
        # Whoever reaches the hook's socket can say any address, so without a secret nothing is proved.
        if not self._front_secret or not hmac.compare_digest(secret.encode(), self._front_secret.encode()):
            return False
        try:
            # Not the client's address, which a balancer names: who sent the header is who connected.
            peer = ip_address(request.header("x-punway-direct-peer") or "")
        except ValueError:
            return False
        return any(peer in ip_network(network) for network in self._config.login.header_peers)


def _used() -> HttpError:
    return HttpError(410, "gone", "This link was used already, or is older than a minute; run punway login again")


ADDRESSES: dict[tuple[str, str], Callable[[SignIn, WebRequest], Awaitable[WebAnswer]]] = {
    ("GET", "/login"): SignIn._ways,
    ("GET", "/login/oidc"): SignIn._to_provider,
    ("GET", CALLBACK_PATH): SignIn._from_provider,
    ("GET", LINK_PATH): SignIn._ask_once,
    ("POST", LINK_PATH): SignIn._once,
    ("GET", "/login/out"): SignIn._signed_out,
    ("POST", "/logout"): SignIn._sign_out,
}
"""All that a browser without a session can ask of the portal. LINK_PATH stands for every address below it."""


def said_no(no: HttpError) -> WebAnswer:
    """A refusal as a page."""
    return WebAnswer(no.status, page("message.html", title="That did not work", message=no.message, again="Sign in"))


def said_no_elsewhere(request: WebRequest) -> WebAnswer:
    """The same for what the hook refused when nginx asked: nginx hands its answer back to be shown."""
    try:
        status, said = int(request.header("x-punway-status") or ""), json.loads(request.header("x-punway-answer") or "")
        return said_no(HttpError(status, said["error"], said["message"]))
    except (ValueError, LookupError, TypeError):
        return said_no(HttpError(503, "service_unavailable", "The portal did not answer in time; try again"))
