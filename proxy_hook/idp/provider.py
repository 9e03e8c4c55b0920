"""The site's identity provider: what it says of itself, and whom its tokens prove. Runs in the hook.

OpenID Connect Discovery 1.0, RFC 7519 (JWT), RFC 9068 (access tokens). Only its own tokens are asked for its
keys; a provider that cannot be reached is no trouble of those who hold a token of the portal.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx2
import jwt

from proxy_hook.config import Idp
from proxy_hook.config_rules import is_safe_url
from proxy_hook.errors import HttpError, unauthorized
from proxy_hook.idp.keys import KeySet, usable_keys

REQUEST_TIMEOUT_S = 5.0
"""Seconds that the provider has for an answer."""
DISCOVERY_RETRY_S = 3.0
"""Seconds before a provider that did not answer is asked for its discovery document again."""
MAX_DOCUMENT_BYTES = 1024 * 1024
# Seconds that the provider's clock may be ahead of ours; a token's end is taken as it stands.
CLOCK_SKEW_S = 30
ACCESS_TOKEN_TYPES = ("jwt", "at+jwt", "application/at+jwt")


class IdentityProvider:
    """One issuer. Used from the hook's event loop alone."""

    def __init__(self, settings: Idp) -> None:
        self._settings = settings
        self._keys = KeySet(self._load_keys)
        self._document: dict[str, Any] | None = None
        self._asking = asyncio.Lock()
        self._not_before = 0.0
        self._client: httpx2.AsyncClient | None = None

    async def access_token(self, token: str) -> dict[str, Any]:
        """The claims of a bearer token that is for the API. Raises HttpError: 401, or 503 without the keys."""
        header, claims = await self._claims(token, self._settings.audience)
        kind = header.get("typ")
        if kind is not None and str(kind).lower() not in ACCESS_TOKEN_TYPES:
            raise _bad("it is no access token")
        # What has a nonce or a hash of an access token signs a browser in; Keycloak says it in words.
        if {"nonce", "at_hash", "c_hash"} & claims.keys() or claims.get("typ") in ("ID", "Refresh", "Logout"):
            raise _bad("it is an ID token; send the access token")
        if "cnf" in claims:
            raise _bad("it is bound to a key of its holder, which the portal does not check")
        return claims

    async def id_token(self, token: str, client_id: str, nonce: str) -> dict[str, Any]:
        """The claims of an ID token that answers our own question (OpenID Connect Core 1.0, 3.1.3.7)."""
        _, claims = await self._claims(token, client_id)
        if claims.get("nonce") != nonce:
            raise _bad("its nonce is not ours")
        others = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if (others or "azp" in claims) and claims.get("azp") != client_id:
            raise _bad("it was made for another client")
        return claims

    async def try_out(self) -> None:
        """Ask for everything that the portal will need of it. Raises OSError, which says what is wrong."""
        try:
            usable_keys(await self._load_keys())
        except ValueError as error:
            raise OSError(f"the identity provider's keys: {error}") from error
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connections to it."""
        if self._client:
            await self._client.aclose()

    async def endpoint(self, name: str) -> str:
        """An address of the discovery document, such as token_endpoint; empty when it has none. Raises OSError."""
        address = (await self._discover()).get(name, "")
        if address and not (isinstance(address, str) and is_safe_url(address)):
            raise OSError(f"the identity provider's {name} is no https address")
        return str(address)

    async def json(self, address: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """A JSON object at an address. Raises OSError."""
        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=REQUEST_TIMEOUT_S, follow_redirects=False, trust_env=False)
        content = b""
        try:
            async with self._client.stream("GET", address, headers=headers) as answer:
                answer.raise_for_status()
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > MAX_DOCUMENT_BYTES:
                        raise OSError(f"{address} answers with more than {MAX_DOCUMENT_BYTES} bytes")
            document = json.loads(content)
        except (httpx2.HTTPError, ValueError, RecursionError) as error:
            raise OSError(f"{address}: {error!r}") from error
        if not isinstance(document, dict):
            raise OSError(f"{address} is no JSON object")
        return document

    async def _claims(self, token: str, audience: str) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in self._settings.algorithms:
                raise _bad("it is signed in a way that the portal does not take")
            if "crit" in header:
                raise _bad("it has demands that the portal does not understand")
            key = await self._keys.key(header.get("kid"))
            if key.algorithm not in (None, header["alg"]):
                raise _bad("its key is for other signatures")
            claims: dict[str, Any] = jwt.decode(
                token,
                key.public,
                algorithms=list(self._settings.algorithms),
                audience=audience,
                issuer=self._settings.issuer,
                leeway=CLOCK_SKEW_S,
                options={"require": ["iss", "aud", "exp"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise _bad("it has expired") from error
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise _bad(str(error)) from error
        if int(claims["exp"]) <= time.time():
            raise _bad("it has expired")
        return header, claims

    async def _load_keys(self) -> dict[str, Any]:
        if not self._settings.jwks_url:
            await self._discover(anew=True)
        return await self.json(self._settings.jwks_url or await self.endpoint("jwks_uri"))

    async def _discover(self, *, anew: bool = False) -> dict[str, Any]:
        """The discovery document. Many who ask at once ask the provider once, and one that is down, now and then."""
        issuer = self._settings.issuer
        async with self._asking:
            if self._document and not anew:
                return self._document
            if time.monotonic() < self._not_before:
                raise OSError(f"{issuer} did not answer a moment ago")
            self._not_before = time.monotonic() + DISCOVERY_RETRY_S
            document = await self.json(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            if document.get("issuer") != issuer:
                raise OSError(
                    f"the provider calls itself {document.get('issuer')!r}, not {issuer!r} as idp.issuer does"
                )
            self._document, self._not_before = document, 0.0
            return document


def _bad(why: str) -> HttpError:
    return unauthorized(f"Invalid token of the identity provider: {why}", "invalid_token")
