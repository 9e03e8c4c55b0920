"""What can be wrong with a user's token file, or with what a token should be.

TokenError            a name or an expiry that no token of this site can have
└── ScopeNotAllowed   a scope that the site does not allow
StoreError            the token file cannot be used
├── StoreRefused      what lies there is not to be trusted or not to be understood: nobody is let in
├── StoreUnavailable  the home or its file system does not answer, is full, or is missing
└── NoSuchToken       the id that was named is not in the file

Each message is for the tokens' owner and says what to do.
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
