"""Fixtures of the system tests: Slurm, users and portals. Each process of a test run starts and ends its own.

The tests wait more than they compute, so several processes run them in parallel. These share nothing: each has its own
folder, users, ports, schedulers and portals.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.system.gate import FRONT_SECRET
from tests.system.identity import AUDIENCE, OpenIdProvider
from tests.system.portal import Client, Portal, User, unique
from tests.system.slurm import SlurmCluster

LONGEST = (
    "test_openapi.py",
    "test_waiting.py",
    "test_jobs.py",
    "test_adapters.py::TestSlurm",
    "test_mcp_clients.py",
    "test_process.py",
    "test_commands.py",
    "test_adapters.py::TestGridEngine",
)
"""The longest units that pytest-xdist gives to one process as a whole (--dist loadscope), the longest first."""
NEEDED = (
    "nginx",
    "slurmctld",
    "slurmd",
    "slurmdbd",
    "sbatch",
    "munged",
    "mariadbd",
    "curl",
    "jq",
    "chromium",
    "sshd",
    "sge_qmaster",
)


def pytest_configure() -> None:
    """Add the folders of useradd, nginx and Slurm's daemons to PATH, which not every root has there."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest units first, so that none of them is left for a single process at the end; skip all without root."""
    items.sort(
        key=lambda item: next((n for n, name in enumerate(LONGEST) if f"/{name}::" in item.nodeid), len(LONGEST))
    )
    if os.geteuid() != 0:
        skip = pytest.mark.skip(reason="needs root, to create users and processes that become them")
        for item in items:
            if "tests/system" in str(item.path):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder that ordinary users can enter, with a path short enough for sockets below it."""
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing:
        pytest.fail(f"not installed: {', '.join(missing)}; run make test, or sh tests/packages.sh test")
    path = Path(tempfile.mkdtemp(prefix="pw-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def hook_user() -> Iterator[str]:
    """A system user for the hook."""
    name = unique("pwhook")
    subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name], check=True)
    yield name
    subprocess.run(["userdel", name], check=False, capture_output=True)


@pytest.fixture(scope="session")
def mcp_user() -> Iterator[str]:
    """A system user for the MCP server."""
    name = unique("pwmcp")
    subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name], check=True)
    yield name
    subprocess.run(["userdel", name], check=False, capture_output=True)


@pytest.fixture
def group() -> Iterator[str]:
    """A Unix group without members."""
    name = unique("pwgroup")
    subprocess.run(["groupadd", name], check=True)
    yield name
    subprocess.run(["groupdel", name], check=True)


@pytest.fixture
def new_user() -> Iterator[Callable[..., User]]:
    """Return a function that creates users as User(…) does, with a prefix in place of the name. Remove them at the end."""
    made: list[User] = []

    def new_user(prefix: str, *options: Any) -> User:
        made.append(User(unique(prefix), *options))
        return made[-1]

    yield new_user
    for user in made:
        user.remove()


@pytest.fixture(scope="session")
def alice() -> Iterator[User]:
    """An ordinary user."""
    user = User(unique("pwalice"))
    yield user
    user.remove()


@pytest.fixture(scope="session")
def bob() -> Iterator[User]:
    """Another ordinary user."""
    user = User(unique("pwbob"))
    yield user
    user.remove()


@pytest.fixture(scope="session")
def slurm(folder: Path, alice: User, bob: User) -> Iterator[SlurmCluster]:
    """A real Slurm on this machine, with an account for both users."""
    (folder / "slurm").mkdir()
    cluster = SlurmCluster(folder / "slurm", [alice.name, bob.name])
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def cluster_files(slurm: SlurmCluster) -> dict[str, str]:
    """Return the text of each cluster file of the portal: two clusters that work, and several that do not."""
    return {
        "owens": "v2:\n  metadata: {title: Owens Cluster}\n  login: {host: owens.example.org}\n"
        f"  job: {{adapter: slurm, bin: /usr/bin, conf: {slurm.conf}}}\n",
        "box": "v2:\n  job: {adapter: local, slots: 2}\n",
        "login-only": "v2:\n  login: {host: login.example.org}\n",
        "broken": "v2: [\n",
        "shut": f"v2:\n  acls: [{{adapter: group, groups: [root]}}]\n  job: {{adapter: slurm, conf: {slurm.conf}}}\n",
        "cloud": "v2:\n  job: {adapter: kubernetes}\n",
    }


@pytest.fixture(scope="session")
def portal(folder: Path, slurm: SlurmCluster, hook_user: str, mcp_user: str) -> Iterator[Portal]:
    """A portal started by root, with all parts, whose PUNs start by fork."""
    portal = Portal(folder / "p", hook_user, cluster_files(slurm), mcp_user=mcp_user)
    try:
        yield portal.start()
    finally:
        portal.stop()


@pytest.fixture(scope="session")
def counted(folder: Path, slurm: SlurmCluster, hook_user: str, mcp_user: str) -> Iterator[tuple[Portal, Path]]:
    """A portal whose squeue and sacct add a byte to ``squeue-calls`` and ``sacct-calls`` in the folder on each call."""
    overrides = []
    for name in ("squeue", "sacct"):
        calls, program = folder / f"{name}-calls", folder / f"{name}-counted"
        calls.touch()
        calls.chmod(0o666)
        program.write_text(f'#!/bin/sh\necho >> {calls}\nexec /usr/bin/{name} "$@"\n')
        program.chmod(0o755)
        overrides.append(f"{name}: {program}")
    job = f"{{adapter: slurm, bin: /usr/bin, conf: {slurm.conf}, bin_overrides: {{{', '.join(overrides)}}}}}"
    portal = Portal(folder / "w", hook_user, {"owens": f"v2:\n  job: {job}\n"}, mcp_user=mcp_user)
    try:
        yield portal.start(), folder
    finally:
        portal.stop()


@pytest.fixture(scope="session")
def provider(folder: Path) -> Iterator[OpenIdProvider]:
    """A certified OpenID provider, which ``gate`` configures and starts."""
    provider = OpenIdProvider(folder / "idp")
    yield provider
    provider.stop()


@pytest.fixture(scope="session")
def gate(folder: Path, hook_user: str, mcp_user: str, provider: OpenIdProvider) -> Iterator[Portal]:
    """A portal with TLS and every way to sign in. Its user map accepts any name."""
    secrets = {"client_secret_file": provider.client_secret, "header_secret_file": FRONT_SECRET}
    for name, secret in secrets.items():
        (folder / name).write_text(f"{secret}\n")
        (folder / name).chmod(0o600)
    portal = Portal(
        folder / "gate", hook_user, {"box": "v2:\n  job: {adapter: local}\n"}, mcp_user=mcp_user,
        tables={
            "idp": {"issuer": provider.issuer, "audience": AUDIENCE, "user_map": "(.*)", "title": "Example University"},
            "login": {
                "oidc": True, "client_id": "portal", "header": "X-Remote-User", "header_peers": ["127.0.0.1"],
                **{name: str(folder / name) for name in secrets},
            },
        },
    ).use_tls()  # fmt: skip
    provider.redirect_uris.append(f"{portal.url}/login/oidc/callback")
    provider.start()
    try:
        yield portal.start()
    finally:
        portal.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a screen."""
    options = ["--no-sandbox", "--disable-quic", "--disable-background-networking"]
    expect.set_options(timeout=120_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options, timeout=120_000)
        yield browser
        browser.close()


@pytest.fixture
def as_alice(portal: Portal, alice: User) -> Client:
    """A client with one of alice's tokens."""
    return portal.shared_client(alice)


@pytest.fixture
def as_bob(portal: Portal, bob: User) -> Client:
    """A client with one of bob's tokens."""
    return portal.shared_client(bob)


@pytest.fixture(autouse=True)
def _few_tokens(alice: User, bob: User) -> Iterator[None]:
    """Remove all tokens after each test, because a user may have at most 200."""
    yield
    for user in (alice, bob):
        shutil.rmtree(user.home / ".config", ignore_errors=True)
