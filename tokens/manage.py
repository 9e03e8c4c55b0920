"""Make, revoke and replace a token, in its user's file and at the front, in the order that loses nothing.

Called by the API Tokens page and by ``punway token``, always with the user's own privilege.
"""

from __future__ import annotations

from datetime import timedelta

from tokens.errors import NoSuchToken, StoreError
from tokens.lifetime import Policy
from tokens.registrar_client import RegistrarClient, RegistrarError, RegistrarRefused
from tokens.scopes import common
from tokens.store import TokenStore, hashes
from tokens.token import Token, issue, utc_now

Origin = dict[str, str]
"""Where a change was asked for, for the audit log: ``address`` and ``request_id``, or nothing from a shell."""


class TokenManager:
    """One user's tokens, as that user may change them."""

    def __init__(self, store: TokenStore, registrar: RegistrarClient, policy: Policy) -> None:
        self.store = store
        self.policy = policy
        self._registrar = registrar

    def register_all(self) -> None:
        """Tell the front of every token in the file, of those that another program wrote there too.

        Raises StoreError and RegistrarError.
        """
        known = hashes(self.store.tokens())
        if known:
            self._registrar.add(known)

    def make(self, name: str, scopes: tuple[str, ...], expires: str, origin: Origin | None = None) -> tuple[Token, str]:
        """A new token and its secret: at the front first, so that one which is shown works.

        ``expires`` is as Policy.expiry takes it. Raises TokenError, StoreError and RegistrarError; nothing is
        made then.
        """
        self.policy.check_scopes(scopes)
        token, secret = issue(name, scopes, self.policy.expiry(expires))
        tokens = self.store.tokens()  # A file that will not do is told before anything is made.
        self._register(token, tokens, origin)
        try:
            self.store.add(token)
        except StoreError:
            self._registrar.drop([token.sha256], _note(token, origin))
            raise
        return token, secret

    def rotate(self, token_id: str, grace: timedelta, expires: str | None = None) -> tuple[Token, str]:
        """A successor with the same name and scopes (as far as the site allows them), and its secret.

        The old token lives on for ``grace``.

        The successor lives as long as the old one was made for, unless ``expires`` says otherwise. Raises
        as ``make`` does, and NoSuchToken.
        """
        tokens = self.store.tokens()
        old = _named(tokens, token_id)
        now = utc_now().replace(microsecond=0)
        if expires is not None or old.expires_at is None or old.created_at is None:
            ends = self.policy.expiry(expires or "never", now)
        else:
            ends = now + (old.expires_at - old.created_at)
            if self.policy.longest:
                ends = min(ends, now + self.policy.longest)
        token, secret = issue(old.name, common(old.scopes, self.policy.scopes), ends)
        self._register(token, tokens, None)
        try:
            self.store.succeed(old.id, token, now + grace)
        except StoreError:
            self._registrar.drop([token.sha256], _note(token, None))
            raise
        return token, secret

    def revoke(self, token_id: str, origin: Origin | None = None) -> tuple[Token | None, str]:
        """Take a token out of the file, and bar it at the front: either alone ends it.

        The token (None for an entry that is none), and a warning where only one of the two could be done.
        Raises StoreError or RegistrarError where neither could, NoSuchToken where the file has no such id.
        """
        token = next((token for token in self.store.tokens() if token.id == token_id), None)
        unbarred: RegistrarError | None = None
        try:
            if token:
                self._registrar.drop([token.sha256], _note(token, origin))
        except RegistrarError as error:
            unbarred = error
        try:
            self.store.remove(token_id)
        except StoreError as error:
            if token is None or unbarred:
                raise
            return token, f"it is barred at the portal, but still stands in the file: {error}"
        return token, f"it is gone from the file, but the portal could not be told: {unbarred}" if unbarred else ""

    def _register(self, token: Token, tokens: list[Token], origin: Origin | None) -> None:
        note = _note(token, origin)
        refused = self._registrar.add([token.sha256], note)
        if refused:
            # Routes of tokens that are gone from the file may have used the user's places up.
            self._registrar.keep(hashes(tokens))
            refused = self._registrar.add([token.sha256], note)
        if refused:
            raise RegistrarRefused(f"the portal did not take the token: {refused[0]}")


def _named(tokens: list[Token], token_id: str) -> Token:
    for token in tokens:
        if token.id == token_id:
            return token
    raise NoSuchToken(f"no token has the id {token_id}; see: punway token list")


def _note(token: Token, origin: Origin | None) -> dict[str, str]:
    return {"token_id": token.id, "token_name": token.name, **(origin or {})}
