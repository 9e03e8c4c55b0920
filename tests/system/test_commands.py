"""Tests of the ``punway`` command as users and admins run it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.system.agents import Agent, with_agent
from tests.system.conftest import cluster_files
from tests.system.portal import PUNWAY, Client, Portal, User, command_of, processes_of, small_disk
from tests.system.slurm import SlurmCluster, free_port, wait_for
from tokens.token import sha256_of

RunDemo = Callable[..., tuple[subprocess.Popen[bytes], int]]


@pytest.fixture
def run_demo() -> Iterator[RunDemo]:
    """Return a function that starts ``punway demo`` on a free port, as a user or as root (None). End all of them.

    The demo starts with exactly the given signals ignored, whatever the test run itself ignores.
    """
    demos: list[subprocess.Popen[bytes]] = []

    def run_demo(user: User | None, output: Path, *ignored: signal.Signals) -> tuple[subprocess.Popen[bytes], int]:
        port = free_port()
        as_user: dict[str, Any] = {"user": user.name, "group": user.gid, "extra_groups": []} if user else {}
        home = str(user.home) if user else "/root"
        ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        kept = {end: signal.signal(end, signal.SIG_IGN if end in ignored else signal.SIG_DFL) for end in ends}
        try:
            with output.open("wb") as out:
                demo = subprocess.Popen(
                    [*PUNWAY, "demo", "--port", str(port)], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/",
                    env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home}, start_new_session=True, **as_user,
                )  # fmt: skip
        finally:
            for end, handler in kept.items():
                signal.signal(end, handler)
        demos.append(demo)
        wait_for("the demo", lambda: "Ctrl-C" in output.read_text() or demo.poll() is not None, 180)
        assert demo.poll() is None, output.read_text()
        return demo, port

    yield run_demo
    for demo in demos:
        demo.terminate()
        demo.wait(120)


async def an_errand(agent: Agent) -> str:
    """Submit a job and read its output, as an agent that knows nothing except the tools."""
    tools = {tool.name for tool in (await agent.client.list_tools()).tools}
    assert {"list_clusters", "submit_job", "wait_for_job", "read_job_output"} <= tools
    cluster = (await agent.tool("list_clusters"))["clusters"][0]["id"]
    script = "#!/bin/bash\nsleep 1; echo hello from $(id -un)\n"
    job = {"cluster": cluster, "job_id": (await agent.tool("submit_job", cluster=cluster, script=script))["job_id"]}
    assert (await agent.tool("wait_for_job", **job))["job"]["outcome"] == "succeeded"
    return str((await agent.tool("read_job_output", **job))["content"])


def as_roots_own(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command as root."""
    return subprocess.run(argv, capture_output=True, text=True, check=True, cwd="/root")


@pytest.mark.parametrize("as_root", [False, True], ids=["user", "root"])
def test_the_demo(folder: Path, alice: User, run_demo: RunDemo, as_root: bool) -> None:
    """The demo prints one screen of commands that work as printed, from the list of clusters to a job's output. After
    Ctrl-C only its directory stays, with a command that removes it."""
    output = folder / f"demo-{as_root}"
    before = {path.name for path in alice.home.iterdir()}
    demo, port = run_demo(None if as_root else alice, output)
    try:
        screen = output.read_text()
        assert len(screen.splitlines()) <= 24
        assert f"http://127.0.0.1:{port}" in screen
        user = re.search(r"for (\S+) alone", screen)[1]
        assert user != "root"
        pasted = as_roots_own if as_root else alice.run
        login = next(line.split() for line in screen.splitlines() if " login -c " in line)
        in_browser = requests.Session()
        in_browser.trust_env = False
        assert "API Tokens" in in_browser.post(pasted(*login).stdout.splitlines()[-1], timeout=30).text
        commands = [line.strip() for line in screen.splitlines() if line.strip().startswith("curl")]
        assert len(commands) == 4
        answers = [
            json.loads(subprocess.run(["bash", "-c", f"{c} -s"], capture_output=True, check=True).stdout)
            for c in commands
        ]
        assert answers[0]["data"][0]["id"] == "demo"
        assert (answers[1]["data"]["job_id"], answers[1]["data"]["job_owner"]) == ("1", user)
        assert answers[2]["data"]["outcome"] == "succeeded"
        assert answers[3]["data"]["content"] == f"Hello from {user}\n"
        assert requests.get(f"http://127.0.0.1:{port}/api/v1/docs", timeout=30).ok
        token = re.search(r"^    ([0-9a-f]{64})$", screen, re.MULTILINE)[1]
        assert f"http://127.0.0.1:{port}/mcp --header 'Authorization: Bearer {token}'" in screen
        assert with_agent(f"http://127.0.0.1:{port}", token, an_errand) == f"hello from {user}\n"
        uid = int(subprocess.run(["id", "-u", user], capture_output=True, text=True, check=True).stdout)
    finally:
        os.kill(demo.pid, signal.SIGINT)
        demo.wait(120)
    assert demo.returncode == 0
    said = output.read_text()
    removal = re.search(r"directory stays.*: (rm -rf (\S+))$", said, re.MULTILINE)
    assert removal and removal[2] in screen and Path(removal[2]).is_dir()
    subprocess.run(removal[1].split(), user=None if as_root else alice.name, check=True)
    assert not Path(removal[2]).exists()
    assert [pid for pid in processes_of(uid) if "punway-demo" in command_of(pid)] == []
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}", timeout=30)
    if as_root:
        assert user in said
        assert subprocess.run(["id", user], capture_output=True, check=False).returncode == 1
        assert processes_of(uid) == []
        assert not Path(f"/home/{user}").exists()
    else:
        assert {path.name for path in alice.home.iterdir()} == before


