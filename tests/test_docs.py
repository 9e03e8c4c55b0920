"""What the documentation says is so: tests, routes, commands and keys that it names are there, and the other way round."""

from __future__ import annotations

import re
from pathlib import Path

from pun_app.routes import ROUTES
from tokens.scopes import SCOPES

ROOT = Path(__file__).parents[1]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_each_line_of_what_must_never_happen_names_tests_that_exist() -> None:
    rows = re.findall(r"^\| \d+ \|.*", read("docs/security.md"), re.MULTILINE)
    assert len(rows) == 10
    for row in rows:
        named = row.split("|")[3]
        assert named.strip()
        file = ""
        for word in re.findall(r"`([^`]+)`", named):
            if word.endswith(".py"):
                file = word
                assert (ROOT / file).is_file(), file
            else:
                assert f"def {word}(" in read(file), word


def test_the_readme_lists_every_route_with_its_scope() -> None:
    rows = [line for line in read("README.md").splitlines() if line.startswith("| `")]
    for route in ROUTES:
        path = route.path.replace("<id>", ":id").removeprefix("/api/v1/jobs/:id")
        row = next(
            row for row in rows if f"`{route.scope}`" in row and path in row and (path or "/api/v1/jobs/:id" in row)
        )
        assert route.method in row


def test_the_documents_that_are_named_are_there() -> None:
    for name in ("README.md", *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))):
        for document in re.findall(r"`((?:docs|bench|nginx|tests|proxy_hook|pun_app|tokens)/[\w./-]*)`", read(name)):
            assert (ROOT / document).exists(), f"{name}: {document}"


def test_every_scope_is_in_use_or_said_to_be_for_later() -> None:
    used = {route.scope for route in ROUTES}
    assert used <= set(SCOPES)
    assert set(SCOPES) - used == {"files:read", "files:write"}


def test_the_units_run_what_there_is() -> None:
    for unit in (ROOT / "nginx" / "systemd").glob("*.service"):
        command = re.search(r"^ExecStart=/opt/punway/bin/punway (\w+)$", unit.read_text(), re.MULTILINE)
        assert command
        assert command[1] in ("spawner", "hook")
