"""Tests that keep the documentation true: what it names exists, and each route, scope, tool and key has its place in it."""

from __future__ import annotations

import argparse
import contextlib
import html
import io
import re
from pathlib import Path

import pytest

from docs import code_map
from docs.reference import PAGES as GENERATED
from mcp_server.portal import Portal
from mcp_server.tools import tools
from proxy_hook.browser.sign_in import LINK_PATH
from proxy_hook.browser.sign_in import ROUTES as SIGN_IN_ROUTES
from pun_app.adapters.abilities import table
from pun_app.adapters.registry import ADAPTERS
from pun_app.routes import PAGES, ROUTES
from punway.token_commands import add_commands
from tokens.scopes import OFFERED, PRESETS, SCOPES, allows, parse

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]
_LINKED = ("README.md", "docs/index.md", "docs/users", "docs/agents", "docs/admins", "docs/developers/decisions")
_FILE = r"`((?:docs|bench|nginx|tests|proxy_hook|pun_app|punway|spawner|mcp_server|tokens)/[\w./-]*)`"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_each_line_of_the_security_model_names_tests_that_exist() -> None:
    """So does each line of the attacks on signing in."""
    never = re.findall(r"^\| \d+ \|.*", read("docs/admins/security.md"), re.MULTILINE)
    attacks = re.findall(r"^\| (?!what|---|\d|\|)\S.*", read("docs/admins/security.md"), re.MULTILINE)
    assert (len(never), len(attacks)) == (17, 11)
    for row in (*never, *attacks):
        named = row.split("|")[-2]
        assert named.strip()
        file = ""
        for word in re.findall(r"`([^`]+)`", named):
            if word.endswith(".py"):
                file = word
                assert (ROOT / file).is_file(), file
            else:
                assert f"def {word}(" in read(file), word


def test_the_api_in_brief_lists_every_route_with_its_scope() -> None:
    rows = [line for line in read("docs/users/api.md").splitlines() if line.startswith("| `")]
    for route in ROUTES:
        path = route.path.replace("<id>", ":id").removeprefix("/api/v1/jobs/:id")
        row = next(
            row
            for row in rows
            if (f"`{route.scope}`" if route.scope else "| any |") in row
            and path in row
            and (path or "/api/v1/jobs/:id" in row)
        )
        assert route.method in row


def test_the_table_of_scopes_is_that_of_the_code() -> None:
    """It has each scope with its meaning and endpoints. The text below it has each preset with its scopes."""
    text = read("docs/users/tokens.md")
    for scope in OFFERED:
        what = SCOPES[scope]
        routes = [f"`{r.method} {r.path.replace('<id>', ':id')}`" for r in ROUTES if r.scope == scope]
        assert f"| `{scope}` | {what} | {', '.join(routes)} |" in text
    words = " ".join(text.split())
    for name, (_, held) in PRESETS.items():
        assert name == "all" or f"`{name}` is {', '.join(f'`{scope}`' for scope in held)}" in words


def test_every_page_is_documented() -> None:
    """Pages of a PUN are in the table of endpoints; pages for signing in are on the page about signing in."""
    for page in PAGES:
        assert f"`{page.method} {page.path}`" in read("docs/users/api.md")
    for method, address in SIGN_IN_ROUTES:
        assert f"`{method} {address}{'CODE' if address == LINK_PATH else ''}`" in read("docs/admins/sign-in.md")


def test_every_tool_is_documented_with_its_scope() -> None:
    text = read("docs/agents/tools.md")
    for tool in tools(Portal("/nonexistent", "x")):
        row = next(row for row in text.splitlines() if row.startswith("| ") and f"`{tool.name}`" in row)
        assert f"| `{tool.scope}` |" in row if tool.scope else "| any |" in row


@pytest.mark.parametrize("path", GENERATED)
def test_a_generated_page_is_current(path: str) -> None:
    """A page that is out of date is written again by ``make reference``."""
    assert read(path) == GENERATED[path](), "run: make reference"