@pytest.mark.parametrize(
    ("as_root", "end"),
    [(True, signal.SIGTERM), (True, signal.SIGINT), (False, signal.SIGHUP), (False, signal.SIGINT)],
    ids=["root, SIGTERM", "root, SIGINT", "user, SIGHUP", "user, SIGINT"],
)
def test_the_demo_in_the_background(
    folder: Path, alice: User, run_demo: RunDemo, as_root: bool, end: signal.Signals
) -> None:
    """A background demo of a script, with SIGINT ignored, ends by kill or with its terminal, and leaves nothing behind.

    Its jobs end too, even if the printed token has been revoked.
    """
    output = folder / f"demo-{as_root}-{end.name}"
    demo, port = run_demo(None if as_root else alice, output, signal.SIGINT)
    screen = output.read_text()
    user = re.search(r"for (\S+) alone", screen)[1]
    client = Client(f"http://127.0.0.1:{port}", re.search(r"^    ([0-9a-f]{64})$", screen, re.MULTILINE)[1])
    client.submit("#!/bin/sh\nexec sleep 3601\n", cluster="demo")
    login = re.search(r"^    (.+) login -c (\S+)$", screen, re.MULTILINE)
    assert login
    command, config = login.groups()
    token = ["runuser", "-u", user, "--", command.split()[-1], "token"]
    token_id = client.data("GET", "/api/v1/whoami")["token_id"]
    subprocess.run([*token, "revoke", token_id, "-c", config], check=True, capture_output=True)
    assert client.error("GET", "/api/v1/whoami")[0] == 401
    assert re.search(r"or run: kill (\d+)$", screen, re.MULTILINE)[1] == str(demo.pid)
    uid = int(subprocess.run(["id", "-u", user], capture_output=True, text=True, check=True).stdout)
    for _ in range(3):
        os.kill(demo.pid, end)
    assert demo.wait(120) == 0
    said = output.read_text()
    assert "Traceback" not in said and "could not" not in said, said
    shutil.rmtree(re.search(r"directory stays.*rm -rf (\S+)$", said, re.MULTILINE)[1])
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}", timeout=30)
    assert [pid for pid in processes_of(uid) if "punway-demo" in command_of(pid)] == []
    assert [pid for pid in processes_of(uid) if "3601" in command_of(pid)] == []
    if as_root:
        assert subprocess.run(["id", user], capture_output=True, check=False).returncode == 1


def test_the_demo_says_that_a_port_is_in_use(alice: User, portal: Portal) -> None:
    """The message suggests a free port."""
    done = alice.run(*PUNWAY, "demo", "--port", str(portal.port), check=False)
    assert done.returncode == 1
    assert f"port {portal.port} is in use; try: make demo PORT=" in done.stderr


