"""Tests that the messages on docs/admins/troubleshooting.md are messages of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("mcp_server", "proxy_hook", "pun_app", "punway", "spawner", "tokens")
NGINX_PREFIX = "bind() to"
"""The beginning of a message that is nginx's own."""
ASSEMBLED = {"the home directory does not answer": ("the home directory", " does not answer")}
"""A message that the code puts together, and its parts."""


def named_messages() -> list[str]:
    """Return the messages in the first column of the page's tables, with an ellipsis in place of what varies."""
    text = (ROOT / "docs" / "admins" / "troubleshooting.md").read_text(encoding="utf-8")
    cells = [row.split("|")[1] for row in text.splitlines() if row.startswith("| ")]
    messages = [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]
    return [message for message in messages if not message.startswith((NGINX_PREFIX, "/"))]


def texts_in_code() -> Iterator[str]:
    """Yield every string constant of the packages."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


@pytest.fixture(scope="module")
def code() -> str:
    return "\n".join(texts_in_code())


@pytest.mark.parametrize("message", named_messages())
def test_a_message_on_the_page_is_one_of_the_code(message: str, code: str) -> None:
    parts: list[str] | tuple[str, ...] = ASSEMBLED.get(message) or [
        part.strip() for part in message.removeprefix("punway: ").split("…") if part.strip(" .:,;")
    ]
    assert parts
    for part in parts:
        assert part in code, part
