"""Tests of the architecture: imports, the libraries that root and PUNs load, and the places of dangerous calls."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("punway", "spawner", "proxy_hook", "tokens", "pun_app", "mcp_server", "nginx")


def loaded_by(module: str) -> set[str]:
    """Return the names of the modules that a fresh interpreter has loaded after the import of a module."""
    program = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def python_files() -> Iterator[Path]:
    """Yield the modules of all packages."""
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.py")


@pytest.mark.parametrize("module", sorted(path.stem for path in (ROOT / "spawner").glob("[!_]*.py")))
def test_the_spawner_loads_the_standard_library_and_itself_alone(module: str) -> None:
    """Importing a module of spawner as root loads no third-party code and none of our other packages.

    The app, which the preloader imports by its name, imports setproctitle; spawner itself does not.
    """
    bare = {name.partition(".")[0] for name in loaded_by("sys")}  # The .pth files of site-packages load these always.
    for name in loaded_by(f"spawner.{module}"):
        top = name.partition(".")[0]
        if top != "spawner":
            assert top in sys.stdlib_module_names or top in bare, name


def test_a_pun_loads_none_of_the_fronts_libraries() -> None:
    """A PUN does not load heavy libraries: there is one PUN per user, so each import costs memory for every user."""
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
    """The command loads none of the servers' libraries before it starts one, so ``punway token`` stays quick."""
    loaded = {name.partition(".")[0] for name in loaded_by("punway.cli")}
    assert not loaded & {"sqlalchemy", "uvicorn", "pun_app", "werkzeug"}


def test_every_init_is_empty() -> None:
    """An import of a package runs no code, least of all in root's processes."""
    for path in python_files():
        assert path.name != "__init__.py" or path.read_text() == "", path


def test_the_spawner_can_be_read_in_one_sitting() -> None:
    """spawner has about 1,200 lines. If it grows beyond this, look for what need not run as root."""
    lines = sum(len(path.read_text().splitlines()) for path in (ROOT / "spawner").glob("*.py"))
    assert lines < 1300


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        (r"\bos\.(fork|posix_spawn|system|popen|spawn\w*)\(", {"spawner/preloader.py"}),
        (r"\bos\.(setuid|setgid|setresuid|setresgid|setreuid|initgroups|setgroups|seteuid)\b",
         {"spawner/become.py", "punway/privileges.py"}),
        (r"\b(subprocess\.(Popen|run|check_\w+|call))\(",
         {"pun_app/adapters/command.py", "spawner/launch.py", "punway/serve.py", "punway/check.py",
          "punway/demo.py", "punway/nginx_program.py"}),
        (r"shell\s*=\s*True|except\s*:|\beval\(|\bexec\(|pickle|yaml\.load\((?!text, _LOADER)", set()),
    ],
    ids=["fork", "ids", "commands", "forbidden"],
)  # fmt: skip
def test_who_may_do_what(pattern: str, allowed: set[str]) -> None:
    """Only the preloader forks, only two functions change ids, and only a few modules run commands."""
    found = {
        str(path.relative_to(ROOT))
        for path in python_files()
        if re.search(pattern, "\n".join(line.split("#")[0] for line in path.read_text().splitlines()))
    }
    assert found == allowed


def test_import_rules_hold() -> None:
    """The contracts of [tool.importlinter] in pyproject.toml hold."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_no_file_has_grown_two_jobs() -> None:
    """A module has at most about 400 lines. If one grows beyond this, look for a second job in it."""
    for path in python_files():
        assert len(path.read_text().splitlines()) <= 440, path
