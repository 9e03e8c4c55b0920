"""The API Tokens page, which lists, makes and revokes tokens. This process writes the token file, as the user."""

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
    """The values of the form for a new token.

    ``wrong`` is the name of the field with an error, and ``reason`` is the error's message.
    """

    name: str = ""
    preset: str = "read"
    scopes: tuple[str, ...] = ()
    expires: str = "90d"
    date: str = ""
    wrong: str = ""
    reason: str = ""


def show(request: PageRequest) -> Page:
    """Show the list and the form, and the result of the form that redirected here.

    Tokens that another program has put into the file are registered. The query string may fill the form in and does
    nothing else, so that the typed values outlive an expired session.
    """
    try:
        request.manager.register_all()
    except (StoreError, RegistrarError) as error:
        log.warning("failed to register the tokens: %s", error)
    key = request.asked("new") or request.asked("done")
    notice = None if request.head_only else request.flashes.take(request.visitor.sid, key)
    if notice is None:
        # After a reload, for example. The text does not claim that a token was made: anybody can write this address.
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
    """Make a token, and redirect to the page that shows it once."""
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
        return _wrong(request, form, "expires", f"This expiry is not possible: {error}.")
    try:
        token, secret = request.manager.make(form.name, held, expires, request.origin)
    except TokenError:
        return _wrong(request, form, "name", f"Give the token a name: one line of 1 to {MAX_NAME_LENGTH} characters.")
    except (StoreError, RegistrarError) as error:
        return _failed(request, form, f"The token was not made: {error}.", error)
    return _redirect(request, "new", Notice("The token was made.", new=token, secret=secret))


def revoke(request: PageRequest) -> Page:
    """Revoke a token. A token that is already gone, for example revoked in another tab, is a success too."""
    try:
        token, warning = request.manager.revoke(request.given("id"), request.origin)
    except NoSuchToken:
        return _redirect(request, "done", Notice("This token had already been revoked. It no longer works."))
    except (StoreError, RegistrarError) as error:
        return _failed(request, None, f"The token was not revoked: {error}.", error)
    # An entry of the file that is not a token has no name.
    text = f"{'has' if token else 'The entry has'} been revoked; {warning or 'it no longer works'}."
    return _redirect(request, "done", Notice(text, revoked=token))


def _redirect(request: PageRequest, key_name: str, notice: Notice) -> Page:
    key = request.flashes.keep(request.visitor.sid, notice)
    return Page(303, location=f"{ADDRESS}?{key_name}={key}")


def _wrong(request: PageRequest, form: Form, field: str, reason: str) -> Page:
    form = replace(form, name=form.name[: MAX_NAME_LENGTH * 2], wrong=field, reason=reason)
    return _page(request, 422, Notice(), form)


def _failed(request: PageRequest, form: Form | None, text: str, error: Exception) -> Page:
    """Return the page with an error: 503 if a retry may succeed, 422 if the user has to correct something."""
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
    """Return the presets with the scopes that the site allows, without those that equal an earlier one."""
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
    """Return a command that works with the new token."""
    if new is None:
        return ""
    return f"curl -H 'Authorization: Bearer {secret}' '{request.settings.public_url}{scopes.first_request(new.scopes)}'"
