"""The operations on a user's tokens: create, replace and revoke them, in the user's token file and at the hook.

Each operation does its two parts in an order that leaves no token half created or half revoked if one part fails. The
API Tokens page and ``punway token`` call this module, always with the user's own privilege.
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
"""The origin of a change, for the audit log: ``address`` and ``request_id`` of a browser, or nothing from a shell."""


class TokenManager:
    """The operations of one user on that user's tokens."""

    def __init__(self, store: TokenStore, registrar: RegistrarClient, policy: Policy) -> None:
        self.store = store
        self.policy = policy
        self._registrar = registrar

    def register_all(self) -> None:
        """Register every token of the file, including those that other programs wrote into it.

        Raises StoreError and RegistrarError.
        """
        known = hashes(self.store.tokens())
        if known:
            self._registrar.add(known)

    def make(self, name: str, scopes: tuple[str, ...], expires: str, origin: Origin | None = None) -> tuple[Token, str]:
        """Create a token. Return it with its secret.

        It is registered first and stored second, so every token that is shown to its user works. ``expires`` is a text
        as for Policy.expiry. Raises TokenError, StoreError or RegistrarError if no token was created.
        """
        self.policy.check_scopes(scopes)
        token, secret = issue(name, scopes, self.policy.expiry(expires))
        tokens = self.store.tokens()  # Raises an error about an unusable file before anything is created.
        self._register(token, tokens, origin)
        try:
            self.store.add(token)
        except StoreError:
            self._registrar.revoke([token.sha256], _audit_info(token, origin))
            raise
        return token, secret

    def rotate(self, token_id: str, grace: timedelta, expires: str | None = None) -> tuple[Token, str]:
        """Replace a token by a new one with the same name and scopes. Return the new one with its secret.

        The new token has only those scopes that the site allows today. It gets the lifetime that the old one was
        created with, unless ``expires`` says otherwise. The old token expires after ``grace``. Raises the errors of
        ``make``, and NoSuchToken.
        """
        tokens = self.store.tokens()
        old = _find(tokens, token_id)
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
            self._registrar.revoke([token.sha256], _audit_info(token, None))
            raise
        return token, secret

    def revoke(self, token_id: str, origin: Origin | None = None) -> tuple[Token | None, str]:
        """Revoke a token at the hook and remove it from the file. Either of the two makes the token unusable.

        Return the token (None for an entry that is not a valid token), and a warning if only one of the two succeeded.
        Raises StoreError or RegistrarError if both failed, and NoSuchToken if the file has no such id.
        """
        token = next((token for token in self.store.tokens() if token.id == token_id), None)
        registrar_error: RegistrarError | None = None
        try:
            if token:
                self._registrar.revoke([token.sha256], _audit_info(token, origin))
        except RegistrarError as error:
            registrar_error = error
        try:
            self.store.remove(token_id)
        except StoreError as error:
            if token is None or registrar_error:
                raise
            return token, f"the portal no longer accepts the token, but it is still in your file: {error}"
        if registrar_error:
            return (
                token,
                f"the token was removed from your file, but the portal could not be informed: {registrar_error}",
            )
        return token, ""

    def _register(self, token: Token, tokens: list[Token], origin: Origin | None) -> None:
        audit_info = _audit_info(token, origin)
        refused = self._registrar.add([token.sha256], audit_info)
        if refused:
            # Routes of tokens that are no longer in the file may have used up the user's limit.
            self._registrar.release_others(hashes(tokens))
            refused = self._registrar.add([token.sha256], audit_info)
        if refused:
            raise RegistrarRefused(f"the portal did not accept the token: {refused[0]}")


def _find(tokens: list[Token], token_id: str) -> Token:
    for token in tokens:
        if token.id == token_id:
            return token
    raise NoSuchToken(f"no token has the id {token_id}; list your tokens with: punway token list")


def _audit_info(token: Token, origin: Origin | None) -> dict[str, str]:
    return {"token_id": token.id, "token_name": token.name, **(origin or {})}
