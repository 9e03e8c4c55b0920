"""A fake identity provider over real HTTP, which can also send what an honest provider never would."""

from __future__ import annotations

import base64
import hmac
import json
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


@cache
def key_of(name: str) -> rsa.RSAPrivateKey:
    """Return a key for a name. It is created once per run, because that takes longer than most tests."""
    return rsa.generate_private_key(65537, 2048)


def public_jwk(key: rsa.RSAPrivateKey, kid: str) -> dict[str, Any]:
    jwk: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return {**jwk, "kid": kid, "use": "sig", "alg": "RS256"}


class FakeProvider:
    """A provider. ``asked`` lists the requested paths; ``tokens`` is the response of its token endpoint."""

    def __init__(self) -> None:
        self.key = key_of("provider")
        self.keys = [public_jwk(self.key, "one")]
        self.asked: list[str] = []
        self.posted: list[dict[str, str]] = []
        self.down = False
        self.tokens: tuple[int, dict[str, Any]] = (200, {})
        self.userinfo: dict[str, Any] = {}
        self.discovery: dict[str, Any] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.answer(self, b"")

            def do_POST(self) -> None:
                provider.answer(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self.asked.append(handler.path)
        if body:
            self.posted.append({key: values[0] for key, values in parse_qs(body.decode()).items()})
        status, document = 200, {}
        if self.down:
            status = 500
        elif handler.path == "/.well-known/openid-configuration":
            document = {
                "issuer": self.issuer, "jwks_uri": f"{self.issuer}/jwks", "token_endpoint": f"{self.issuer}/token",
                "authorization_endpoint": f"{self.issuer}/auth", "userinfo_endpoint": f"{self.issuer}/me", **self.discovery,
            }  # fmt: skip
        elif handler.path == "/jwks":
            document = {"keys": self.keys}
        elif handler.path == "/token":
            status, document = self.tokens
        elif handler.path == "/me":
            document = self.userinfo
        content = json.dumps(document).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def claims(self, **more: Any) -> dict[str, Any]:
        """Return the claims of a valid access token, with changes. A claim of None is left out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": "https://portal/api", "sub": "1", "exp": now + 300, "iat": now,
            "preferred_username": "daemon", "scope": "jobs:read clusters:read", **more,
        }  # fmt: skip
        return {key: value for key, value in claims.items() if value is not None}

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """Return a JWT that is signed with the provider's own key."""
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": "one", **header})

    def forge(self, claims: dict[str, Any], how: str) -> str:
        """Return a JWT that the provider did not sign, forged in one of the known ways."""
        theirs = key_of("forger")
        if how == "none":
            return jwt.encode(claims, "", algorithm="none", headers={"kid": "one"})
        if how == "hmac":
            # PyJWT refuses to use a public key as an HMAC secret, so the signature is computed here.
            pem = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            return _hmac_signed(claims, pem)
        ways: dict[str, dict[str, Any]] = {
            "other-key": {"kid": "one"},
            "unknown-kid": {"kid": "two"},
            "path-kid": {"kid": "../../../../dev/null"},
            "sql-kid": {"kid": "one' OR '1'='1"},
            "jku": {"kid": "two", "jku": f"{self.issuer}/theirs"},
            "x5u": {"kid": "two", "x5u": f"{self.issuer}/theirs"},
            "jwk": {"kid": "two", "jwk": public_jwk(theirs, "two")},
            "no-kid": {},
        }
        return jwt.encode(claims, theirs, algorithm="RS256", headers=ways[how])


FORGERIES = ("none", "hmac", "other-key", "unknown-kid", "path-kid", "sql-kid", "jku", "x5u", "jwk", "no-kid")


def _hmac_signed(claims: dict[str, Any], secret: bytes) -> str:
    def encoded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = encoded(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "one"}).encode())
    text = f"{head}.{encoded(json.dumps(claims).encode())}"
    return f"{text}.{encoded(hmac.new(secret, text.encode(), 'sha256').digest())}"