def test_files_that_the_pages_name_exist() -> None:
    for name in DOCUMENTS:
        for file in re.findall(_FILE, read(name)):
            assert (ROOT / file).exists(), f"{name}: {file}"


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name.startswith(_LINKED)])
def test_every_name_of_a_file_is_a_link(name: str) -> None:
    """A reader of the site or of a forge reaches the file with one click. Code blocks are exempt."""
    prose = re.sub(r"^```.*?^```$|<!--.*?-->", "", read(name), flags=re.MULTILINE | re.DOTALL)
    assert not [file for file in re.findall(rf"(?<!\[){_FILE}", prose) if not file.endswith("/")]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_to_a_file_leads_to_one(name: str) -> None:
    """Sphinx checks only links between pages. This also checks README.md, and links to folders."""
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", read(name)):
        if "://" not in link:
            assert ((ROOT / name).parent / link).exists(), link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_link_that_shows_a_path_leads_there(name: str) -> None:
    for shown, link in re.findall(rf"\[{_FILE}\]\(([^)#\s]+)", read(name)):
        assert ((ROOT / name).parent / link).resolve() == (ROOT / shown).resolve(), shown


def test_the_commands_for_one_test_select_tests() -> None:
    """The examples of ``pytest FILE -k WORD`` in CONTRIBUTING.md find something to run."""
    commands = re.findall(r"pytest (tests/\S+) -k (\w+)", read("CONTRIBUTING.md"))
    assert commands
    for file, word in commands:
        assert re.search(rf"^def test_\w*{word}", read(file), re.MULTILINE), (file, word)


def test_only_scopes_that_allow_something_are_offered() -> None:
    used = {route.scope for route in ROUTES if route.scope}
    assert set(OFFERED) == used
    assert used <= set(SCOPES)
    offered = " ".join(held for _, scopes in PRESETS.values() for held in scopes)
    for scope in set(SCOPES) - used:
        assert scope not in offered and scope not in token_help(), scope


def test_the_token_of_the_readme_allows_its_first_request() -> None:
    """A reader who follows the README step by step gets no 403."""
    text = read("README.md")
    made = re.search(r"punway token create \S.* --scopes (\S+)", text)
    asked = re.search(r'curl -H "Authorization: Bearer \$TOKEN" https://portal.example.org(/\S+)', text)
    assert made and asked
    (route,) = [route for route in ROUTES if (route.method, route.path) == ("GET", asked[1])]
    assert route.scope and allows(parse(made[1]), route.scope)


def token_help() -> str:
    """Return the output of ``punway token create --help``."""
    parser = argparse.ArgumentParser()
    add_commands(parser, argparse.ArgumentParser(add_help=False))
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit):
        parser.parse_args(["create", "--help"])
    return output.getvalue()


def test_the_units_run_commands_that_exist() -> None:
    for unit in (ROOT / "nginx" / "systemd").glob("*.service"):
        command = re.search(r"^ExecStart=/opt/punway/bin/punway ([\w-]+)$", unit.read_text(), re.MULTILINE)
        assert command
        assert command[1] in ("spawner", "hook", "relay", "mcp-server", "nginx")


def test_the_table_of_adapters_is_current() -> None:
    """``python -m pun_app.adapters.abilities`` prints the current table."""
    assert table() in read("docs/admins/schedulers.md")


def test_every_adapter_is_documented_with_its_keys() -> None:
    """Each key that an adapter's module reads from a cluster file's ``job`` is in the adapter's row of the table."""
    text = read("docs/admins/schedulers.md")
    rows = {row.split("|")[1].strip(" `"): row for row in text.splitlines() if row.startswith("| ")}
    for name in ADAPTERS:
        code = read(f"pun_app/adapters/{ADAPTERS[name][0].replace('.', '/')}.py")
        keys = set(re.findall(r"job(?:\.get\(|\[)\"(\w+)\"", code)) - {"adapter"}
        for key in keys:
            assert f"`{key}`" in rows[name], (name, key)


def test_the_list_of_folders_and_files_is_complete() -> None:
    """Each folder with modules has a heading on docs/developers/architecture.md. Below tests/, only tests/system has one."""
    modules = [path.relative_to(ROOT) for top in code_map.TOP_FOLDERS for path in (ROOT / top).rglob("*.py")]
    folders = {path.parent.as_posix() for path in modules if (ROOT / path).stat().st_size}
    assert {folder for folder in folders if folder == "tests/system" or not folder.startswith("tests/")} <= set(
        code_map.FOLDERS
    )
    for name in [*code_map.FOLDERS, *code_map.FILES]:
        assert (ROOT / name).exists(), name


def test_the_picture_is_drawn_from_its_source() -> None:
    """Every label of architecture.dot is in the SVG; ``make picture`` draws it again."""
    folder = ROOT / "docs" / "developers"
    labels = re.findall(r'label="([^"]+)"', (folder / "architecture.dot").read_text())
    drawn = html.unescape((folder / "architecture.svg").read_text()).replace("\u00a0", " ")
    for label in labels:
        for line in re.split(r"\\[nl]", label):
            assert line.strip() in drawn, line
