"""The rooms keep their doors: who imports whom, what root's process loads, what a PUN loads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("punway", "spawner", "proxy_hook", "tokens", "pun_app", "mcp_server", "nginx")


def loaded_by(module: str) -> set[str]:
    """The top-level names that a fresh interpreter has loaded after it imported a module."""
    program = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return set(json.loads(said))


@pytest.mark.parametrize("module", ["main", "preloader", "become", "eligible", "children", "launch", "wire"])
def test_the_spawner_loads_the_standard_library_and_itself_alone(module: str) -> None:
    """Importing any of it as root runs no third-party line, and nothing of the front's."""
    bare = {name.partition(".")[0] for name in loaded_by("sys")}  # what site-packages' .pth files load everywhere
    for name in loaded_by(f"spawner.{module}"):
        top = name.partition(".")[0]
        if top != "spawner":
            assert top in sys.stdlib_module_names or top in bare, name


def test_a_pun_loads_none_of_the_fronts_libraries() -> None:
    """It is one process per user: what it imports, every user pays for."""
    loaded = {name.partition(".")[0] for name in loaded_by("pun_app.server")}
    assert not loaded & {
        "sqlalchemy",
        "uvicorn",
        "httptools",
        "jinja2",
        "tomli",
        "authlib",
        "mcp",
        "mcp_server",
        "pydantic",
        "starlette",
        "httpx2",
        "anyio",
        "limits",
        "proxy_hook",
        "asyncio",
    }


def test_the_token_command_loads_no_server() -> None:
    loaded = {name.partition(".")[0] for name in loaded_by("punway.cli")}
    assert not loaded & {"sqlalchemy", "uvicorn", "pun_app", "werkzeug"}


def test_every_init_is_empty() -> None:
    """Root imports spawner/__init__.py; nothing runs there."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("__init__.py"):
            assert path.read_text() == "", path


def test_the_spawner_can_be_read_in_one_sitting() -> None:
    lines = sum(len(path.read_text().splitlines()) for path in (ROOT / "spawner").glob("*.py"))
    assert lines < 1200


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        (r"\bos\.(fork|posix_spawn|system|popen|spawn\w*)\(", {"spawner/preloader.py"}),
        (r"\bos\.(setuid|setgid|setresuid|setresgid|setreuid|initgroups|setgroups|seteuid)\b",
         {"spawner/become.py", "punway/unprivileged.py"}),
        (r"\b(subprocess\.(Popen|run|check_\w+|call))\(",
         {"pun_app/adapters/command.py", "spawner/launch.py", "punway/serve.py", "punway/check.py",
          "punway/demo.py", "punway/nginx_program.py"}),
        (r"shell\s*=\s*True|except\s*:|\beval\(|\bexec\(|pickle|yaml\.load\((?!text, _LOADER)", set()),
    ],
    ids=["fork", "ids", "processes", "never"],
)  # fmt: skip
def test_who_may_do_what(pattern: str, allowed: set[str]) -> None:
    """Only the preloader forks, only become (and the hook, for itself) sets ids, only command.py runs commands."""
    found = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if re.search(pattern, "\n".join(line.split("#")[0] for line in path.read_text().splitlines()))
    }
    assert found == allowed


def test_import_rules_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_no_file_has_grown_two_jobs() -> None:
    """Some 300 lines."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 330, path