def test_the_demo_says_that_a_port_is_roots(alice: User) -> None:
    """The message says that only root may use the port, and suggests a free one."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    port = next((port for port in (80, 81) if port < lowest), None)
    if port is None:
        pytest.skip("any user may listen on any port here")
    done = alice.run(*PUNWAY, "demo", "--port", str(port), check=False)
    assert (done.returncode, f"only root may listen on port {port}" in done.stderr) == (1, True)
    free = re.search(r"punway demo --port (\d+)$", done.stderr.strip())
    assert free and int(free[1]) >= lowest


def test_a_virtual_environment_is_readable_whatever_the_umask_is(folder: Path) -> None:
    """The make target creates a readable environment. Root's demo rejects an unreadable one, with a command to repair it."""
    checkout, venv = Path(__file__).parents[2], folder / "umask-venv"
    make = ["make", "-C", str(checkout), f"VENV={venv}", f"{venv}/bin/python"]
    subprocess.run(make, umask=0o077, check=True, capture_output=True)
    readable = ["find", "-L", str(venv), "-not", "-perm", "-o=r"]
    assert subprocess.run(readable, capture_output=True, text=True, check=True).stdout == ""
    packages = next(venv.glob("lib/python*/site-packages"))
    (packages / "others").mkdir(mode=0o700)
    for name in ("punway", "spawner", "proxy_hook", "tokens"):
        shutil.copytree(checkout / name, packages / name)
    (packages / "punway.pth").write_text(f"{Path(requests.__file__).parents[1]}\n")
    argv = [str(venv / "bin" / "python"), "-I", "-m", "punway.cli", "demo", "--port", str(free_port())]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"ordinary users cannot read {packages}/others" in done.stderr
    assert done.stderr.rstrip().endswith(f"run: chmod -R go+rX {venv}")


@pytest.mark.parametrize("command", ["token list", "token create --help", "nginx-config"])
def test_a_reader_that_has_seen_enough(portal: Portal, alice: User, command: str) -> None:
    """``punway … | head`` prints no traceback. Here the reader has closed the pipe before anything is written."""
    portal.token(alice)
    argv = [*PUNWAY, *command.split(), *([] if "--help" in command else ["-c", str(portal.config)])]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as nobody:
        done = subprocess.run(
            argv, stdout=nobody, stderr=subprocess.PIPE, user=alice.name, cwd="/", check=False, timeout=120
        )
    assert (done.returncode, done.stderr) == (1, b"")


def test_token_create_prints_the_token_alone_on_the_last_line(portal: Portal, alice: User) -> None:
    """Scripts can read the token from the last line. The printed example works, and the token file is private."""
    done = portal.punway("token", "create", "My CI", "--scopes", "jobs:read", "--expires", "12h", user=alice)
    secret = done.stdout.splitlines()[-1]
    assert re.fullmatch("[0-9a-f]{64}", secret)
    assert done.stdout.count(secret) == 1
    example = next(line.strip() for line in done.stdout.splitlines() if line.strip().startswith("curl"))
    answer = subprocess.run(
        ["bash", "-c", f"TOKEN={secret}; {example} -sf"], capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout)["data"]["scopes"] == ["jobs:read"]
    entry = json.loads(alice.token_file.read_text())[0]
    assert (entry["name"], entry["scopes"]) == ("My CI", ["jobs:read"])
    assert (
        11 * 3600
        < time.mktime(time.strptime(entry["expires_at"], "%Y-%m-%dT%H:%M:%SZ")) - time.mktime(time.gmtime())
        <= 12 * 3600
    )
    assert alice.token_file.stat().st_mode & 0o777 == 0o600
    assert alice.token_file.stat().st_uid == alice.uid


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--scopes", "jobs:all"), "unknown scope: jobs:all"),
        (("--expires", "soon"), "is not a lifetime"),
        (("--name",), "usage"),
    ],
    ids=["scope", "expiry", "usage"],
)
def test_token_create_says_what_is_wrong(portal: Portal, alice: User, options: tuple[str, ...], said: str) -> None:
    """A wrong option is named, and no token is created."""
    done = portal.punway("token", "create", "x", *options, user=alice, check=False)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert not alice.token_file.exists()


def test_token_create_without_a_portal_makes_nothing(folder: Path, alice: User, hook_user: str) -> None:
    """Without a portal, which would have to know the token, none is created."""
    portal = Portal(folder / "none", hook_user, {})
    done = portal.punway("token", "create", "x", user=alice, check=False)
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert not alice.token_file.exists()


