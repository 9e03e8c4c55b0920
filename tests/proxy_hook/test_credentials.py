"""proxy_hook/credentials.py: exactly one credential."""

from __future__ import annotations

import pytest

from proxy_hook.credentials import BearerToken, credential
from proxy_hook.errors import HttpError

GOOD = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "value", [f"Bearer {GOOD}", f"bearer {GOOD}", f"BEARER   {GOOD} ", f"\tBearer {GOOD}", f"Bearer\t{GOOD}"]
)
def test_a_token_in_each_spelling_of_the_scheme(value: str) -> None:
    assert credential([(b"Host", b"x"), (b"Authorization", value.encode())]) == BearerToken(GOOD)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ([], 401, ""),
        ([b""], 401, ""),
        ([b"Bearer"], 401, ""),
        ([b"Basic abc"], 401, ""),
        ([f"Bearer {GOOD[1:]}".encode()], 401, "invalid_token"),
        ([f"Bearer {GOOD.upper()}".encode()], 401, "invalid_token"),
        ([b"Bearer \xff\xfe"], 401, "invalid_token"),
        ([f"Bearer {GOOD} {GOOD}".encode()], 401, "invalid_token"),
        # A blank is a space or a tab, and nothing else that latin-1 or Unicode has for one.
        *(
            ([b"Bearer" + blank + GOOD.encode()], 401, "")
            for blank in (b"\xa0", b"\x85", b"\xc2\xa0", b"\x0b", b"\x1c")
        ),
        *(
            ([b"Bearer " + blank + GOOD.encode()], 401, "invalid_token")
            for blank in (b"\xa0", b"\x85", b"\x0c", b"\x1f")
        ),
        *(
            ([b"Bearer " + GOOD.encode() + blank], 401, "invalid_token")
            for blank in (b"\xa0", b"\x85", b"\x0b", b"\x1e")
        ),
        ([f"Bearer {GOOD}".encode()] * 2, 400, "invalid_request"),
        ([f"Bearer {GOOD}, Bearer {GOOD}".encode()], 400, "invalid_request"),
    ],
)
def test_what_is_not_one_token(headers: list[bytes], status: int, code: str) -> None:
    """401 with the codes of RFC 6750, and 400 for two; never with what was sent."""
    with pytest.raises(HttpError) as denied:
        credential([(b"authorization", value) for value in headers])
    assert denied.value.status == status
    assert (f'error="{code}"' in denied.value.challenge) if code else ("error" not in denied.value.challenge)
    assert GOOD[1:] not in denied.value.message


def test_a_token_has_no_readable_form() -> None:
    assert GOOD not in repr(BearerToken(GOOD))
    assert GOOD not in f"{BearerToken(GOOD)}"
