"""The key submit_host: the scheduler's commands through a real sshd on loopback, with a key made here."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.portal import Client, Portal, User
from tests.system.slurm import SlurmCluster, free_port, wait_for

SLEEP = "#!/bin/sh\nsleep 100\n"


@dataclass
class SshServer:
    """An sshd with a new host key, at which users sign in with their keys only."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        argv = ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_for("sshd", self.keyscan)

    def stop(self) -> None:
        """End the server."""
        if self.process:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def keyscan(self) -> str:
        """Return the host's lines for known_hosts."""
        argv = ["ssh-keyscan", "-p", str(self.port), "127.0.0.1"]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def sshd(folder: Path) -> Iterator[SshServer]:
    """Start an sshd, and end it after the tests."""
    server = SshServer(folder / "sshd", free_port())
    server.folder.mkdir()
    Path("/run/sshd").mkdir(exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(server.folder / "host")], check=True)
    (server.folder / "sshd_config").write_text(
        f"Port {server.port}\nListenAddress 127.0.0.1\nHostKey {server.folder}/host\nPidFile none\nUsePAM yes\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd no\nMaxStartups 100\n"
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def remote(folder: Path, slurm: SlurmCluster, sshd: SshServer, hook_user: str, alice: User) -> Iterator[Portal]:
    """Start a portal with three clusters on the submit host.

    ``strict`` checks host keys, ``trusting`` does not, and ``empty`` lacks the scheduler's commands.
    """
    alice.run("sh", "-c", "mkdir -m 700 ~/.ssh; ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519")
    alice.run("sh", "-c", "cp ~/.ssh/id_ed25519.pub ~/.ssh/authorized_keys")
    job = f"adapter: slurm, bin: /usr/bin, conf: {slurm.conf}, submit_host: 127.0.0.1"
    files = {
        "strict": f"v2:\n  job: {{{job}}}\n",
        "trusting": f"v2:\n  job: {{{job}, strict_host_checking: false}}\n",
        "empty": f"v2:\n  job: {{{job.replace('/usr/bin', '/nonexistent')}, strict_host_checking: false}}\n",
    }
    portal = Portal(folder / "r", hook_user, files, {"environment": {"OOD_SSH_PORT": str(sshd.port)}})
    try:
        yield portal.start()
    finally:
        portal.stop()


@pytest.fixture
def client(remote: Portal, alice: User) -> Client:
    return remote.client(alice)


@pytest.fixture
def known(alice: User, sshd: SshServer) -> Iterator[None]:
    """Add the host's key to alice's known_hosts, and remove it after the test."""
    alice.run("sh", "-c", "cat > ~/.ssh/known_hosts", input=sshd.keyscan())
    yield
    alice.run("rm", "-f", str(alice.home / ".ssh" / "known_hosts"))


@pytest.mark.usefixtures("known")
def test_a_job_by_way_of_the_submit_host(client: Client, alice: User) -> None:
    """Each argument reaches the scheduler unchanged, although a remote shell reads it."""
    workdir, name = alice.home / "over there", "a b; $(touch pwned) 'c' \"d\" `e` & > f"
    alice.run("mkdir", "-p", str(workdir))
    job = client.submit(
        '#!/bin/sh\npwd; echo "$A"\n', "strict", job_name=name, workdir=str(workdir),
        output_path=f"{workdir}/out.txt", environment={"A": "it's $HOME"},
    )  # fmt: skip
    done = client.wait(job["job_id"], lambda now: now["status"] == "completed", "strict")
    assert (done["job_name"], done["outcome"]) == (name, "succeeded")
    assert (workdir / "out.txt").read_text() == f"{workdir}\nit's $HOME\n"
    assert not list(alice.home.rglob("pwned"))
    held = client.submit(SLEEP, "strict", hold=True)["job_id"]
    assert held in [one["job_id"] for one in client.data("GET", "/api/v1/jobs?cluster=strict")]
    client.data("DELETE", f"/api/v1/jobs/{held}?cluster=strict")
    assert client.error("GET", "/api/v1/jobs/999999?cluster=strict")[0] == 404
    assert client("GET", "/api/v1/queues?cluster=strict").status_code == 200


def test_an_unknown_host_key(client: Client) -> None:
    """The host is rejected if its key is checked, and nothing is sent. It is accepted if the site disables the check."""
    answer = client("GET", "/api/v1/jobs?cluster=strict", headers={"Cache-Control": "no-cache"})
    assert answer.status_code == 503
    assert "cannot be reached by ssh" in answer.json()["message"]
    status, _, message = client.error("POST", "/api/v1/jobs", {"cluster": "strict", "script": {"content": SLEEP}})
    assert (status, "Host key verification failed" in message, "not known whether" in message) == (503, True, False)
    assert client("GET", "/api/v1/jobs?cluster=trusting").status_code == 200


def test_a_user_without_a_key_on_the_submit_host(remote: Portal, bob: User) -> None:
    """The message is that of ssh."""
    status, _, message = remote.client(bob).error("GET", "/api/v1/jobs?cluster=trusting")
    assert (status, "Permission denied" in message) == (503, True)


@pytest.mark.usefixtures("known")
def test_commands_that_the_submit_host_lacks(client: Client) -> None:
    """The message names the missing command."""
    status, _, message = client.error("POST", "/api/v1/jobs", {"cluster": "empty", "script": {"content": SLEEP}})
    assert (status, "/nonexistent/sbatch" in message) == (503, True)


@pytest.mark.usefixtures("known")
def test_a_submit_host_that_is_down_and_comes_back(client: Client, sshd: SshServer) -> None:
    """The outcome of a submit is known: nothing was sent."""
    client.until_answered("strict")
    sshd.stop()
    try:
        job = {"cluster": "strict", "script": {"content": SLEEP}}
        for method, path, body in (("GET", "/api/v1/jobs?cluster=strict", None), ("POST", "/api/v1/jobs", job)):
            answer = client(method, path, body, headers={"Cache-Control": "no-cache"})
            assert (answer.status_code, "Connection refused" in answer.text) == (503, True)
            assert "not known whether" not in answer.text
    finally:
        sshd.start()
    client.until_answered("strict")