def test_token_list_and_the_plugins_tokens(portal: Portal, alice: User) -> None:
    """The list shows no secrets and marks tokens in clear, which work after sync and after secure."""
    secret = "12" * 32
    own = portal.token(alice)
    entries = [
        *json.loads(alice.token_file.read_text()),
        {"id": "old", "name": "Plugin's", "token": secret, "created_at": "2026-01-01T00:00:00Z"},
    ]
    alice.token_file.write_text(json.dumps(entries))
    listed = portal.punway("token", "list", user=alice).stdout
    assert "Plugin's" in listed
    assert "STORED IN CLEAR" in listed
    assert "not registered with the portal: run punway token sync" in listed
    assert secret not in listed
    assert own not in listed
    client = Client(portal.url, secret)
    assert client.error("GET", "/api/v1/clusters")[0] == 401
    portal.punway("token", "sync", user=alice)
    assert client("GET", "/api/v1/clusters").status_code == 200
    portal.punway("token", "secure", user=alice)
    assert secret not in alice.token_file.read_text()
    assert client("GET", "/api/v1/clusters").status_code == 200
    portal.punway("token", "revoke", "old", user=alice)
    assert client.error("GET", "/api/v1/clusters")[0] == 401
    done = portal.punway("token", "revoke", "old", user=alice, check=False)
    assert (done.returncode, "no token has the id old" in done.stderr) == (1, True)


def test_a_revocation_holds_where_the_file_cannot_be_written(portal: Portal, alice: User) -> None:
    """If the home is full, the portal still rejects the revoked token, and the command says so."""
    client = portal.client(alice)
    assert client("GET", "/api/v1/clusters").status_code == 200
    token_id = json.loads(alice.token_file.read_text())[0]["id"]
    entries = [{"id": token_id, "name": "x", "sha256": sha256_of(client.token),
                "scopes": ["clusters:read"], "created_at": None, "expires_at": None, "last_used_at": "2099-01-01T00:00:00Z"}]  # fmt: skip
    with small_disk(alice) as fill:
        alice.run("sh", "-c", f"umask 077; cat > {alice.token_file}", input=json.dumps(entries))
        assert client("GET", "/api/v1/clusters").status_code == 200
        fill()
        done = portal.punway("token", "revoke", token_id, user=alice)
        assert "no space or quota is left" in done.stdout
        assert client.token[:8] not in done.stdout
        assert json.loads(alice.token_file.read_text()) == entries
        assert client.error("GET", "/api/v1/clusters")[:2] == (401, "unauthorized")


def test_a_rotation_lets_the_old_token_live_for_its_grace(portal: Portal, alice: User) -> None:
    """The new token has the same name and scopes. Without a grace period the old one is rejected at once."""
    old = portal.client(alice, "--scopes", "clusters:read", "--expires", "5d")
    old_id = json.loads(alice.token_file.read_text())[0]["id"]
    done = portal.punway("token", "rotate", old_id, "--grace", "1h", user=alice)
    new = Client(portal.url, done.stdout.splitlines()[-1])
    for client in (old, new):
        assert client("GET", "/api/v1/clusters").status_code == 200
        assert client.error("GET", "/api/v1/jobs?cluster=box")[:2] == (403, "insufficient_scope")
    was, now = json.loads(alice.token_file.read_text())
    assert (was["name"], was["scopes"]) == (now["name"], now["scopes"])
    assert was["expires_at"] < now["expires_at"]
    newest = portal.punway("token", "rotate", now["id"], "--grace", "0", user=alice).stdout.splitlines()[-1]
    assert "expired" in new.error("GET", "/api/v1/clusters")[2]
    assert Client(portal.url, newest)("GET", "/api/v1/clusters").status_code == 200
    done = portal.punway("token", "rotate", "none-of-mine", user=alice, check=False)
    assert (done.returncode, "no token has the id" in done.stderr) == (1, True)


def test_an_expiry_is_a_date_or_a_time_that_the_site_allows(portal: Portal, alice: User) -> None:
    """A date counts until its end. Times in the past or beyond the site's limit are rejected."""
    tomorrow = (datetime.now(timezone.utc) + timedelta(days=1)).date().isoformat()
    portal.client(alice, "--expires", tomorrow)
    assert json.loads(alice.token_file.read_text())[0]["expires_at"] == f"{tomorrow}T23:59:59Z"
    for expires in ("never", "2y", "2020-01-01", "2099-12-31", "tomorrow"):
        done = portal.punway("token", "create", "x", "--expires", expires, user=alice, check=False)
        assert done.returncode == 1, expires
    assert len(json.loads(alice.token_file.read_text())) == 1


