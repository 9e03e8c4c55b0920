"""tokens/assertion.py: the hook's signed note."""

from __future__ import annotations

from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

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


def test_what_is_signed_is_read(signer: Signer, verifier: Verifier) -> None:
    for _ in range(2):
        said = verifier.verify(signer.sign(*CLAIMS), 1001)
        assert (said.uid, said.user, said.via, said.sha256, said.scopes) == CLAIMS


def test_another_uids_note_is_refused(signer: Signer, verifier: Verifier) -> None:
    """Also one that was verified before, for its own uid."""
    note = signer.sign(*CLAIMS)
    verifier.verify(note, 1001)
    with pytest.raises(InvalidAssertion):
        verifier.verify(note, 1002)


def test_an_old_note_is_refused(signer: Signer, verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is remembered from when it was good."""
    note = signer.sign(*CLAIMS)
    verifier.verify(note, 1001)
    now = module.time.time()
    monkeypatch.setattr(module.time, "time", lambda: now - 2 * module.LIFETIME_S)
    old = signer.sign(*CLAIMS)
    monkeypatch.setattr(module.time, "time", lambda: now + module.LIFETIME_S + 1)
    for late in (old,):
        with pytest.raises(InvalidAssertion):
            verifier.verify(late, 1001)


def test_a_clock_that_is_set_back_makes_no_note_good_for_longer(
    signer: Signer, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is remembered is verified again: by the clock as it is now, it is of the future."""
    note = signer.sign(*CLAIMS)
    verifier.verify(note, 1001)
    now = module.time.time()
    monkeypatch.setattr(module.time, "time", lambda: now - 86_400)

    def decode(*_: object) -> None:
        raise jwt.ImmatureSignatureError  # The library has a clock of its own.

    monkeypatch.setattr(verifier, "_decode", decode)
    with pytest.raises(InvalidAssertion):
        verifier.verify(note, 1001)


def test_a_remembered_note_is_forgotten_when_it_expires(
    signer: Signer, verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = module.time.time()
    monkeypatch.setattr(module.time, "time", lambda: now - module.LIFETIME_S - 5)
    note = signer.sign(*CLAIMS)
    monkeypatch.setattr(module.time, "time", lambda: now)
    remembered = module.Assertion(1001, "alice", "token", "a" * 64, (), None, int(now) - 5)
    verifier._verified[note] = remembered
    with pytest.raises(InvalidAssertion):
        verifier.verify(note, 1001)


def test_a_new_key_of_the_hook_is_taken(signer: Signer, verifier: Verifier, tmp_path: Path) -> None:
    """The hook was started again: its notes are read, and the old key's are not any more."""
    old = signer.sign(*CLAIMS)
    verifier.verify(old, 1001)
    second = Signer()
    (tmp_path / "pub").write_bytes(second.public_pem())
    assert verifier.verify(second.sign(*CLAIMS), 1001).user == "alice"
    with pytest.raises(InvalidAssertion):
        verifier.verify(signer.sign(1001, "alice", "token", "b" * 64, ()), 1001)


def forge(**changes: object) -> dict[str, object]:
    return {"iss": "punway-hook", "aud": "uid:1001", "sub": "alice", "via": "token", "sha256": "a" * 64, "scopes": [],
            "iat": 1, "exp": 4102444800, **changes}  # fmt: skip


def test_forgeries_are_refused(signer: Signer, verifier: Verifier, tmp_path: Path) -> None:
    """No signature, another's, the public key as an HMAC secret, another issuer, claims left out."""
    pem = (tmp_path / "pub").read_bytes()
    key = signer._key
    without_exp = {k: v for k, v in forge().items() if k != "exp"}
    notes = [
        "",
        "x.y.z",
        jwt.encode(forge(), "", algorithm="none"),
        jwt.encode(forge(), Ed25519PrivateKey.generate(), algorithm="EdDSA"),
        jwt.encode(forge(iss="someone"), key, algorithm="EdDSA"),
        jwt.encode(forge(aud="uid:1002"), key, algorithm="EdDSA"),
        jwt.encode(forge(exp=1), key, algorithm="EdDSA"),
        jwt.encode(without_exp, key, algorithm="EdDSA"),
        _hmac_with_public_key(pem),
    ]
    for note in notes:
        with pytest.raises(InvalidAssertion):
            verifier.verify(note, 1001)
    assert verifier.verify(jwt.encode(forge(), key, algorithm="EdDSA"), 1001).user == "alice"


def _hmac_with_public_key(pem: bytes) -> str:
    import base64
    import hashlib
    import hmac
    import json

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(forge()).encode())
    return (signed + b"." + part(hmac.new(pem, signed, hashlib.sha256).digest())).decode()


def test_without_the_hooks_key_nothing_is_good(tmp_path: Path, signer: Signer) -> None:
    for name, content in (("missing", None), ("garbage", b"no key")):
        if content:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidAssertion):
            Verifier(tmp_path / name).verify(signer.sign(*CLAIMS), 1001)


def test_only_so_many_are_remembered(signer: Signer, verifier: Verifier) -> None:
    for number in range(3 * module.MAX_CACHED_ASSERTIONS):
        verifier.verify(signer.sign(1001, str(number), "token", None, ()), 1001)
    assert len(verifier._verified) <= module.MAX_CACHED_ASSERTIONS
