"""Slurm, the users and the portal: each comes up once for each process of the run, and is ended by its own pid.

The tests wait more than they compute, so several processes run them side by side. Nothing is shared between them: each
has its own folder, users, ports, schedulers and portals.
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

from tests.system.gate import gate, provider
from tests.system.portal import Client, Portal, User, unique
from tests.system.slurm import SlurmCluster

__all__ = ["gate", "provider"]
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
"""What pytest-xdist gives to one process as a whole (--dist loadscope), the longest first."""
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
    """useradd, nginx and Slurm's daemons lie where not every root's PATH leads."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process of the run is left alone with it at the end."""
    items.sort(
        key=lambda item: next((n for n, name in enumerate(LONGEST) if f"/{name}::" in item.nodeid), len(LONGEST))
    )
    if os.geteuid() != 0:
        skip = pytest.mark.skip(reason="needs root: it makes users, and processes that become them")
        for item in items:
            if "tests/system" in str(item.path):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A short path that ordinary users can enter: sockets lie below it."""
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing:
        pytest.fail(f"not installed: {', '.join(missing)}; run make test, or install Debian's packages")
    path = Path(tempfile.mkdtemp(prefix="pw-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def hook_user() -> Iterator[str]:
    name = unique("pwhook")
    subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name], check=True)
    yield name
    subprocess.run(["userdel", name], check=False, capture_output=True)


@pytest.fixture(scope="session")
def mcp_user() -> Iterator[str]:
    name = unique("pwmcp")
    subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name], check=True)
    yield name
    subprocess.run(["userdel", name], check=False, capture_output=True)


@pytest.fixture
def group() -> Iterator[str]:
    """A Unix group that nobody is in yet."""
    name = unique("pwgroup")
    subprocess.run(["groupadd", name], check=True)
    yield name
    subprocess.run(["groupdel", name], check=True)


@pytest.fixture
def new_user() -> Iterator[Callable[..., User]]:
    """Makes users, as User(…) does but for a prefix of the name, and removes them."""
    made: list[User] = []

    def new_user(prefix: str, *options: Any) -> User:
        made.append(User(unique(prefix), *options))
        return made[-1]

    yield new_user
    for user in made:
        user.remove()


@pytest.fixture(scope="session")
def alice() -> Iterator[User]:
    user = User(unique("pwalice"))
    yield user
    user.remove()


@pytest.fixture(scope="session")
def bob() -> Iterator[User]:
    user = User(unique("pwbob"))
    yield user
    user.remove()


@pytest.fixture(scope="session")
def slurm(folder: Path, alice: User, bob: User) -> Iterator[SlurmCluster]:
    (folder / "slurm").mkdir()
    cluster = SlurmCluster(folder / "slurm", [alice.name, bob.name])
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def cluster_files(slurm: SlurmCluster) -> dict[str, str]:
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
    """The portal as root, with PUNs by fork, and with all of its parts."""
    portal = Portal(folder / "p", hook_user, cluster_files(slurm), mcp_user=mcp_user)
    try:
        yield portal.start()
    finally:
        portal.stop()


@pytest.fixture(scope="session")
def counted(folder: Path, slurm: SlurmCluster, hook_user: str, mcp_user: str) -> Iterator[tuple[Portal, Path]]:
    """A portal whose squeue and sacct add a byte to ``squeue-calls`` and ``sacct-calls`` in the folder at each call."""
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


@pytest.fixture
def as_alice(portal: Portal, alice: User) -> Client:
    return portal.shared_client(alice)


@pytest.fixture
def as_bob(portal: Portal, bob: User) -> Client:
    return portal.shared_client(bob)


@pytest.fixture(autouse=True)
def _few_tokens(alice: User, bob: User) -> Iterator[None]:
    """Each test starts with no token of an earlier one: a user may have 200."""
    yield
    for user in (alice, bob):
        shutil.rmtree(user.home / ".config", ignore_errors=True)
