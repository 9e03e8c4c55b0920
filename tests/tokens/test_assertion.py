"""tokens/assertion.py: the hook's signed statements about callers."""

from __future__ import annotations

import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.clock import Clock
from tokens import assertion as module
from tokens.assertion import InvalidAssertion, Signer, Verifier

CLAIMS = (1001, "alice", "token", "a" * 64, ("jobs:read",))


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    signer = Signer()
    (tmp_path / "pub").write_bytes(signer.public_pem())
    return signer


@pytest.fixture
def verifier(tmp_path: Path) -> Verifier:
    return Verifier(tmp_path / "pub")


def test_a_signed_assertion_is_read_back(signer: Signer, verifier: Verifier) -> None:
    for _ in range(2):
        read = verifier.verify(signer.sign(*CLAIMS), 1001)
        assert (read.uid, read.user, read.via, read.sha256, read.scopes) == CLAIMS


def test_an_assertion_for_another_uid_is_refused(signer: Signer, verifier: Verifier) -> None:
    """The assertion is refused even after it was verified, and cached, for its own uid."""
    signed = signer.sign(*CLAIMS)
    verifier.verify(signed, 1001)
    with pytest.raises(InvalidAssertion):
        verifier.verify(signed, 1002)


def test_an_expired_assertion_is_refused_even_if_the_clock_is_set_back(tmp_path: Path) -> None:
    """An assertion that is cached is refused as soon as it expires, also when the clock is set back by a day.

    PyJWT reads the real clock, so this test waits for the real end of an assertion.
    """
    clock = Clock(time.time() - module.LIFETIME_S + 2)
    signer = Signer(clock)
    (tmp_path / "pub").write_bytes(signer.public_pem())
    verifiers = [Verifier(tmp_path / "pub"), Verifier(tmp_path / "pub", now := Clock(time.time()))]
    signed = signer.sign(*CLAIMS)
    for verifier in verifiers:
        assert verifier.verify(signed, 1001).user == "alice"
    time.sleep(2.1)
    now.now -= 86_400
    for verifier in verifiers:
        with pytest.raises(InvalidAssertion):
            verifier.verify(signed, 1001)


def test_an_assertion_that_expired_before_it_arrived_is_refused(tmp_path: Path) -> None:
    signer = Signer(Clock(time.time() - 2 * module.LIFETIME_S))
    (tmp_path / "pub").write_bytes(signer.public_pem())
    with pytest.raises(InvalidAssertion):
        Verifier(tmp_path / "pub").verify(signer.sign(*CLAIMS), 1001)


def test_a_new_key_of_the_hook_is_taken(signer: Signer, verifier: Verifier, tmp_path: Path) -> None:
    """After a restart of the hook, assertions with the new key are accepted and those with the old key are not."""
    old = signer.sign(*CLAIMS)
    verifier.verify(old, 1001)
    second = Signer()
    (tmp_path / "pub").write_bytes(second.public_pem())
    assert verifier.verify(second.sign(*CLAIMS), 1001).user == "alice"
    with pytest.raises(InvalidAssertion):
        verifier.verify(signer.sign(1001, "alice", "token", "b" * 64, ()), 1001)


def claims(**changes: object) -> dict[str, object]:
    return {"iss": "punway-hook", "aud": "uid:1001", "sub": "alice", "via": "token", "sha256": "a" * 64, "scopes": [],
            "iat": 1, "exp": 4102444800, **changes}  # fmt: skip


def test_forgeries_are_refused(tmp_path: Path) -> None:
    """Refuse unsigned ones, other keys, the public key used as an HMAC secret, other issuers, and missing claims."""
    key = Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "pub").write_bytes(pem)
    verifier = Verifier(tmp_path / "pub")
    without_exp = {k: v for k, v in claims().items() if k != "exp"}
    forged = [
        "",
        "x.y.z",
        jwt.encode(claims(), "", algorithm="none"),
        jwt.encode(claims(), Ed25519PrivateKey.generate(), algorithm="EdDSA"),
        jwt.encode(claims(iss="someone"), key, algorithm="EdDSA"),
        jwt.encode(claims(aud="uid:1002"), key, algorithm="EdDSA"),
        jwt.encode(claims(exp=1), key, algorithm="EdDSA"),
        jwt.encode(without_exp, key, algorithm="EdDSA"),
        _hmac_with_public_key(pem),
    ]
    for signed in forged:
        with pytest.raises(InvalidAssertion):
            verifier.verify(signed, 1001)
    assert verifier.verify(jwt.encode(claims(), key, algorithm="EdDSA"), 1001).user == "alice"


def _hmac_with_public_key(pem: bytes) -> str:
    import base64
    import hashlib
    import hmac
    import json

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims()).encode())
    return (signed + b"." + part(hmac.new(pem, signed, hashlib.sha256).digest())).decode()


def test_without_the_hooks_key_nothing_is_good(tmp_path: Path, signer: Signer) -> None:
    for name, content in (("missing", None), ("garbage", b"no key")):
        if content:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidAssertion):
            Verifier(tmp_path / name).verify(signer.sign(*CLAIMS), 1001)


def test_the_cache_is_bounded(signer: Signer, verifier: Verifier) -> None:
    """Only the cache itself shows its number of assertions."""
    for number in range(3 * module.MAX_CACHED_ASSERTIONS):
        verifier.verify(signer.sign(1001, str(number), "token", None, ()), 1001)
    assert len(verifier._verified) <= module.MAX_CACHED_ASSERTIONS
