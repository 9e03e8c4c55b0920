"""tokens/csrf.py: a form must carry its session's CSRF token and come from the portal's own pages."""

from __future__ import annotations

import pytest

from tokens.csrf import csrf_token, is_csrf_token, is_own_page

OURS = "https://portal.example.org"


def test_a_forms_token_is_its_sessions_alone() -> None:
    assert is_csrf_token(csrf_token("s1"), "s1")
    for given in (csrf_token("s2"), "s1", "", "é", csrf_token("s1")[:-1], csrf_token("s1").upper()):
        assert not is_csrf_token(given, "s1"), given
    assert "s1" not in csrf_token("s1")


@pytest.mark.parametrize(
    ("origin", "site", "own"),
    [(OURS, "same-origin", True), (OURS, None, True), (None, None, True), (None, "same-origin", True), ("", "", True),
     ("null", None, False), ("https://evil.example", None, False), (OURS, "cross-site", False), (None, "same-site", False),
     (None, "none", False), (f"{OURS}.evil.example", None, False), (OURS.upper(), None, False), (f"{OURS}/", None, False)],
)  # fmt: skip
def test_own_pages(origin: str | None, site: str | None, own: bool) -> None:
    assert is_own_page(origin, site, OURS) is own
