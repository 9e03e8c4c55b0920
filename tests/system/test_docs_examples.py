"""The examples of the documentation, run as a reader would: each page from its beginning to its end, on a real Slurm.

A page's ``sh`` blocks run in one shell, in order. A block whose first comment is a file name is saved under it instead; a
``python`` block without one is run as a program. The ``json`` or ``text`` block right after one that ran is what it prints,
except for numbers, times and names. Blocks in any other language are not run.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.system.portal import Portal, User

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"(?:#!.*\n)?# ([\w-]+\.(?:py|sh))\n")
_MARK = "=== example "


@dataclass(frozen=True)
class Example:
    """A block of code, and what it prints according to the page; None where the page does not say."""

    language: str
    code: str
    printed: str | None

    @property
    def file_name(self) -> str | None:
        """Return the name that a reader saves the block under; None for one that is run at once."""
        found = _FILE_NAME.match(self.code)
        return found[1] if found else None


def examples(page: str) -> list[Example]:
    """Return the blocks of a page that a reader can run."""
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = list(_BLOCK.finditer(text))
    found = []
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block[1] in ("sh", "python"):
            follows = after and after[1] in ("json", "text") and not text[block.end() : after.start()].strip()
            found.append(Example(block[1], block[2], after[2] if after and follows else None))
    return found


def script_of(page_examples: list[Example], folder: Path) -> str:
    """Return a shell script with the examples, each after a line that says its number. Programs go to ``folder``."""
    lines = ["set -eu"]
    for number, example in enumerate(page_examples):
        lines.append(f"printf '\\n{_MARK}{number}\\n'")
        name = example.file_name
        if name or example.language == "python":
            program = folder / (name or f"example-{number}.py")
            program.write_text(example.code, encoding="utf-8")
            program.chmod(0o755)
        if example.language == "python" and not name:
            lines.append(f"python3 example-{number}.py")
        elif not name:
            lines.append(example.code)
    return "\n".join(lines)


def outputs(portal: Portal, user: User, page: str, folder: Path) -> list[tuple[Example, str]]:
    """Run a page's examples as ``user`` in ``folder``, and return each with what it printed."""
    found = examples(page)
    script = script_of(found, folder)
    created = portal.punway("token", "create", "tutorial", "--scopes", "jobs", user=user)
    token = created.stdout.splitlines()[-1]
    environment = {
        "PORTAL": portal.url,
        "TOKEN": token,
        "OOD_API_URL": portal.url,
        "OOD_API_TOKEN": token,
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    }
    done = user.run("bash", "-c", script, cwd=str(folder), environment=environment)
    printed = re.split(rf"\n{_MARK}\d+\n", done.stdout)[1:]
    assert len(printed) == len(found), done.stdout + done.stderr
    return list(zip(found, printed, strict=True))


def alike(text: str, user: User, portal: Portal) -> Any:
    """Return an output without what differs from run to run; JSON is compared by its values, not by its layout."""
    text = text.replace(portal.url, "https://portal.example.org").replace(user.name, "alice")
    text = re.sub(r"\b[0-9a-f]{16}\b", "ID", text)
    text = re.sub(r"\b\d{4}-\d\d-\d\dT[\d:]{8}Z", "TIME", text)
    try:
        return _without_numbers(json.loads(text))
    except ValueError:
        return re.sub(r"\d+", "0", text).strip()


def _without_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        # What a cluster's state is depends on who asked before.
        known = {name: item for name, item in value.items() if name != "state"}
        return {name: item if name == "exit_code" else _without_numbers(item) for name, item in known.items()}
    if isinstance(value, list):
        return [_without_numbers(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"\d+", "0", value)
    return 0 if isinstance(value, int | float) and not isinstance(value, bool) else value


@pytest.mark.parametrize(
    ("page", "outputs_at_least"), [("users/tutorial.md", 7), ("users/recipes.md", 11), ("agents/clients.md", 0)]
)
def test_the_examples_of_a_page_print_what_it_says(
    portal: Portal, alice: User, page: str, outputs_at_least: int
) -> None:
    folder = alice.home / "examples"
    folder.mkdir()
    shutil.chown(folder, alice.uid, alice.gid)
    try:
        compared = 0
        for example, printed in outputs(portal, alice, page, folder):
            if example.printed is not None:
                assert alike(printed, alice, portal) == alike(example.printed, alice, portal), example.code
                compared += 1
        assert compared >= outputs_at_least
    finally:
        shutil.rmtree(folder)