def test_tokens_that_stand_in_files_are_found(portal: Portal, alice: User, bob: User) -> None:
    """token find prints file, line and ID of the user's own tokens, and never a token itself."""
    mine, bobs = portal.token(alice), portal.token(bob)
    token_id = json.loads(alice.token_file.read_text())[0]["id"]
    code = alice.home / "project" / "src"
    alice.run("mkdir", "-p", str(code))
    alice.run(
        "sh",
        "-c",
        f"printf 'a\\nTOKEN={mine}\\n' > {code}/.env; echo {bobs} > {code}/notes; echo fine > {code}/main.py",
    )

    def find(*files: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return alice.run(*PUNWAY, "token", "find", *files, "-c", str(portal.config), check=False, **more)

    done = find(str(alice.home / "project"))
    assert done.returncode == 1
    assert f"{code}/.env:2: token {token_id} (test), valid until" in done.stdout
    assert "1 other text(s) look like a token" in done.stdout
    assert mine not in done.stdout and bobs not in done.stdout
    done = find(f"{code}/main.py", f"{code}/notes")
    assert (done.returncode, "Found none of your tokens." in done.stdout) == (0, True)
    assert find("-", input=f"Authorization: Bearer {mine}").returncode == 1
    done = find("/nonexistent", "/etc/shadow")
    assert done.returncode == 2
    assert "/nonexistent: No such file" in done.stderr and "/etc/shadow: Permission denied" in done.stderr


def test_a_name_is_no_terminals_command(portal: Portal, alice: User) -> None:
    """Control characters that another program wrote into the token file are escaped."""
    entry = {"id": "\x1b[2Jid", "name": "\x1b]0;title\x07\u202e", "sha256": "a" * 64, "scopes": []}
    alice.run(
        "sh",
        "-c",
        f"umask 077; mkdir -p {alice.token_file.parent}; cat > {alice.token_file}",
        input=json.dumps([entry]),
    )
    listed = portal.punway("token", "list", user=alice).stdout
    assert "\x1b" not in listed and "\u202e" not in listed
    assert "\\x1b[2Jid" in listed


def test_check_finds_nothing_wrong_with_a_portal_that_works(portal: Portal, slurm: SlurmCluster) -> None:
    """punway check reports only the cluster files that the tests broke on purpose, each by its name."""
    said = portal.punway("check", check=False).stdout
    wrong = [line for line in said.splitlines() if line.startswith("WRONG")]
    assert len(wrong) == 2, said
    assert "broken.yml" in wrong[0]
    assert "kubernetes" in wrong[1]
    assert "cluster owens, adapter slurm" in said
    table = said[said.index("CLUSTER") :].splitlines()
    rows = {row.split()[0]: row for row in table[1:] if row.split()[1:2] != ["problem(s)"] and row}
    version = slurm.run("sinfo", "--version").split()[1]
    assert rows["owens"].split() == ["owens", "slurm", version, "all", "all"]
    assert "answers 501" in rows["cloud"] and "kubernetes" in rows["cloud"]
    assert "array" in rows["box"]


def test_check_says_what_is_wrong(folder: Path, hook_user: str, slurm: SlurmCluster) -> None:
    """punway check finds mistakes in configuration, users, directories, secrets and scheduler commands."""
    portal = Portal(folder / "check", hook_user, cluster_files(slurm))

    def wrong() -> str:
        done = portal.punway("check", check=False)
        assert done.returncode == 1
        return "\n".join(line for line in done.stdout.splitlines() if line.startswith("WRONG"))

    for more, said in (
        ({"hook_user": "no-such-user"}, "useradd --system"),
        ({"hook_user": "root"}, "must not be root"),
        ({"nginx_user": "no-such-user"}, "install nginx"),
        ({"nginx_user": hook_user}, "must be two different users"),
        ({"listen": "0.0.0.0:80"}, "portal.listen"),
        ({"tls_certificate": "/nonexistent", "tls_key": "/nonexistent"}, "cannot be read"),
        ({"lisen": "x"}, "unknown key portal.lisen"),
    ):
        portal.more = more
        portal.write_config()
        assert said in wrong(), more
    portal.more = {}
    secret = folder / "open-secret"
    secret.write_text("x")
    idp: dict[str, Any] = {"issuer": "http://127.0.0.1:1", "audience": "x"}
    for tables, said in (
        ({"login": {"client_secret_file": str(secret)}}, "chmod 600"),
        ({"login": {"client_secret_file": "/nonexistent"}}, "No such file"),
        ({"idp": {"issuer": "http://127.0.0.1:1"}}, "it has no effect"),
        ({"idp": idp}, "http://127.0.0.1:1/.well-known/openid-configuration"),
        ({"idp": {**idp, "user_map": "/nonexistent"}}, "idp.user_map"),
    ):
        portal.tables = tables
        portal.write_config()
        assert said in wrong(), tables
    portal.tables = {}
    portal.write_config()
    portal.run_dir.mkdir(mode=0o777)
    portal.run_dir.chmod(0o777)
    assert "chmod go-w" in wrong()
    portal.run_dir.chmod(0o755)
    (portal.folder / "clusters.d" / "owens.yml").write_text("v2: {job: {adapter: slurm, bin: /nonexistent}}")
    assert "cannot be run: /nonexistent/sbatch" in wrong()
    shutil.rmtree(portal.folder / "clusters.d")
    assert "clusters.path" in wrong()


def test_check_says_when_users_cannot_read_the_interpreter(folder: Path, hook_user: str) -> None:
    """punway check reports a virtual environment that ordinary users cannot read, so no PUN could import from it."""
    portal = Portal(folder / "closed", hook_user, {})
    closed = folder / "closed-python"
    closed.mkdir(mode=0o700)
    subprocess.run(
        [sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", str(closed / "venv")], check=True
    )
    packages = Path(requests.__file__).parents[1]
    place = next((closed / "venv" / "lib").glob("python*")) / "site-packages"
    (place / "punway.pth").write_text(f"{packages}\n")
    argv = [str(closed / "venv" / "bin" / "python"), "-I", "-m", "punway.cli", "check", "-c", str(portal.config)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "ordinary users cannot read" in done.stdout, done.stderr
    assert str(closed) in done.stdout


def test_admin_ps_and_stop(portal: Portal, alice: User, as_alice: Client) -> None:
    """admin ps lists a PUN, admin stop ends it, and the next request starts another one."""
    as_alice("GET", "/api/v1/clusters")
    assert re.search(rf"{alice.name} +{alice.uid} +\d+ +running", portal.punway("admin", "ps").stdout)
    assert "stops once" in portal.punway("admin", "stop", alice.name).stdout
    wait_for("no PUN", lambda: portal.pid_of(alice) == 0)
    done = portal.punway("admin", "stop", alice.name, check=False)
    assert (done.returncode, "has no PUN" in done.stderr) == (1, True)
    assert as_alice("GET", "/api/v1/clusters").status_code == 200


def test_nginx_config_is_printed_for_conf_d(portal: Portal) -> None:
    """The printed configuration has the portal's port and log files of /var/log/nginx."""
    text = portal.punway("nginx-config").stdout
    assert f"listen 127.0.0.1:{portal.port};" in text
    assert "/var/log/nginx/" in text


@pytest.mark.parametrize(
    "command",
    ["", "demo", "serve", "spawner", "hook", "check", "nginx-config", "token", "token create", "token list", "token revoke",
     "token sync", "token secure", "token rotate", "token find", "login", "admin", "admin ps", "admin stop", "admin reload"],
)  # fmt: skip
def test_every_command_has_help(command: str) -> None:
    """Each command has a usage line and a description, and names PUNWAY_CONFIG if it reads the configuration."""
    done = subprocess.run([*PUNWAY, *shlex.split(command), "--help"], capture_output=True, text=True, check=True)
    assert "usage: punway" in done.stdout
    assert len(done.stdout.splitlines()) > 4
    if command in ("serve", "check", "token create", "admin ps"):
        assert "PUNWAY_CONFIG" in done.stdout


def test_a_missing_configuration_is_said(folder: Path) -> None:
    """A missing configuration file is a one-line error that names it."""
    done = subprocess.run(
        [*PUNWAY, "serve", "-c", str(folder / "none.toml")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, f"punway: {folder}/none.toml: No such file or directory\n")


def test_the_package_stands_without_the_checkout(portal: Portal) -> None:
    """The portal's processes load all of their code from the virtual environment, and none from the checkout."""
    checkout = str(Path(__file__).parents[2])
    for name in ("spawner", "hook", "nginx"):
        assert checkout not in Path(f"/proc/{portal.part(name)}/maps").read_text()
        assert os.readlink(f"/proc/{portal.part(name)}/cwd") != checkout
    said = subprocess.run(
        [sys.executable, "-I", "-c", "import pun_app.app, proxy_hook.hook, nginx; print(pun_app.__path__, nginx.__path__)"],
        capture_output=True, text=True, check=True, cwd="/",
    ).stdout  # fmt: skip
    assert "site-packages" in said
    assert checkout not in said
