"""Sign-in and sign-out of browsers, at /login, /login/… and /logout. Runs in the hook.

Each way of signing in proves an account. The account's PUN is started before the session begins, so that the rules of
[pun] apply.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from proxy_hook import audit
from proxy_hook.accounts import Accounts, UnixAccount
from proxy_hook.browser.oidc import CALLBACK_PATH, STATE_LIFETIME_S, OidcSignIn
from proxy_hook.browser.pages import cookie, render
from proxy_hook.browser.saved_form import FORM_COOKIE_AGE_S, form_cookie_value, query_from
from proxy_hook.browser.sessions import Links, Session, Sessions
from proxy_hook.config import Config
from proxy_hook.errors import HttpError, forbidden
from proxy_hook.idp.user_map import UserMap
from proxy_hook.spawner_client import SpawnerClient
from proxy_hook.web import WebRequest, WebResponse
from tokens.csrf import is_csrf_token, is_own_page

TOKENS_PAGE = "/settings/api_tokens"
LINK_PATH = "/login/once/"
"""The beginning of every one-time link's path. The code follows."""
EXPIRY_NOTICE_S = 86_400
"""How long after the end of a session the sign-in page says that it has expired."""


class SignIn:
    """The ways of signing in that [login] enables. ``front_secret`` is the content of login.header_secret_file."""

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
        """Return the session of a request, or None. Raises HttpError if login.header is untrusted or occurs twice.

        A session that login.header began is valid only together with that header.
        """
        session = self._sessions.find(request.cookie(self._cookie) or "")
        if session and session.via == "header":
            return session if await self._user_in_header(request) == session.account.name else None
        return session

    async def respond(self, request: WebRequest) -> WebResponse:
        """Respond to a browser. Errors become pages, so this never raises HttpError."""
        try:
            if request.method == "POST" and not self._is_from_own_page(request):
                raise forbidden(f"This form was not sent from a page of {self._config.origin}; open the form there")
            method = "GET" if request.method == "HEAD" else request.method
            path = LINK_PATH if request.path.startswith(LINK_PATH) else request.path
            handler = ROUTES.get((method, path))
            if handler is None:
                if any(path == other for _, other in ROUTES):
                    raise HttpError(405, "method_not_allowed", f"{path} does not accept {method} requests")
                raise HttpError(404, "not_found", "Page not found. Check the address.")
            return await handler(self, request)
        except HttpError as error:
            return error_page(error)

    def expired(self, request: WebRequest) -> WebResponse:
        """Redirect to the sign-in page from a page that needs a session. A form that was sent is saved in a cookie."""
        response = WebResponse(303, location="/login")
        if request.method == "POST" and self._is_from_own_page(request):
            saved = form_cookie_value(request.fields)
            response.cookies.append(cookie(self._form_cookie, saved, secure=self._config.secure, age=FORM_COOKIE_AGE_S))
        return response

    def _is_from_own_page(self, request: WebRequest) -> bool:
        return is_own_page(request.header("origin"), request.header("sec-fetch-site"), self._config.origin)

    async def _show_ways(self, request: WebRequest) -> WebResponse:
        if await self.session(request):
            return WebResponse(303, location=TOKENS_PAGE)
        if await self._user_in_header(request) is not None:
            return await self._begin_session(request, "header", self._by_header)
        login, idp = self._config.login, self._config.idp
        saved = request.cookie(self._form_cookie)
        return WebResponse(
            200,
            render(
                "sign_in.html",
                site_url=self._config.portal.site_url,
                # Signing out deletes the cookie, so a browser that still has one had a session that expired.
                expired=saved is not None or request.cookie(self._cookie) is not None,
                form_was_sent=saved is not None,
                form_is_saved=bool(query_from(saved or "")),
                provider=(idp.title or urlsplit(idp.issuer).hostname) if login.oidc else "",
                link=login.link,
                header=login.header,
            ),
        )

    async def _send_to_provider(self, _request: WebRequest) -> WebResponse:
        if self._oidc is None:
            raise HttpError(404, "not_found", "This portal does not use an identity provider for signing in")
        address, state = await self._oidc.begin()
        state_cookie = cookie(self._state_cookie, state, secure=self._config.secure, age=STATE_LIFETIME_S)
        return WebResponse(303, location=address, cookies=[state_cookie])

    async def _return_from_provider(self, request: WebRequest) -> WebResponse:
        response = await self._begin_session(request, "oidc", self._by_provider)
        response.cookies.append(cookie(self._state_cookie, "", secure=self._config.secure, age=0))
        return response

    async def _confirm_link(self, request: WebRequest) -> WebResponse:
        """Ask the user to confirm. Programs that preview links in mails and chats must not use the link up."""
        account = self._links.look(request.path.removeprefix(LINK_PATH))
        if account is None:
            raise _invalid_link()
        return WebResponse(200, render("once.html", user=account.name, path=request.path))

    async def _use_link(self, request: WebRequest) -> WebResponse:
        return await self._begin_session(request, "link", self._by_link)

    async def _sign_out(self, request: WebRequest) -> WebResponse:
        session = await self.session(request)
        if session:
            if not is_csrf_token(request.form.get("csrf_token", ""), session.sid):
                raise forbidden("This form belongs to another session; reload the page and try again")
            self._sessions.end(session)
            audit.record("sign-out", "ok", session.account.name, **request.origin)
        deleted = [cookie(name, "", secure=self._config.secure, age=0) for name in (self._cookie, self._form_cookie)]
        return WebResponse(303, location="/login/out", cookies=deleted)

    async def _signed_out(self, _request: WebRequest) -> WebResponse:
        return WebResponse(
            200, render("message.html", title="You are signed out", message="", link_text="Sign in again")
        )

    async def _begin_session(
        self, request: WebRequest, via: str, prove: Callable[[WebRequest], Awaitable[UnixAccount]]
    ) -> WebResponse:
        """Begin a session for the account that ``prove`` returns, and redirect to the pages.

        Success and failure are recorded in the audit log. Raises HttpError.
        """
        account = None
        try:
            account = await prove(request)
            await self._spawner.socket_of(account)
        except HttpError as error:
            user = account.name if account else None
            audit.record("sign-in", "refused", user, via=via, reason=error.message, **request.origin)
            raise
        previous = self._sessions.find(request.cookie(self._cookie) or "")
        if previous:
            self._sessions.end(previous)
        value = self._sessions.begin(account, via)
        audit.record("sign-in", "ok", account.name, via=via, **request.origin)
        # The cookie outlives the session, so that an expired session can be distinguished from a first visit.
        age = self._config.login.session_lifetime + EXPIRY_NOTICE_S
        response = WebResponse(303, location=TOKENS_PAGE)
        response.cookies.append(cookie(self._cookie, value, secure=self._config.secure, age=age))
        saved = request.cookie(self._form_cookie)
        if saved is not None:
            query = query_from(saved)
            response.location = f"{TOKENS_PAGE}?{query}" if query else TOKENS_PAGE
            response.cookies.append(cookie(self._form_cookie, "", secure=self._config.secure, age=0))
        return response

    async def _by_provider(self, request: WebRequest) -> UnixAccount:
        if self._oidc is None:
            raise HttpError(404, "not_found", "This portal does not use an identity provider for signing in")
        claim = await self._oidc.finish(request.query, request.cookie(self._state_cookie))
        return await self._accounts.named(self._user_map.user_of(claim))

    async def _by_link(self, request: WebRequest) -> UnixAccount:
        account = self._links.use(request.path.removeprefix(LINK_PATH))
        if account is None:
            raise _invalid_link()
        return account

    async def _by_header(self, request: WebRequest) -> UnixAccount:
        name = await self._user_in_header(request)
        return await self._accounts.named(name or "")

    async def _user_in_header(self, request: WebRequest) -> str | None:
        """Return the user that login.header names; None without the header.

        Raises HttpError if the header does not come from the site's front-end proxy (403), or occurs twice (400).
        """
        login = self._config.login
        name = request.header(login.header) if login.header else None
        if name is None:
            return None
        if not self._is_from_front(request):
            reason = f"{login.header} is not accepted from this address, or without the right secret"
            audit.record("sign-in", "refused", None, via="header", reason=reason, **request.origin)
            raise forbidden(
                f"The header {login.header} is accepted only from the site's front-end proxy; sign in there"
            )
        return name

    def _is_from_front(self, request: WebRequest) -> bool:
        """Return whether the site's front-end proxy sent the request, by its secret and its address."""
        secret = request.header("x-punway-front-secret") or ""
        # A process that can reach the hook's socket can claim any address, so an address without the secret proves
        # nothing.
        if not self._front_secret or not hmac.compare_digest(secret.encode(), self._front_secret.encode()):
            return False
        try:
            # This is the address that connected to nginx, not that of the client, which a balancer reports.
            peer = ip_address(request.header("x-punway-direct-peer") or "")
        except ValueError:
            return False
        return any(peer in ip_network(network) for network in self._config.login.header_peers)


