"""proxy_hook/credentials.py: a request must have exactly one credential."""

from __future__ import annotations

import pytest

from proxy_hook.credentials import BearerToken, Jwt, credential
from proxy_hook.errors import HttpError

GOOD = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "value",
    [f"Bearer {GOOD}", f"bearer {GOOD}", f"BEARER   {GOOD} ", f"\tBearer {GOOD}", f"Bearer\t{GOOD}"],
    ids=["usual", "lower case", "upper case and spaces", "leading tab", "tab"],
)
def test_a_token_in_each_spelling_of_the_scheme(value: str) -> None:
    assert credential([(b"Host", b"x"), (b"Authorization", value.encode())]) == BearerToken(GOOD)


# Only spaces and tabs separate scheme and token, and nothing else that latin-1 or Unicode treats as whitespace.
BLANKS = {"no-break space": b"\xa0", "next line": b"\x85", "UTF-8 no-break space": b"\xc2\xa0", "vertical tab": b"\x0b",
          "file separator": b"\x1c", "form feed": b"\x0c", "record separator": b"\x1e", "unit separator": b"\x1f"}  # fmt: skip
REFUSED: dict[str, tuple[list[bytes], int, str]] = {
    "no header": ([], 401, ""),
    "empty": ([b""], 401, ""),
    "scheme alone": ([b"Bearer"], 401, ""),
    "another scheme": ([b"Basic abc"], 401, ""),
    "a digit too few": ([f"Bearer {GOOD[1:]}".encode()], 401, "invalid_token"),
    "upper-case hex": ([f"Bearer {GOOD.upper()}".encode()], 401, "invalid_token"),
    "not text": ([b"Bearer \xff\xfe"], 401, "invalid_token"),
    "two tokens": ([f"Bearer {GOOD} {GOOD}".encode()], 401, "invalid_token"),
    "two headers": ([f"Bearer {GOOD}".encode()] * 2, 400, "invalid_request"),
    "two in one header": ([f"Bearer {GOOD}, Bearer {GOOD}".encode()], 400, "invalid_request"),
    **{f"{name} as separator": ([b"Bearer" + blank + GOOD.encode()], 401, "") for name, blank in BLANKS.items()},
    **{
        f"{name} before": ([b"Bearer " + blank + GOOD.encode()], 401, "invalid_token") for name, blank in BLANKS.items()
    },
    **{f"{name} after": ([b"Bearer " + GOOD.encode() + blank], 401, "invalid_token") for name, blank in BLANKS.items()},
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_one_token(case: str) -> None:
    """It is a 401 with the codes of RFC 6750, or a 400 for two credentials. The message never repeats the credential."""
    headers, status, code = REFUSED[case]
    with pytest.raises(HttpError) as refused:
        credential([(b"authorization", value) for value in headers])
    assert refused.value.status == status
    assert (f'error="{code}"' in refused.value.challenge) if code else ("error" not in refused.value.challenge)
    assert GOOD[1:] not in refused.value.message


@pytest.mark.parametrize("secret", [BearerToken(GOOD), Jwt(GOOD)], ids=["token", "JWT"])
def test_a_token_has_no_readable_form(secret: BearerToken | Jwt) -> None:
    assert GOOD not in repr(secret)
    assert GOOD not in f"{secret}"
