"""Tests of invalid requests: each is a clear 4xx in the contract's form, and nothing is submitted."""

from __future__ import annotations

import json
import os
import secrets
import time
from urllib.parse import unquote

import pytest
import requests

from tests.system.portal import Client, Portal, User, raw, refusal
from tests.system.slurm import SlurmCluster, wait_for

GOOD = {"cluster": "owens", "script": {"content": "#!/bin/bash\ntrue\n"}}


def with_options(**options: object) -> str:
    return json.dumps({**GOOD, "options": options})


BODIES = {
    "empty": (b"", 400, "not valid JSON"),
    "not-json": (b"{", 400, "not valid JSON"),
    "not-utf8": (b'{"cluster": "\xff\xfe"}', 400, ""),
    "array": (b"[]", 400, "The body must be a JSON object"),
    "text": (b'"text"', 400, "The body must be a JSON object"),
    "null": (b"null", 400, "The body must be a JSON object"),
    "deep": (b"[" * 100_000, 400, ""),
    "unknown-field": (json.dumps({**GOOD, "scirpt": 1}), 400, "scirpt"),
    "unknown-option": (with_options(job_nmae="x"), 400, "job_nmae"),
    "no-script": (b'{"cluster": "owens"}', 400, "script"),
    "no-cluster": (json.dumps({"script": GOOD["script"]}), 400, "cluster"),
    "blank-cluster": (json.dumps({**GOOD, "cluster": " "}), 400, "Missing cluster in request body"),
    "cluster-number": (json.dumps({**GOOD, "cluster": 5}), 400, "cluster: write a string, not a number"),
    "content-null": (json.dumps({**GOOD, "script": {"content": None}}), 400, "script.content: write a string of at least 1 character, not null"),
    "content-blank": (json.dumps({**GOOD, "script": {"content": " \n"}}), 400, "blank"),
    "content-nul": (json.dumps({**GOOD, "script": {"content": "#!/bin/sh\n\0"}}), 400, "NUL"),
    "content-surrogate": (b'{"cluster": "owens", "script": {"content": "#!/bin/sh\\n\\ud800"}}', 400, ""),
    "name-newline": (with_options(job_name="a\nb"), 400, "options.job_name"),
    "name-nul": (with_options(job_name="a\0b"), 400, "options.job_name"),
    "name-empty": (with_options(job_name=""), 400, "options.job_name"),
    "wall-time-text": (with_options(wall_time="60"), 400, "options.wall_time: write a whole number from 1 to 315360000, not a string"),
    "wall-time-float": (with_options(wall_time=1.5), 400, "options.wall_time: write a whole number from 1 to 315360000, not a fraction"),
    "wall-time-bool": (with_options(wall_time=True), 400, "options.wall_time: write a whole number from 1 to 315360000, not true or false"),
    "wall-time-zero": (with_options(wall_time=0), 400, "options.wall_time"),
    "wall-time-minus": (with_options(wall_time=-5), 400, "options.wall_time"),
    "wall-time-huge": (b'{"cluster": "owens", "script": {"content": "#!/bin/sh\\n"}, "options": {"wall_time": 1e400}}', 400, ""),
    "wall-time-long": (with_options(wall_time=10**30), 400, ""),
    "array-word": (with_options(array="all"), 400, "options.array"),
    "array-other-digits": (with_options(array="\u0661-\u0663"), 400, "options.array"),
    "array-open": (with_options(array="1-"), 400, "options.array"),
    "array-option": (with_options(array="--help"), 400, "options.array"),
    "array-number": (with_options(array=5), 400, "options.array: write a string of task numbers"),
    "afterok-text": (with_options(afterok="1"), 400, "options.afterok: write a list of up to 1000 items, not a string"),
    "afterok-option": (with_options(afterok=["--help"]), 422, "options.afterok: --help is not a job id of cluster owens"),
    "afterok-two": (with_options(afterok=["1:2"]), 422, "options.afterok: 1:2 is not a job id of cluster owens"),
    "nodes-zero": (with_options(nodes=0), 400, "options.nodes"),
    "cores-text": (with_options(cores="8"), 400, "options.cores: write a whole number from 1 to 10000000, not a string"),
    "memory-number": (with_options(memory=4), 400, "options.memory: write a number with M, G or T, such as 4G, not a number"),
    "memory-unit": (with_options(memory="4 GB"), 400, "options.memory: write a number with M, G or T, such as 4G"),
    "environment-list": (with_options(environment=["A=1"]), 400, "options.environment: write an object of up to 1000 names, not a list"),
    "environment-name": (with_options(environment={"A B": "1"}), 400, "options.environment"),
    "environment-nul": (with_options(environment={"A": "\0"}), 400, "options.environment"),
    "environment-steers": (with_options(environment={"SBATCH_ACCOUNT": "x"}), 422, "SBATCH_ACCOUNT would change how"),
    "hold-number": (with_options(hold=1), 400, "options.hold: write true or false, not a number"),
    "email-two": (with_options(email="a@b,c@d"), 400, "options.email"),
    "native-text": (with_options(native="-N 2"), 400, "options.native: write a list of up to 200 items, not a string"),
    "native-nested": (with_options(native=[["-N", "2"]]), 400, "options.native[0]: write one line of text"),
    "native-number": (with_options(native=["-N", 2]), 400, "options.native[1]: write one line of text"),
    "native-object": (with_options(native={"-N": "2"}), 400, "options.native: write a list of up to 200 items, not an object"),
    "workdir-nul": (json.dumps({**GOOD, "script": {"content": "#!/bin/sh\n", "workdir": "/tmp\0"}}), 400, "script.workdir"),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_an_invalid_body(as_alice: Client, alice: User, slurm: SlurmCluster, name: str) -> None:
    """The error names the field, and no job is submitted."""
    body, expected, said = BODIES[name]
    before = slurm.run("squeue", "-h", "--states=all", "-u", alice.name, "-o", "%i")
    answer = as_alice("POST", "/api/v1/jobs", data=body, headers={"Content-Type": "application/json"})
    status, error, message = refusal(answer)
    assert (status, error) == (expected, {400: "bad_request", 422: "unprocessable_entity"}[expected]), message
    assert said in message
    assert slurm.run("squeue", "-h", "--states=all", "-u", alice.name, "-o", "%i") == before


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/json-patch+json"]
)
def test_a_body_of_another_type(as_alice: Client, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = as_alice("POST", "/api/v1/jobs", data=json.dumps(GOOD).encode(), headers=headers)
    assert refusal(answer)[:2] == (415, "unsupported_media_type")


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_that_is_too_large(as_alice: Client, chunked: bool) -> None:
    """51 MB is a 413, with and without Content-Length. 49 MB is read, and is then a 400 because it is not JSON."""
    large = b"x" * (51 * 2**20)
    data = iter([large[: 2**20]] * 51) if chunked else large
    answer = as_alice("POST", "/api/v1/jobs", data=data, headers={"Content-Type": "application/json"})
    assert refusal(answer)[:2] == (413, "payload_too_large")
    answer = as_alice("POST", "/api/v1/jobs", data=large[: 49 * 2**20], headers={"Content-Type": "application/json"})
    assert refusal(answer)[:2] == (400, "bad_request")


JOB_IDS = {
    "blank": "a b",
    "negative": "-1",
    "option": "--help",
    "option with a value": "--user=root",
    "slash": "1/2",
    "encoded slash": "1%2F2",
    "encoded parent folder": "..%2F1",
    "parent folder": "../1",
    "newline": "1%0A2",
    "NUL": "1%00",
    "long": "x" * 10_240,
    "zero": "0",
    "leading zero": "01",
    "two ids": "1,2",
    "wildcard": "*",
    "not UTF-8": "%FF%FE",
    "semicolon": "1;2",
    "tasks": "69_[1-2]",
    "encoded dots": "%2e%2e",
}


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
@pytest.mark.parametrize("job_id", JOB_IDS.values(), ids=JOB_IDS)
def test_an_invalid_job_id(portal: Portal, as_alice: Client, job_id: str, method: str) -> None:
    """The request is a 400 or 404, and no command is run with the id."""
    path = f"/api/v1/jobs/{job_id}" + ("/hold" if method == "POST" else "")
    if any(character in job_id for character in " ;*[") or ".." in job_id:
        # Written by hand, because requests would encode these characters.
        line = f"{method} {path}?cluster=owens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {as_alice.token}\r\n"
        said = raw(portal.port, f"{line}Connection: close\r\n\r\n".encode())
        status = int(said.split(b" ")[1])
        assert json.loads(said.partition(b"\r\n\r\n")[2])["error"] in ("bad_request", "not_found", "method_not_allowed")
    else:
        status = refusal(as_alice(method, f"{path}?cluster=owens"))[0]
    assert status in (400, 404, 405)


@pytest.mark.parametrize(
    "cluster",
    ["", "%20", "a b", "--help", "../etc", "..%2Fetc", "x%0Ay", "x" * 10_240, "%00", "%FF"],
    ids=[
        "empty", "encoded blank", "blank", "option", "parent folder", "encoded parent folder", "newline", "long", "NUL",
        "not UTF-8",
    ],
)  # fmt: skip
def test_an_invalid_cluster(as_alice: Client, cluster: str) -> None:
    """A missing cluster is a 400, an unknown one a 404."""
    status, error, _ = as_alice.error("GET", f"/api/v1/jobs?cluster={cluster}")
    assert (status, error) in ((400, "bad_request"), (404, "not_found"))


def test_no_cluster_or_two_are_400(as_alice: Client) -> None:
    for query in ("", "?cluster=owens&cluster=box", "?Cluster=owens"):
        status, error, message = as_alice.error("GET", f"/api/v1/jobs{query}")
        assert (status, error) == (400, "bad_request")
        assert "cluster" in message


QUERIES = {
    "misspelled": ("jobs?cluster=owens&limt=5", "Unknown query parameter: limt. This address takes: cluster, limit, cursor."),
    "other-address": ("jobs?cluster=owens&status=running", "Unknown query parameter: status."),
    "none-known": ("clusters?cluster=owens", "Unknown query parameter: cluster. This address takes no query parameters."),
    "repeated": ("jobs?cluster=owens&limit=1&limit=2", "limit: this query parameter is repeated; give it once"),
    "empty": ("jobs?cluster=owens&limit=", "limit: this query parameter is empty; give it a value or omit it"),
    "control": ("jobs?cluster=owens&cursor=%01", "cursor: this query parameter has a control character in it"),
    "number": ("jobs?cluster=owens&limit=all", 'limit: write a whole number from 1 to 1000, not "all"'),
    "cursor": ("jobs?cluster=owens&cursor=Kg%3D%3D", "Unknown cursor. Pass `next_cursor` from the previous page"),
    "history-cursor": ("jobs/historic?cluster=owens&cursor=MTI%3D", "Unknown cursor. Pass `next_cursor` from the previous"),
    "time": ("jobs/historic?cluster=owens&from=yesterday", "from: write a time with its time zone, such as 2026-11-22T18"),
    "zone": ("jobs/historic?cluster=owens&to=2026-11-22T18:00:00", "to: add the time zone, such as 2026-11-22T18:00:00Z"),
    "wait": ("jobs/1?cluster=owens&wait=301", 'wait: write a whole number from 0 to 300, not "301"'),
    "stream": ("jobs/1/output?cluster=owens&stream=both", 'stream: write one of stderr, stdout, not "both"'),
}  # fmt: skip


@pytest.mark.parametrize("name", QUERIES)
def test_an_invalid_query_string(as_alice: Client, name: str) -> None:
    """The 400 names the parameter and says what to write."""
    path, text = QUERIES[name]
    status, error, message = as_alice.error("GET", f"/api/v1/{path}")
    assert (status, error) == (400, "bad_request")
    assert message.startswith(text)


TOKENS = {
    "none": None,
    "empty": "",
    "bearer-alone": "Bearer",
    "bearer-blank": "Bearer  ",
    "basic": "Basic YTpi",
    "short": "Bearer " + "a" * 63,
    "long": "Bearer " + "a" * 65,
    "upper": "Bearer " + "A" * 64,
    "words": "Bearer " + "a" * 64 + " " + "b" * 64,
    "comma": "Bearer " + "a" * 64 + ",Bearer " + "b" * 64,
    "unknown": "Bearer " + "a" * 64,
    "jwt": "Bearer eyJhbGciOiJub25lIn0.e30.",
    "binary": b"Bearer \xff\xfe",
}


@pytest.mark.parametrize("name", TOKENS)
def test_an_invalid_credential(portal: Portal, name: str) -> None:
    """The request is a 401, or a 400 for two credentials in one header. The log does not have the credential."""
    value = TOKENS[name]
    headers = {} if value is None else {"Authorization": value}
    answer = requests.get(f"{portal.url}/api/v1/clusters", headers=headers, timeout=30)
    expected = (400, "bad_request") if name == "comma" else (401, "unauthorized")
    assert refusal(answer)[:2] == expected
    assert "a" * 60 not in portal.log()


def test_two_authorization_headers(portal: Portal, as_alice: Client) -> None:
    """Two Authorization headers are a 400, even if both are valid."""
    line = f"Authorization: Bearer {as_alice.token}\r\n"
    said = raw(
        portal.port, f"GET /api/v1/clusters HTTP/1.1\r\nHost: x\r\n{line}{line}Connection: close\r\n\r\n".encode()
    )
    assert said.startswith(b"HTTP/1.1 400 ")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"] == "bad_request"


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer\t"], ids=["lower", "upper", "tab"])
def test_a_scheme_in_another_spelling(portal: Portal, as_alice: Client, scheme: str) -> None:
    """The scheme is case-insensitive (RFC 7235)."""
    headers = {"Authorization": f"{scheme} {as_alice.token}"}
    assert requests.get(f"{portal.url}/api/v1/clusters", headers=headers, timeout=30).status_code == 200


@pytest.mark.parametrize("name", ["access_token", "token", "x"])
def test_a_token_in_the_address(portal: Portal, as_alice: Client, name: str) -> None:
    """The request is a 400, even with a valid header, and no log has the token."""
    for headers in ({}, {"Authorization": f"Bearer {as_alice.token}"}):
        url = f"{portal.url}/api/v1/clusters?{name}={as_alice.token}"
        assert refusal(requests.get(url, headers=headers, timeout=30))[:2] == (400, "bad_request")
    once = "".join(f"%{ord(character):02x}" for character in as_alice.token)
    forms = (as_alice.token, as_alice.token[:60] + once[180:], once, once.upper(), once.replace("%", "%25"))
    for form in forms:
        for path in (f"api/v1/jobs/{form}", form, f"api/v1/clusters?{name}=Bearer%20{form}"):
            for method in (b"GET", b"DELETE"):
                # Written by hand, because HTTP libraries normalise the address.
                request = method + f" /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
                assert raw(portal.port, request).startswith(b"HTTP/1.1 400 ")
    log = portal.log()
    for _ in range(3):
        assert as_alice.token not in log
        log = unquote(log)


def test_an_expired_token(portal: Portal, alice: User) -> None:
    """A token stops working in the second of its expiry."""
    client = portal.client(alice)
    entries = json.loads(alice.token_file.read_text())
    entries[-1]["expires_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1))
    alice.token_file.write_text(json.dumps(entries))
    status, error, message = client.error("GET", "/api/v1/clusters")
    assert (status, error) == (401, "unauthorized")
    assert "expired" in message


def test_a_revoked_token_is_refused_at_once(portal: Portal, alice: User) -> None:
    """The next request fails after ``punway token revoke``, and after the entry was removed by hand."""
    client, other = portal.client(alice), portal.client(alice)
    assert client("GET", "/api/v1/clusters").status_code == 200
    assert other("GET", "/api/v1/clusters").status_code == 200
    entries = json.loads(alice.token_file.read_text())
    portal.punway("token", "revoke", entries[0]["id"], user=alice)
    assert client.error("GET", "/api/v1/clusters")[:2] == (401, "unauthorized")
    assert other("GET", "/api/v1/clusters").status_code == 200
    alice.token_file.write_text("[]")
    assert other.error("GET", "/api/v1/clusters")[:2] == (401, "unauthorized")
    alice.token_file.write_text(json.dumps(entries))
    assert other("GET", "/api/v1/clusters").status_code == 200
    # A revocation is final: an old copy of the file does not restore the first token.
    assert client.error("GET", "/api/v1/clusters")[:2] == (401, "unauthorized")
    alice.token_file.unlink()
    assert other.error("GET", "/api/v1/clusters")[:2] == (401, "unauthorized")


def spoil_group_readable(user: User, bob: User) -> None:
    user.token_file.chmod(0o640)


def spoil_owner(user: User, bob: User) -> None:
    os.chown(user.token_file, bob.uid, bob.gid)


def spoil_not_json(user: User, bob: User) -> None:
    user.token_file.write_text("[{")


def spoil_object(user: User, bob: User) -> None:
    user.token_file.write_text(json.dumps({"tokens": json.loads(user.token_file.read_text())}))


def spoil_number(user: User, bob: User) -> None:
    user.token_file.write_text('[{"id": "x", "name": "n", "token": 12345}]')


def spoil_directory(user: User, bob: User) -> None:
    user.token_file.parent.chmod(0o777)


def spoil_symlink(user: User, bob: User) -> None:
    real = user.token_file.with_name("real.json")
    user.token_file.rename(real)
    user.token_file.symlink_to(real)


def spoil_fifo(user: User, bob: User) -> None:
    user.token_file.unlink()
    os.mkfifo(user.token_file, 0o600)
    os.chown(user.token_file, user.uid, user.gid)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(spoil_group_readable, "chmod 600"), (spoil_owner, "belongs to another user"), (spoil_not_json, "not JSON"),
     (spoil_object, "not an array of objects"), (spoil_number, ""), (spoil_directory, "chmod go-w"),
     (spoil_symlink, "symbolic link"), (spoil_fifo, "not a regular file")],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_an_invalid_token_file(portal: Portal, alice: User, bob: User, spoil: object, said: str) -> None:
    """A token that was valid until then gets a 401 that says what to do, and the file does not change."""
    client = portal.client(alice)
    assert client("GET", "/api/v1/clusters").status_code == 200
    wait_for("its last use to be recorded", lambda: json.loads(alice.token_file.read_text())[0]["last_used_at"])
    spoil(alice, bob)  # type: ignore[operator]
    before = alice.token_file.read_bytes() if alice.token_file.is_file() else b""
    try:
        status, error, message = client.error("GET", "/api/v1/clusters")
        assert (status, error) == (401, "unauthorized")
        assert said in message
        assert before == (alice.token_file.read_bytes() if alice.token_file.is_file() else b"")
    finally:
        alice.token_file.parent.chmod(0o700)


def test_no_secret_is_in_a_log_a_title_or_a_file(portal: Portal, alice: User) -> None:
    """Only the client has the token: no disk, log, command line or environment has it."""
    client = portal.client(alice)
    client("GET", "/api/v1/clusters")
    client("GET", f"/api/v1/jobs/{secrets.token_hex(4)}?cluster=owens")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    assert client.token.encode() not in file.read()
            except OSError:
                continue
    for top in (portal.folder, alice.home):
        for folder, _, files in os.walk(top):
            for name in files:
                path = os.path.join(folder, name)
                if os.path.isfile(path):
                    with open(path, "rb") as file:
                        assert client.token.encode() not in file.read(), path