def _invalid_link() -> HttpError:
    return HttpError(
        410, "gone", "This link was used already, or is older than a minute; run punway login again for a new link"
    )


ROUTES: dict[tuple[str, str], Callable[[SignIn, WebRequest], Awaitable[WebResponse]]] = {
    ("GET", "/login"): SignIn._show_ways,
    ("GET", "/login/oidc"): SignIn._send_to_provider,
    ("GET", CALLBACK_PATH): SignIn._return_from_provider,
    ("GET", LINK_PATH): SignIn._confirm_link,
    ("POST", LINK_PATH): SignIn._use_link,
    ("GET", "/login/out"): SignIn._signed_out,
    ("POST", "/logout"): SignIn._sign_out,
}
"""Every address for browsers without a session. LINK_PATH stands for all addresses below it."""


def error_page(error: HttpError) -> WebResponse:
    """Return an error as a page."""
    page = render("message.html", title="That did not work", message=error.message, link_text="Sign in")
    return WebResponse(error.status, page)


def error_page_from_nginx(request: WebRequest) -> WebResponse:
    """Return the page for an error with which the hook answered an auth request.

    nginx sends status and body of that answer back to the hook in headers.
    """
    try:
        status = int(request.header("x-punway-status") or "")
        body = json.loads(request.header("x-punway-answer") or "")
        return error_page(HttpError(status, body["error"], body["message"]))
    except (ValueError, LookupError, TypeError):
        return error_page(HttpError(503, "service_unavailable", "The portal did not answer in time; try again"))
