"""The site's identity provider: its metadata, and the verification of its tokens. Runs in the hook.

It follows OpenID Connect Discovery 1.0, RFC 7519 (JWT) and RFC 9068 (access tokens). The provider is contacted only for
its own tokens, so an unreachable provider does not affect users with a Punway token.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
import jwt

from proxy_hook.config_keys import Idp
from proxy_hook.config_rules import is_safe_url
from proxy_hook.errors import HttpError, unauthorized
from proxy_hook.idp.keys import KeySet, usable_keys

REQUEST_TIMEOUT_S = 5.0
"""How long a request to the provider may take."""
DISCOVERY_RETRY_S = 3.0
"""How long a provider that did not respond is not asked for its discovery document again."""
MAX_DOCUMENT_BYTES = 1024 * 1024
# How far the provider's clock may be ahead. The expiry of a token has no tolerance.
CLOCK_SKEW_S = 30
ACCESS_TOKEN_TYPES = ("jwt", "at+jwt", "application/at+jwt")


class IdentityProvider:
    """An identity provider with one issuer. Used only from the hook's event loop.

    ``clock`` is monotonic, ``wall_clock`` gives Unix times, both in seconds.
    """

    def __init__(
        self,
        settings: Idp,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._wall_clock = wall_clock
        self._keys = KeySet(self._load_keys, clock)
        self._document: dict[str, Any] | None = None
        self._discovery_lock = asyncio.Lock()
        self._retry_at = clock()
        self._client: httpx2.AsyncClient | None = None

    async def verify_access_token(self, token: str) -> dict[str, Any]:
        """Return the claims of a bearer token for the API.

        Raises HttpError: 401 for an invalid token, 503 if the provider's keys cannot be fetched.
        """
        header, claims = await self._claims(token, self._settings.audience)
        kind = header.get("typ")
        if kind is not None and str(kind).lower() not in ACCESS_TOKEN_TYPES:
            raise _invalid("it is not an access token")
        # A token with a nonce, or a hash of an access token, is an ID token. Keycloak names the type in a claim.
        if {"nonce", "at_hash", "c_hash"} & claims.keys() or claims.get("typ") in ("ID", "Refresh", "Logout"):
            raise _invalid("it is an ID token; send the access token")
        if "cnf" in claims:
            raise _invalid("it is bound to a key of its holder (cnf), which the portal cannot verify")
        return claims

    async def verify_id_token(self, token: str, client_id: str, nonce: str) -> dict[str, Any]:
        """Return the claims of an ID token for a sign-in that this portal began.

        The checks are those of OpenID Connect Core 1.0, section 3.1.3.7. Raises HttpError: 401 or 503.
        """
        _, claims = await self._claims(token, client_id)
        if claims.get("nonce") != nonce:
            raise _invalid("its nonce is not that of this sign-in")
        others = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if (others or "azp" in claims) and claims.get("azp") != client_id:
            raise _invalid("it was issued to another client")
        return claims

    async def check(self) -> None:
        """Fetch the documents that the portal needs from the provider. Raises OSError, which says what is wrong."""
        try:
            usable_keys(await self._load_keys())
        except ValueError as error:
            raise OSError(f"the identity provider's keys: {error}") from error
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connections to the provider."""
        if self._client:
            await self._client.aclose()

    async def endpoint(self, name: str) -> str:
        """Return an address from the discovery document, such as token_endpoint, or "". Raises OSError."""
        address = (await self._discover()).get(name, "")
        if address and not (isinstance(address, str) and is_safe_url(address)):
            raise OSError(f"the identity provider's {name} is not an https address")
        return str(address)

    async def get_json(self, address: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Fetch a JSON object. Raises OSError."""
        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=REQUEST_TIMEOUT_S, follow_redirects=False, trust_env=False)
        content = b""
        try:
            async with self._client.stream("GET", address, headers=headers) as response:
                response.raise_for_status()
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > MAX_DOCUMENT_BYTES:
                        raise OSError(f"{address}: the response is larger than {MAX_DOCUMENT_BYTES} bytes")
            document = json.loads(content)
        except (httpx2.HTTPError, ValueError, RecursionError) as error:
            raise OSError(f"{address}: {error!r}") from error
        if not isinstance(document, dict):
            raise OSError(f"{address}: the response is not a JSON object")
        return document

    async def _claims(self, token: str, audience: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Verify a token's signature, issuer, audience and times. Return its header and claims. Raises HttpError."""
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in self._settings.algorithms:
                raise _invalid("the portal does not accept its signature algorithm")
            if "crit" in header:
                raise _invalid("it requires an extension that the portal does not support (crit)")
            key = await self._keys.key(header.get("kid"))
            if key.algorithm not in (None, header["alg"]):
                raise _invalid("its key is for another signature algorithm")
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
            raise _invalid("it has expired") from error
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise _invalid(str(error)) from error
        if int(claims["exp"]) <= self._wall_clock():
            raise _invalid("it has expired")
        return header, claims

    async def _load_keys(self) -> dict[str, Any]:
        if not self._settings.jwks_url:
            await self._discover(refresh=True)
        return await self.get_json(self._settings.jwks_url or await self.endpoint("jwks_uri"))

    async def _discover(self, *, refresh: bool = False) -> dict[str, Any]:
        """Return the discovery document. Raises OSError.

        Simultaneous callers share one request, and a provider that is down is asked only every DISCOVERY_RETRY_S.
        """
        issuer = self._settings.issuer
        async with self._discovery_lock:
            if self._document and not refresh:
                return self._document
            if self._clock() < self._retry_at:
                raise OSError(f"{issuer} did not answer a moment ago")
            self._retry_at = self._clock() + DISCOVERY_RETRY_S
            document = await self.get_json(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            if document.get("issuer") != issuer:
                raise OSError(f"the provider's issuer is {document.get('issuer')!r}, but idp.issuer is {issuer!r}")
            self._document, self._retry_at = document, self._clock()
            return document


def _invalid(reason: str) -> HttpError:
    return unauthorized(f"Invalid token of the identity provider: {reason}", "invalid_token")
