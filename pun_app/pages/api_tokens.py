"""The API Tokens page: list, make, revoke. The file is written by this process, as its user."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from pun_app.pages.model import Notice, Page, PageRequest
from pun_app.pages.render import render
from tokens import scopes
from tokens.csrf import csrf_token
from tokens.errors import NoSuchToken, ScopeNotAllowed, StoreError, StoreUnavailable, TokenError
from tokens.registrar_client import RegistrarError
from tokens.scopes import UnknownScope
from tokens.token import MAX_NAME_LENGTH, Token, utc_now

log = logging.getLogger("punway.pun")

ADDRESS = "/settings/api_tokens"
LIFETIMES = {"30d": "30 days", "90d": "90 days", "1y": "1 year"}
_BEGINNING = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class Form:
    """What the form for a new token holds when the page is shown.

    ``wrong`` is the field that will not do, and ``reason`` says why.
    """

    name: str = ""
    preset: str = "read"
    scopes: tuple[str, ...] = ()
    expires: str = "90d"
    date: str = ""
    wrong: str = ""
    reason: str = ""


def show(request: PageRequest) -> Page:
    """The list and the form, with what the form that led here did.

    Tokens that another program has put into the file are told to the front.
    The query may fill the form in, and does nothing else: so what was typed outlives a session that has expired.
    """
    try:
        request.manager.register_all()
    except (StoreError, RegistrarError) as error:
        log.warning("the tokens could not be registered: %s", error)
    key = request.asked("new") or request.asked("done")
    notice = None if request.head_only else request.flashes.take(request.visitor.sid, key)
    if notice is None:
        # Of a reload, say. That a token was made is not claimed: anybody can write this address.
        text = "A new token is shown once. If you did not copy yours, revoke it and make another."
        notice = Notice(text if request.asked("new") else "")
    form = None
    if "preset" in request.query:
        form = _form(request.query)
    return _page(request, 200, notice, form)


def _form(fields: dict[str, list[str]]) -> Form:
    def one(name: str) -> str:
        values = fields.get(name, [])
        return values[0] if len(values) == 1 else ""

    return Form(
        name=one("name"),
        preset=one("preset"),
        scopes=tuple(fields.get("scope", [])),
        expires=one("expires"),
        date=one("date"),
    )


def make(request: PageRequest) -> Page:
    """Make a token, and lead to the page that shows it, once."""
    form = _form(request.form)
    try:
        asked = ",".join(form.scopes) if form.preset == "some" else form.preset
        held = scopes.parse(asked, request.manager.policy.scopes)
        request.manager.policy.check_scopes(held)
    except UnknownScope:
        return _wrong(request, form, "scopes", "Choose what the token may do: at least one of the scopes.")
    except ScopeNotAllowed as error:
        return _wrong(request, form, "scopes", f"Choose other scopes: {error}.")
    try:
        expires = form.date if form.expires == "date" else form.expires
        request.manager.policy.expiry(expires)
    except TokenError as error:
        return _wrong(request, form, "expires", f"That expiry will not do: {error}.")
    try:
        token, secret = request.manager.make(form.name, held, expires, request.origin)
    except TokenError:
        return _wrong(request, form, "name", f"Give the token a name: one line of 1 to {MAX_NAME_LENGTH} characters.")
    except (StoreError, RegistrarError) as error:
        return _failed(request, form, f"The token was not made: {error}.", error)
    return _redirect(request, "new", Notice("The token is made.", new=token, secret=secret))


def revoke(request: PageRequest) -> Page:
    """End a token. One that is gone already, by another tab say, is as good."""
    try:
        token, warning = request.manager.revoke(request.given("id"), request.origin)
    except NoSuchToken:
        return _redirect(request, "done", Notice("This token was gone already; nothing can use it."))
    except (StoreError, RegistrarError) as error:
        return _failed(request, None, f"The token was not revoked: {error}.", error)
    # An entry of the file that is no token has no name.
    text = f"{'' if token else 'The entry '}is revoked; {warning or 'nothing can use it any more'}."
    return _redirect(request, "done", Notice(text, revoked=token))


def _redirect(request: PageRequest, key_name: str, notice: Notice) -> Page:
    key = request.flashes.keep(request.visitor.sid, notice)
    return Page(303, location=f"{ADDRESS}?{key_name}={key}")


def _wrong(request: PageRequest, form: Form, field: str, reason: str) -> Page:
    form = replace(form, name=form.name[: MAX_NAME_LENGTH * 2], wrong=field, reason=reason)
    return _page(request, 422, Notice(), form)


def _failed(request: PageRequest, form: Form | None, text: str, error: Exception) -> Page:
    """503 for what may pass, 422 for what the user is to put right."""
    passing = isinstance(error, (StoreUnavailable, RegistrarError))
    return _page(request, 503 if passing else 422, Notice(text, is_error=True), form)


def _page(request: PageRequest, status: int, notice: Notice, form: Form | None = None) -> Page:
    policy, now = request.manager.policy, utc_now()
    tokens: list[Token] = []
    try:
        tokens = request.manager.store.tokens()
    except StoreError as error:
        if not notice.is_error:
            status = 503 if isinstance(error, StoreUnavailable) else 422
            notice = Notice(f"Your tokens cannot be read: {error}.", is_error=True)
    lifetimes = {value: title for value, title in LIFETIMES.items() if _is_allowed(request, value)}
    body = render(
        "api_tokens.html",
        user=request.visitor.user,
        csrf_token=csrf_token(request.visitor.sid),
        notice=notice,
        tokens=sorted(tokens, key=lambda token: token.created_at or _BEGINNING)[::-1],
        last_used=max((token.last_used_at for token in tokens if token.last_used_at), default=None),
        now=now,
        new=form or Form(expires="90d" if "90d" in lifetimes else next(iter(lifetimes), "date")),
        presets=_allowed_presets(policy.scopes),
        scopes={scope: scopes.SCOPES[scope] for scope in scopes.common(scopes.OFFERED, policy.scopes)},
        titles={held: title for title, held in reversed(scopes.PRESETS.values())},
        lifetimes=lifetimes,
        site_url=request.settings.site_url,
        never=policy.never,
        first_day=now.date().isoformat(),
        last_day=last.isoformat() if (last := policy.last_day(now)) else "",
        name_length=MAX_NAME_LENGTH,
        example=_example(request, notice.new, notice.secret),
    )
    return Page(status, body)


def _allowed_presets(allowed: tuple[str, ...]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return the presets with the scopes that the site allows; one that adds nothing to those before is left out."""
    presets: dict[str, tuple[str, tuple[str, ...]]] = {}
    for name, (title, held) in scopes.PRESETS.items():
        common = scopes.common(held, allowed)
        if common and all(common != others for _, others in presets.values()):
            presets[name] = title, common
    return presets


def _is_allowed(request: PageRequest, lifetime: str) -> bool:
    try:
        request.manager.policy.expiry(lifetime)
    except TokenError:
        return False
    return True


def _example(request: PageRequest, new: Token | None, secret: str) -> str:
    """A command that the new token may do."""
    if new is None:
        return ""
    return f"curl -H 'Authorization: Bearer {secret}' '{request.settings.public_url}{scopes.first_request(new.scopes)}'"
