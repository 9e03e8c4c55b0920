"""The API Tokens page: list, make, revoke. The file is written by this process, as its user."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timezone

from pun_app.pages.model import Page, PageRequest
from pun_app.pages.render import render
from tokens import scopes
from tokens.errors import NoSuchToken, ScopeNotAllowed, StoreError, StoreUnavailable, TokenError
from tokens.forms import form_token
from tokens.register import RegistrarError
from tokens.scopes import UnknownScope
from tokens.token import NAME_LENGTH, Token, utc_now

log = logging.getLogger("punway.pun")

ADDRESS = "/settings/api_tokens"
LIFETIMES = {"30d": "30 days", "90d": "90 days", "1y": "1 year"}
_BEGINNING = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class Form:
    """What the form for a new token holds when the page is shown; ``wrong`` is the field that will not do."""

    name: str = ""
    preset: str = "read"
    scopes: tuple[str, ...] = ()
    expires: str = "90d"
    date: str = ""
    wrong: str = ""


@dataclass(frozen=True)
class Notice:
    """What the page says first. ``new`` and ``secret`` are set when a token was made: the one time it is shown."""

    text: str = ""
    is_error: bool = False
    new: Token | None = None
    secret: str = ""


def show(request: PageRequest) -> Page:
    """The list and the form. Tokens that another program has put into the file are told to the front."""
    try:
        request.manager.register_all()
    except (StoreError, RegistrarError) as error:
        log.warning("the tokens could not be registered: %s", error)
    revoked = "revoked" in request.query
    return _page(request, 200, Notice("The token is revoked; nothing can use it any more.") if revoked else Notice())


def make(request: PageRequest) -> Page:
    """Make a token, and show it in this very answer, once."""
    form = Form(
        name=request.given("name"),
        preset=request.given("preset"),
        scopes=tuple(request.form.get("scope", [])),
        expires=request.given("expires"),
        date=request.given("date"),
    )
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
        return _wrong(request, form, "name", f"Give the token a name: one line of 1 to {NAME_LENGTH} characters.")
    except (StoreError, RegistrarError) as error:
        return _failed(request, form, f"The token was not made: {error}.", error)
    return _page(request, 200, Notice("The token is made.", new=token, secret=secret))


def revoke(request: PageRequest) -> Page:
    """End a token. One that is gone already, by another tab say, is as good."""
    try:
        _, warning = request.manager.revoke(request.given("id"), request.origin)
    except NoSuchToken:
        warning = ""
    except (StoreError, RegistrarError) as error:
        return _failed(request, Form(), f"The token was not revoked: {error}.", error)
    if warning:
        return _page(request, 200, Notice(f"The token is revoked; {warning}."))
    return Page(303, location=f"{ADDRESS}?revoked=1")


def _wrong(request: PageRequest, form: Form, field: str, text: str) -> Page:
    form = Form(form.name[: NAME_LENGTH * 2], form.preset, form.scopes, form.expires, form.date, field)
    return _page(request, 422, Notice(text, is_error=True), form)


def _failed(request: PageRequest, form: Form, text: str, error: Exception) -> Page:
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
        form=form_token(request.visitor.sid),
        notice=notice,
        tokens=sorted(tokens, key=lambda token: token.created_at or _BEGINNING)[::-1],
        last_used=max((token.last_used_at for token in tokens if token.last_used_at), default=None),
        now=now,
        new=form or Form(expires="90d" if "90d" in lifetimes else next(iter(lifetimes), "date")),
        presets=_allowed_presets(policy.scopes),
        scopes={scope: scopes.SCOPES[scope] for scope in scopes.common(scopes.OFFERED, policy.scopes)},
        titles={held: title for title, held in scopes.PRESETS.values()},
        lifetimes=lifetimes,
        never=policy.never,
        first_day=now.date().isoformat(),
        last_day=last.isoformat() if (last := policy.last_day(now)) else "",
        name_length=NAME_LENGTH,
        example=_example(request, notice.new, notice.secret),
    )
    return Page(status, body)


def _allowed_presets(allowed: tuple[str, ...]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return the presets with the scopes that the site allows; one that would be empty is left out."""
    presets = {name: (title, scopes.common(held, allowed)) for name, (title, held) in scopes.PRESETS.items()}
    return {name: preset for name, preset in presets.items() if preset[1]}


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
