"""The specification of the REST API: its two example programs, its errors and its paths."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import requests

from tests.system.portal import Client, Portal, User, refusal
from tests.system.slurm import SlurmCluster

DATA = Path(__file__).parent.parent / "data" / "contract"
SCRIPT = "#!/bin/bash\ntrue\n"


def job_body(**changes: object) -> dict[str, object]:
    """Return the body of a submit with some keys replaced."""
    return {"cluster": "owens", "script": {"content": SCRIPT}, **changes}


def test_the_python_example_runs_unchanged(portal: Portal, alice: User, tmp_path: Path) -> None:
    """With only the URL, token and workdir replaced, the specification's program runs to its end."""
    (alice.home / "project").mkdir(exist_ok=True)
    (alice.home / "project").chmod(0o755)
    text = (DATA / "example.py").read_text()
    for old, new in (
        ("https://ondemand.example.com", portal.url),
        ("your-api-token-here", portal.token(alice)),
        ("/users/alice/project", str(alice.home / "project")),
    ):
        assert old in text
        text = text.replace(old, new)
    program = portal.folder / "example.py"
    program.write_text(text)
    output = alice.run(sys.executable, "-I", str(program)).stdout.splitlines()
    assert "'owens'" in output[0]
    assert [line.split(":")[0].split(" ")[0] for line in output[1:]] == ["Submitted", "Job", "Job"]
    assert output[-1] == "Job cancelled: cancelled"


def test_the_shell_example_runs_unchanged(portal: Portal, alice: User) -> None:
    """With only the URL, token and poll interval replaced, it ends when the job is completed."""
    text = (DATA / "example.sh").read_text()
    for old, new in (
        ("https://ondemand.example.com", portal.url),
        ("your-api-token-here", portal.token(alice)),
        ("sleep 60\\n", "sleep 2\\n"),
        ("sleep 10", "sleep 0.5"),
    ):
        assert old in text
        text = text.replace(old, new)
    program = portal.folder / "example.sh"
    program.write_text(text)
    output = alice.run("bash", str(program)).stdout.splitlines()
    assert '"owens"' in output
    assert any(line.startswith("Submitted job: ") for line in output)
    assert output[-1] == "Job finished!"


def test_clusters(as_alice: Client) -> None:
    """Only clusters that the caller can use are listed, with the specification's four fields and their state."""
    clusters = {c["id"]: c for c in as_alice.data("GET", "/api/v1/clusters")}
    assert clusters["owens"] == {
        "id": "owens", "title": "Owens Cluster", "adapter": "slurm", "login_host": "owens.example.org", "state": clusters["owens"]["state"]
    }  # fmt: skip
    assert set(clusters) == {"owens", "box", "cloud"}  # login-only, broken and shut are not
    assert as_alice.data("GET", "/api/v1/clusters/owens") == clusters["owens"]
    for closed in ("shut", "login-only", "broken", "nope"):
        answer = as_alice.error("GET", f"/api/v1/clusters/{closed}")
        assert answer == (404, "not_found", "Cluster not found")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"options": {"queue_name": "nope"}}, "Invalid partition name specified"),
        ({"options": {"accounting_id": "nope"}}, "Invalid account or account/partition combination"),
        ({"options": {"queue_name": "short", "wall_time": 3600}}, "Requested time limit is invalid"),
        ({"options": {"native": ["--time=abc"]}}, "Invalid --time specification"),
        ({"options": {"native": ["--nodes=99"]}}, "Batch job submission failed"),
        ({"options": {"native": ["--help"]}}, "cannot have --help"),
        ({"script": {"content": "echo no interpreter\n"}}, "This does not look like a batch script"),
        ({"script": {"content": SCRIPT, "workdir": "relative/path"}}, "absolute path"),
        ({"script": {"content": SCRIPT, "workdir": "/no/such/place"}}, "does not exist"),
        ({"script": {"content": SCRIPT, "workdir": "/etc/passwd"}}, "not a directory"),
        ({"script": {"content": SCRIPT, "workdir": "/root"}}, "cannot be entered"),
    ],
    ids=[
        "partition",
        "account",
        "limit",
        "time",
        "nodes",
        "help",
        "interpreter",
        "relative",
        "missing",
        "file",
        "closed",
    ],
)
def test_422_has_the_message_of_the_scheduler(
    as_alice: Client, alice: User, slurm: SlurmCluster, change: dict[str, object], expected: str
) -> None:
    """A job that Slurm refuses is 422 with Slurm's message, and nothing is submitted."""
    before = slurm.run("squeue", "-h", "--states=all", "-u", alice.name, "-o", "%i").split()
    status, error, message = as_alice.error("POST", "/api/v1/jobs", job_body(**change))
    assert (status, error) == (422, "unprocessable_entity")
    assert expected in message
    assert slurm.run("squeue", "-h", "--states=all", "-u", alice.name, "-o", "%i").split() == before


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/v1/jobs/99999?cluster=owens"), ("DELETE", "/api/v1/jobs/99999?cluster=owens"),
     ("GET", "/api/v1/jobs/1?cluster=nope"), ("GET", "/api/v1/nothing"), ("GET", "/nothing"),
     ("GET", "/api/v1/jobs/?cluster=owens"), ("GET", "/API/v1/clusters")],
    ids=["job", "cancel", "cluster", "address", "outside", "slash", "case"],
)  # fmt: skip
def test_404(as_alice: Client, method: str, path: str) -> None:
    """Unknown jobs, clusters and paths are 404."""
    assert as_alice.error(method, path)[:2] == (404, "not_found")


