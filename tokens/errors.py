"""Errors about tokens and the token file. Each message is for the owner of the tokens and says what to do.

TokenError            the name, expiry or scope is not allowed for a token of this site
└── ScopeNotAllowed   the site does not allow the scope
StoreError            the token file cannot be used
├── StoreRefused      the file is unsafe or malformed, so no token in it is accepted
├── StoreUnavailable  the home directory or its file system does not respond, is full, or is missing
└── NoSuchToken       the file has no token with this id
"""

from __future__ import annotations


class TokenError(ValueError):
    pass


class ScopeNotAllowed(TokenError):
    pass


class StoreError(Exception):
    pass


class StoreRefused(StoreError):
    pass


class StoreUnavailable(StoreError):
    pass


class NoSuchToken(StoreError):
    pass
