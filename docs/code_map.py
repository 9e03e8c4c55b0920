"""A writer of the list of folders and files in docs/developers/architecture.md.

A module's line is the first sentence of its docstring, so that the list cannot say something else than the module. The
lines of folders and of files that are not Python are here. ``make reference`` writes the list; a test compares it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "developers" / "architecture.md"
BEGIN, END = "<!-- Written by docs/code_map.py: run make reference -->\n", "<!-- The end of the list -->\n"

FOLDERS = {
    "spawner": "All of root's code: it turns requests for a user's process into a process of that user.",
    "punway": "The `punway` command: it starts the servers, checks a configuration, and manages tokens.",
    "proxy_hook": "The service that nginx asks about each request, and the registrar that takes token hashes.",
    "proxy_hook/idp": "The site's identity provider: its metadata, its keys, and the JWTs that it signs.",
    "proxy_hook/browser": "Browsers: signing in and out, sessions, one-time links.",
    "proxy_hook/relay": "The process between nginx and PUNs: it passes on well-formed responses and nothing else.",
    "tokens": "What the hook, the PUNs and the command share about tokens. It imports nothing else of ours.",
    "pun_app": "The app in each user's own process: the REST API and the API Tokens page.",
    "pun_app/handlers": "The endpoints: each handler takes a Request and returns an Answer.",
    "pun_app/clusters": "OOD's cluster files, access rules, and the cache in front of each scheduler.",
    "pun_app/adapters": "The schedulers: the contract of an adapter, the command-line base class, shared parsing.",
    "pun_app/adapters/slurm": "Slurm, a module for each command.",
    "pun_app/adapters/pbs": "OpenPBS, PBS Pro and Torque.",
    "pun_app/adapters/lsf": "LSF.",
    "pun_app/adapters/sge": "Grid Engine and its descendants.",
    "pun_app/adapters/htcondor": "HTCondor.",
    "pun_app/adapters/local": "The embedded scheduler of the demo and of single machines.",
    "pun_app/pages": "The HTML pages of a PUN.",
    "mcp_server": "The MCP server: tools for AI agents, answered by the portal's own REST API.",
    "nginx": "What nginx and systemd read: templates, static files, units, the example configuration.",
    "bench": "Measurements, each with all its variants in one run.",
    "docs": "This site: pages for users, agents, admins and developers, and the scripts that build them.",
    "tests": "Tests. The folders mirror the packages; `system/` uses real nginx, schedulers, users and browsers.",
    "tests/system": "Tests on real parts, and the fixtures that start and stop them.",
}
"""Each folder that has a heading in the list, in its order, and what it holds."""

FILES = {
    "punway/launcher.sh": "The installed `punway` script: it starts Python isolated from its caller's environment.",
    "nginx/nginx.conf.j2": "A whole nginx.conf, for `punway serve` and `punway nginx`.",
    "nginx/portal.conf.j2": "The portal's server block: every location, and what reaches a PUN.",
    "nginx/punway.example.toml": "The example configuration, to copy to `/etc/punway/punway.toml`.",
    "nginx/static": "Public files: the API page with Swagger UI, the help page, styles, the OpenAPI file.",
    "nginx/systemd": "Units for the spawner, the hook, the relay, the MCP server and an nginx of the portal's own.",
    "proxy_hook/browser/templates": "The pages of signing in.",
    "pun_app/pages/templates": "The API Tokens page and the error page.",
    "docs/developers/architecture.dot": "The source of the picture on this page; `make picture` draws it.",
    "tests/packages.sh": "Debian's packages that the demo or the tests need.",
    "tests/data": "What schedulers printed, recorded; and the requests of the contract with clients.",
}
"""Files and folders without a docstring, and what each one is."""

TOP_FOLDERS = tuple(folder for folder in FOLDERS if "/" not in folder)


def listed_files() -> list[str]:
    """Return the paths of all modules that the list must have, relative to the repository."""
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).glob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if path.stat().st_size and not path.name.startswith("test_"):
                found.append(name)
    return found


def first_sentence(path: str) -> str:
    """Return the first sentence of a module's docstring, on one line. Raises ValueError where there is none."""
    docstring = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8")))
    if not docstring:
        raise ValueError(f"{path} has no docstring")
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    sentence = paragraph.partition(". ")[0].rstrip(".:")
    return sentence.replace("``", "`").replace("|", r"\|") + "."


def _rows() -> Iterator[str]:
    modules = listed_files()
    for folder, words in FOLDERS.items():
        yield f"### {folder}/\n"
        yield f"{words}\n"
        own = {name: first_sentence(name) for name in modules if Path(name).parent.as_posix() == folder}
        own |= {name: line for name, line in FILES.items() if Path(name).parent.as_posix() == folder}
        if own:
            yield "| file | purpose |\n| --- | --- |"
            yield from (f"| [{Path(name).name}](../../{name}) | {own[name]} |" for name in sorted(own))
            yield ""


def page() -> str:
    """Return docs/developers/architecture.md with the list of folders and files written again."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return before + BEGIN + "\n" + "\n".join(_rows()) + "\n" + END + after