def test_405_names_the_allowed_methods(as_alice: Client) -> None:
    """The header Allow lists the methods of the path."""
    answer = as_alice("PUT", "/api/v1/jobs")
    assert refusal(answer)[:2] == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, HEAD, POST"


def test_501_names_the_adapter(as_alice: Client) -> None:
    """A cluster with an unknown adapter is listed, and its jobs are 501."""
    status, error, message = as_alice.error("GET", "/api/v1/jobs?cluster=cloud")
    assert (status, error) == (501, "not_implemented")
    assert "kubernetes" in message


def test_503_while_the_scheduler_is_down_and_200_after(as_alice: Client, slurm: SlurmCluster) -> None:
    """While slurmctld is down, every request is 503 with Retry-After and Slurm's message. Then it is 200 again."""
    job = as_alice.submit("#!/bin/bash\nsleep 99\n", native=["--hold"])["job_id"]
    slurm.stop_controller()
    try:
        for method, path, body in (
            ("GET", "/api/v1/jobs?cluster=owens", None),
            ("GET", f"/api/v1/jobs/{job}?cluster=owens", None),
            ("DELETE", f"/api/v1/jobs/{job}?cluster=owens", None),
            ("POST", "/api/v1/jobs", job_body()),
        ):
            answer = as_alice(method, path, body, headers={"Cache-Control": "no-cache"})
            assert refusal(answer)[:2] == (503, "service_unavailable")
            assert "Unable to contact slurm controller" in answer.json()["message"]
            assert int(answer.headers["Retry-After"]) > 0
    finally:
        slurm.start_controller()
    as_alice.until_answered()
    assert as_alice.job(job)["status"] == "queued_held"
    as_alice.data("DELETE", f"/api/v1/jobs/{job}?cluster=owens")


def test_401_has_a_challenge(portal: Portal) -> None:
    """The challenge of RFC 6750 has an error code for a bad token, and none without credentials."""
    path = f"{portal.url}/api/v1/clusters"
    for headers, challenge in (
        ({}, 'Bearer realm="punway"'),
        ({"Authorization": f"Bearer {'0' * 64}"}, 'Bearer realm="punway", error="invalid_token"'),
    ):
        answer = requests.get(path, headers=headers, timeout=30)
        status, error, message = refusal(answer)
        assert (status, error) == (401, "unauthorized")
        assert message.startswith("Invalid or missing API token")
        assert answer.headers["WWW-Authenticate"] == challenge


def test_403_names_the_missing_scope(portal: Portal, alice: User) -> None:
    """A read-only token can read, and the error of a write names the missing scope."""
    client = portal.client(alice, "--scopes", "jobs:read")
    assert client("GET", "/api/v1/jobs?cluster=owens").status_code == 200
    answer = client("POST", "/api/v1/jobs", job_body())
    assert refusal(answer)[:2] == (403, "insufficient_scope")
    assert "jobs:write" in answer.json()["message"]
    assert 'scope="jobs:write"' in answer.headers["WWW-Authenticate"]
    assert client.error("GET", "/api/v1/clusters")[:2] == (403, "insufficient_scope")
