"""nginx: malformed and hostile HTTP, and the responses when a process behind it fails."""

from __future__ import annotations

import gzip
import json
import os
import pwd
import re
import signal
import socket
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from punway.nginx_config import HOOK_TIMEOUT_S
from tests.system.fake_pun import OF_NGINX, fake_pun
from tests.system.portal import PUNWAY, Client, Portal, User, children_of, raw, refusal, unique
from tests.system.slurm import wait_for


def ask(portal: Portal, request: str) -> tuple[int, dict[str, str], bytes]:
    """Send a raw request, after which the portal closes the connection. Return status, headers and body."""
    response = raw(portal.port, request.encode())
    head, _, body = response.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.split(": ", 1) for line in lines[1:]), body


MALFORMED = {
    "length-and-chunked": "POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown-encoding": "POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\n{auth}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "folded-header": "GET /api/v1/clusters HTTP/1.1\r\nHost: x\r\n{auth}X-A: b\r\n c\r\n\r\n",
    "two-lengths": "POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "two-hosts": "GET /api/v1/clusters HTTP/1.1\r\nHost: x\r\nHost: y\r\n{auth}\r\n",
    "no-host": "GET /api/v1/clusters HTTP/1.1\r\n{auth}\r\n",
    "space-before-colon": "GET /api/v1/clusters HTTP/1.1\r\nHost: x\r\n{auth}X-A : b\r\n\r\n",
    "nul": "GET /api/v1/clusters HTTP/1.1\r\nHost: x\r\n{auth}X-A: b\0c\r\n\r\n",
    "nul-in-address": "GET /api/v1/jobs/1%00 HTTP/1.1\r\nHost: x\r\n{auth}\r\n",
    "no-http": "hello\r\n\r\n",
    "control-in-a-header": "GET /api/v1/clusters HTTP/1.1\r\nHost: x\r\n{auth}Accept: a\x0bb\r\n\r\n",
    "control-in-a-message": "POST /mcp HTTP/1.1\r\nHost: x\r\n{auth}Origin: a\x01b\r\nContent-Length: 2\r\n\r\n{{}}",
    "bytes-in-address": "GET /api/v1/jobs/\u2028 HTTP/1.1\r\nHost: x\r\n{auth}\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_http_is_400_in_the_contracts_form(portal: Portal, as_alice: Client, name: str) -> None:
    """The response is never nginx's own page, even if the request could not be parsed."""
    request = MALFORMED[name].format(auth=f"Authorization: Bearer {as_alice.token}\r\nConnection: close\r\n")
    status, headers, body = ask(portal, request)
    assert status == 400
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body)["error"] == "bad_request"


@pytest.mark.parametrize("control", [*range(1, 9), *range(11, 13), *range(14, 32), 127])
def test_a_control_character_in_a_credential(portal: Portal, as_alice: Client, control: int) -> None:
    """It is a 400 in any position, and not a 503: nginx does not ask the hook."""
    token = as_alice.token.encode()
    for value in (b"Bearer%c" % control + token, b"Bearer " + token + b"%c" % control, b"Bearer %c" % control + token):
        head = b"GET /api/v1/clusters HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: "
        response = raw(portal.port, head + value + b"\r\n\r\n")
        assert response.startswith(b"HTTP/1.1 400 ") and b"control character" in response


@pytest.mark.parametrize("path", ["/api/v1/clusters", "/settings/api_tokens"])
def test_what_the_hooks_server_does_not_take_is_no_outage(portal: Portal, alice: User, path: str) -> None:
    """A 400 of the hook's server is not turned into a 503, even for a header that nginx does not check."""
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Anything: a\x01b\r\n\r\n".encode()
    response = raw(portal.port, request)
    assert response.startswith(b"HTTP/1.1 400 " if path.startswith("/settings") else b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    "path", ["/api/v1/jobs", "/api/v1/jobs/status", "/api/v1/jobs/1/hold", "/mcp", "/login/once/x"]
)
def test_a_body_that_is_encoded_is_415(portal: Portal, as_alice: Client, path: str) -> None:
    """The response names the accepted encoding (RFC 9110, section 15.5.16). ``identity`` is accepted, and so is a GET."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = as_alice("POST", path, data=gzip.compress(b"{}"), headers=headers)
    assert refusal(answer)[:2] == (415, "unsupported_media_type")
    assert answer.headers["Accept-Encoding"] == "identity"
    assert as_alice("GET", "/api/v1/clusters", headers=headers).status_code == 200
    asked = {"jobs": [{"cluster": "box", "job_id": "1"}]}
    assert as_alice("POST", "/api/v1/jobs/status", asked, headers={"Content-Encoding": "identity"}).status_code == 200


def test_answers_are_compressed(portal: Portal, as_alice: Client) -> None:
    """Large responses are, if the client accepts that, and conditional requests still work. Pages never are: they contain
    secrets.
    """
    asked = {"jobs": [{"cluster": "box", "job_id": f"{number}"} for number in range(1, 101)]}
    small = as_alice("GET", "/api/v1/clusters")
    large = as_alice("POST", "/api/v1/jobs/status", asked, stream=True)
    plain = as_alice("POST", "/api/v1/jobs/status", asked, headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in small.headers and "Content-Encoding" not in plain.headers
    assert (large.headers["Content-Encoding"], large.headers["Vary"]) == ("gzip", "Accept-Encoding")
    compressed = large.raw.read(decode_content=False)
    assert gzip.decompress(compressed) == plain.content and len(compressed) * 10 < len(plain.content)
    script = requests.get(f"{portal.url}/api/v1/openapi.json", timeout=30)
    assert script.headers["Content-Encoding"] == "gzip" and script.headers["ETag"].startswith("W/")
    again = requests.get(script.url, headers={"If-None-Match": script.headers["ETag"]}, timeout=30)
    assert again.status_code == 304
    assert "Content-Encoding" not in requests.get(f"{portal.url}/login", timeout=30).headers


@pytest.mark.parametrize(
    "path",
    ["/public/../api/v1/clusters", "/health/..%2fapi/v1/clusters", "/api/v1/..%2f..%2fhealth", "/api/../health",
     "//api/v1/clusters", "/api//v1/clusters", "/api/v1/./clusters", "/api/v1/%2e%2e/v1/clusters", "/api/v1/clusters;x=1",
     "/api/v1/jobs/%5c", "http://x/api/v1/clusters/../clusters"],
)  # fmt: skip
def test_an_ambiguous_address_opens_nothing(portal: Portal, as_alice: Client, path: str) -> None:
    """nginx and the PUN could interpret such an address differently, so it is refused."""
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {as_alice.token}\r\nConnection: close\r\n\r\n"
    status, _, body = ask(portal, request)
    assert (status, json.loads(body)["error"]) == (400, "bad_request")
    assert ask(portal, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")[0] == 400


def test_what_reaches_a_pun(portal: Portal, alice: User, as_alice: Client) -> None:
    """It gets the hook's assertion, and none of the client's own headers of that kind, no credential, and no cookie."""
    sent = {
        "X-Pun-Assertion": "forged", "X-Pun-Socket": "/forged", "X-OOD-User": "root", "X-Forwarded-User": "root",
        "X-Forwarded-For": "10.0.0.1", "Cookie": "session=1", "X-Punway-Status": "200", "Connection": "X-Pun-Assertion",
        "X_Pun_Assertion": "forged", "X-Punway-Peer": "10.0.0.1", "Accept": "application/json", "Proxy": "x", "X-Accel-Redirect": "/",
        "Authorization-Copy": as_alice.token,
    }  # fmt: skip
    with fake_pun(portal, alice, as_alice) as pun:
        assert as_alice("GET", "/api/v1/clusters?a=b", headers=sent).status_code == 200
    lines = pun.got.decode().split("\r\n")
    assert lines[0] == "GET /api/v1/clusters?a=b HTTP/1.1"
    got = {}
    for line in filter(None, lines[1:]):
        name, _, value = line.partition(": ")
        assert name.lower() not in got, f"{name} twice"
        got[name.lower()] = value
    assert set(got) == {
        "host", "connection", "x-pun-assertion", "x-request-id", "x-punway-peer", "accept", "user-agent"
    }  # fmt: skip
    assert got["x-pun-assertion"].count(".") == 2
    assert got["x-punway-peer"] == "127.0.0.1"
    assert got["host"] == f"127.0.0.1:{portal.port}"
    assert as_alice.token.encode() not in pun.got


UNKNOWN = {
    "X-Accel-Redirect": "/health", "X-Accel-Buffering": "no", "X-Accel-Limit-Rate": "1", "X-Accel-Expires": "9",
    "X-Accel-Charset": "x", "X-Sendfile": "/etc/passwd", "Set-Cookie": "session=stolen", "Set-Cookie2": "session=stolen",
    "Strict-Transport-Security": "max-age=0", "Public-Key-Pins": "x", "Expect-CT": "x", "Expect-Staple": "x",
    "Content-Security-Policy": "default-src *", "Content-Security-Policy-Report-Only": "default-src *",
    "Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true", "Access-Control-Expose-Headers": "*",
    "Access-Control-Allow-Private-Network": "true", "Timing-Allow-Origin": "*", "Clear-Site-Data": '"*"',
    "Service-Worker-Allowed": "/", "Refresh": "0; url=http://evil.example", "Link": "<x>", "Alt-Svc": "h3=evil:443",
    "X-Frame-Options": "ALLOWALL", "Report-To": "x", "Reporting-Endpoints": "x", "NEL": "x", "Referrer-Policy": "unsafe-url",
    "Permissions-Policy": "x", "Feature-Policy": "x", "Document-Policy": "x", "Origin-Agent-Cluster": "?0",
    "Cross-Origin-Opener-Policy": "unsafe-none", "Cross-Origin-Embedder-Policy": "unsafe-none", "Speculation-Rules": '"/evil"',
    "Cross-Origin-Resource-Policy": "cross-origin", "X-Content-Type-Options": "sniff", "X-DNS-Prefetch-Control": "on",
    "X-Permitted-Cross-Domain-Policies": "all", "X-XSS-Protection": "0", "X-UA-Compatible": "IE=7", "SourceMap": "/evil",
    "X-SourceMap": "/evil", "Supports-Loading-Mode": "fenced-frame", "Sec-WebSocket-Accept": "x", "Upgrade": "h2c",
    "Critical-CH": "Downlink", "Accept-CH": "Downlink", "Proxy-Authenticate": "Basic", "Authentication-Info": "x",
    "Proxy-Authentication-Info": "x", "Content-Encoding": "gzip", "Content-Location": "https://evil.example/",
    "Content-Disposition": "attachment", "Content-Range": "bytes 0-1/9", "Accept-Ranges": "bytes", "Vary": "*",
    "Expires": "0", "Pragma": "x", "Warning": "199 - x", "Via": "1.1 evil", "Server": "evil", "Date": "evil",
    "X-Request-Id": "evil", "X-Powered-By": "evil", "X-Pun-Socket": "/evil", "X-Pun-Assertion": "evil", "X-Pun-User": "root",
    "X-Punway-Status": "200", "X-Punway-Answer": "evil", "X-Punway-Challenge": "evil", "X-Punway-Peer": "evil",
    "X-Punway-Token-Id": "evil", "X-Punway-Token-Name": "evil", "RateLimit": "evil", "RateLimit-Policy": "evil",
    "Retry-After-Evil": "1", "Keep-Alive": "timeout=9999", "Trailer": "Set-Cookie", "TE": "trailers", "X-7f3a": "evil", "Evil": "x",
    "Location": "https://evil.example/", "WWW-Authenticate": 'Basic realm="evil"',
}  # fmt: skip


def test_what_a_pun_may_not_say(portal: Portal, alice: User, as_alice: Client) -> None:
    """Only listed headers are passed on, whatever the others are called. Those of nginx itself stay."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in UNKNOWN.items())
    body = "<script>1</script>"
    with fake_pun(portal, alice, as_alice, f"{headers}Content-Type: text/html\r\n", body):
        answer = as_alice("GET", "/api/v1/clusters")
    assert (answer.status_code, answer.text) == (200, body)
    assert {name.lower() for name in answer.headers} <= OF_NGINX
    for name, value in UNKNOWN.items():
        assert answer.headers.get(name) != value, name
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"


def test_a_body_is_streamed(portal: Portal, alice: User, as_alice: Client) -> None:
    """The PUN gets the first bytes of an upload before the last are sent. nginx stores nothing on disk."""
    with fake_pun(portal, alice, as_alice) as pun, socket.create_connection(("127.0.0.1", portal.port)) as connection:
        head = f"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {as_alice.token}\r\n"
        connection.sendall(f"{head}Content-Length: 5000000\r\n\r\n".encode() + b"x" * 1000)
        wait_for("the first bytes", lambda: pun.got)
    bodies = portal.run_dir / "nginx" / "body"
    assert not [path for path in bodies.rglob("*") if path.is_file()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "slow"])
def test_without_the_hook_nobody_is_let_in(portal: Portal, as_alice: Client, number: int) -> None:
    """Requests get a 503 in the form of the contract, and a 200 after the hook is back. None is let through."""
    hook = portal.part("hook")
    if number == signal.SIGSTOP:
        # nginx waits long, for a queue of first requests. In this test it gives up sooner.
        _set_in_nginx(portal, f"proxy_read_timeout {HOOK_TIMEOUT_S}s;", "proxy_read_timeout 5s;")
    os.kill(hook, number)
    try:
        answer = as_alice("GET", "/api/v1/clusters")
        assert refusal(answer)[:2] == (503, "service_unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert refusal(requests.get(f"{portal.url}/api/v1/clusters", timeout=30))[0] == 503
        assert refusal(requests.get(f"{portal.url}/health", timeout=30))[0] == 503
        # nginx waits longer for the sign-in page, because of the identity provider. The test does not wait that long.
        for path in ("/settings/api_tokens", *(["/login"] if number == signal.SIGKILL else [])):
            page = requests.get(portal.url + path, timeout=30)
            assert (page.status_code, page.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
            assert int(page.headers["Retry-After"]) > 0
    finally:
        if number == signal.SIGSTOP:
            os.kill(hook, signal.SIGCONT)
            _set_in_nginx(portal, "proxy_read_timeout 5s;", f"proxy_read_timeout {HOOK_TIMEOUT_S}s;")
    wait_for("the hook", portal.is_well)
    assert as_alice("GET", "/api/v1/clusters").status_code == 200


def _set_in_nginx(portal: Portal, old: str, new: str) -> None:
    """Change the configuration of the running nginx, and reload it."""
    path = portal.run_dir / "nginx" / "portal.conf"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    nginx = portal.part("nginx")
    workers = set(children_of(nginx))
    os.kill(nginx, signal.SIGHUP)
    wait_for("new workers", lambda: set(children_of(nginx)) - workers)
    wait_for("the end of the old ones, which still take requests", lambda: not workers & set(children_of(nginx)))


def test_without_the_spawner(portal: Portal, as_alice: Client) -> None:
    """Requests get a 503, and /health names the spawner. After it is back, they get a 200."""
    assert as_alice("GET", "/api/v1/clusters").status_code == 200
    os.kill(portal.part("spawner"), signal.SIGKILL)
    wait_for("a refusal", lambda: as_alice("GET", "/api/v1/clusters").status_code == 503)
    answer = requests.get(f"{portal.url}/health", timeout=30)
    assert refusal(answer)[:2] == (503, "service_unavailable")
    assert "spawner" in answer.json()["message"]
    wait_for("the spawner", portal.is_well)
    assert as_alice("GET", "/api/v1/clusters").status_code == 200


def test_health_needs_no_credential_and_says_little(portal: Portal) -> None:
    answer = requests.get(f"{portal.url}/health", timeout=30)
    assert answer.json() == {"data": {"status": "ok", "hook": "ok", "spawner": "ok"}}


def test_health_takes_get_alone(portal: Portal) -> None:
    assert refusal(requests.post(f"{portal.url}/health", timeout=30))[:2] == (405, "method_not_allowed")


def test_the_auth_address_is_not_to_be_called(portal: Portal, as_alice: Client) -> None:
    """Clients cannot reach the addresses that nginx uses internally."""
    for path in ("/.punway/auth/api", "/.punway/answer/503", "/auth/api"):
        assert as_alice.error("GET", path)[:2] == (404, "not_found")


def test_a_long_address_and_large_headers(portal: Portal, as_alice: Client) -> None:
    answer = as_alice("GET", "/api/v1/clusters/" + "x" * 20_000)
    assert refusal(answer)[:2] == (414, "uri_too_long")
    answer = as_alice("GET", "/api/v1/clusters", headers={"X-Large": "x" * 70_000})
    assert refusal(answer)[0] in (400, 431)


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PATCH", "OPTIONS", "FOO"])
def test_other_methods(portal: Portal, as_alice: Client, method: str) -> None:
    status, _, body = ask(
        portal,
        f"{method} /api/v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {as_alice.token}\r\nConnection: close\r\n\r\n",
    )
    assert status in (400, 405)
    assert json.loads(body)["error"] in ("method_not_allowed", "bad_request")


def test_head_has_no_body(as_alice: Client) -> None:
    answer = as_alice("HEAD", "/api/v1/clusters")
    assert (answer.status_code, answer.content) == (200, b"")


def test_tls(folder: Path, slurm: object, hook_user: str, alice: User) -> None:
    """With a certificate, the portal uses TLS on any address, with HSTS. Plain HTTP on the same port is a 400."""
    portal = Portal(folder / "tls", hook_user, {"box": "v2:\n  job: {adapter: local}\n"}).use_tls()
    try:
        portal.start()
        answer = portal.client(alice)("GET", "/api/v1/clusters")
        assert answer.status_code == 200
        assert "max-age" in answer.headers["Strict-Transport-Security"]
        for path in ("/api/v1/clusters", "/", "/login", "/settings/api_tokens"):
            plain = requests.get(f"http://localhost:{portal.port}{path}", timeout=30)
            assert refusal(plain)[:2] == (400, "bad_request") and "https://" in plain.json()["message"]
        _check_http2(portal, alice)
        old = ["curl", "-sk", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", f"{portal.url}/health"]
        assert subprocess.run(old, capture_output=True, check=False).returncode == 35  # CURLE_SSL_CONNECT_ERROR
    finally:
        portal.stop()


def _check_http2(portal: Portal, user: User) -> None:
    """Check requests, a long poll and a compressed response over one HTTP/2 connection, and that HTTP/1.1 works too."""
    client = portal.client(user)
    job = client.submit("#!/bin/sh\nsleep 3\n", "box")["job_id"]
    url = f"{portal.url}/api/v1/jobs"
    argv = [
        "curl",
        "-sk",
        "--http2",
        "--compressed",
        "-H",
        f"Authorization: Bearer {client.token}",
        "--max-time",
        "120",
    ]
    wait = f"{url}/{job}?cluster=box&wait=100"
    shown = ["-w", "\n%{http_version} %{http_code} %{num_connects}\n"]
    done = subprocess.run(
        [*argv, *shown, wait, f"{url}?cluster=box", f"{portal.url}/api/v1/openapi.json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert re.findall(r"^2 (\d+) (\d)$", done.stdout, re.MULTILINE) == [("200", "1"), ("200", "0"), ("200", "0")]
    assert json.loads(done.stdout.splitlines()[0])["data"]["status"] == "completed"
    body = json.dumps({"cluster": "box", "script": {"content": "#!/bin/sh\n" + "#" * 200_000}})
    sent = subprocess.run(
        [*argv, *shown, "-H", "Content-Type: application/json", "--data-binary", "@-", url],
        input=body, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert sent.stdout.splitlines()[-1] == "2 201 1"
    assert client("GET", "/api/v1/clusters").raw.version == 11


def test_the_audit_log_is_lines_of_ascii(portal: Portal, alice: User, as_alice: Client) -> None:
    """It is, whatever the address contains, and whatever a user's process sends as the name of a token."""
    odd = 'a\u2028b\u2029c\u0085d"e\x1bg\u00fch\x7f'
    sent = [quote(odd), "%ff%fe", 'x"y']
    before = len(portal.audit_file.read_bytes())
    for address in sent:
        request = f"DELETE /api/v1/jobs/{address}?cluster=box HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        raw(portal.port, f"{request}Authorization: Bearer {as_alice.token}\r\n\r\n".encode())
    with fake_pun(portal, alice, as_alice, "X-Punway-Token-Name: a\u2028b\r\nX-Punway-Token-Id: \u0085\r\n"):
        as_alice("DELETE", "/api/v1/jobs/faked?cluster=box")
    wait_for("the last line", lambda: b"/jobs/faked" in portal.audit_file.read_bytes())
    lines = portal.audit_file.read_bytes()[before:].decode("ascii").splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert any("%E2%80%A8" in json.loads(line)["action"] for line in lines)


def test_nginx_has_nothing_of_its_callers_environment(folder: Path, hook_user: str) -> None:
    """nginx runs as root and reacts to some variables, so its environment contains only what Punway sets."""
    portal = Portal(folder / unique("e"), hook_user, {"box": "v2:\n  job: {adapter: local}\n"})
    fake = portal.folder / "bin" / "nginx"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nexec /bin/cat /proc/self/environ\n")
    fake.chmod(0o755)
    given = {"PATH": f"{fake.parent}:/usr/bin:/bin", "ROOTS_SECRET": "x", "NGINX": "3;", "LD_LIBRARY_PATH": "/x"}
    argv = [*PUNWAY, "nginx", "-c", str(portal.config)]
    done = subprocess.run(argv, env=given, cwd="/", capture_output=True, text=True, check=True, timeout=60)
    names = {line.partition("=")[0] for line in done.stdout.split("\0") if line}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {"PATH", "LANG"}


def test_an_nginx_with_a_user_of_its_own(folder: Path, hook_user: str, mcp_user: str, alice: User) -> None:
    """On a host with another web server, the user of that server cannot reach any socket of the portal."""
    name = unique("pwnginx")
    subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name], check=True)
    portal = Portal(
        folder / unique("n"), hook_user, {"box": "v2:\n  job: {adapter: local}\n"}, more={"nginx_user": name},
        mcp_user=mcp_user,
    )  # fmt: skip
    try:
        assert portal.start().client(alice)("GET", "/api/v1/clusters").status_code == 200
        own = pwd.getpwnam(name).pw_uid
        pids = [portal.part("relay"), *children_of(portal.part("nginx"))]
        assert {Path(f"/proc/{pid}").stat().st_uid for pid in pids} == {own}
        sockets = ["hook.sock", "relay.sock", "mcp.sock", "inner/nginx.sock", f"puns/{alice.name}/pun.sock"]
        program = (
            "import socket,sys\n"
            "for path in sys.argv[1:]:\n"
            "    try: socket.socket(socket.AF_UNIX).connect(path)\n"
            "    except PermissionError: print('refused')\n"
        )
        argv = ["/usr/bin/python3", "-I", "-c", program, *(str(portal.run_dir / path) for path in sockets)]
        tried = subprocess.run(
            argv, user="www-data", group="www-data", extra_groups=[], capture_output=True, text=True, check=True
        )
        assert tried.stdout.split() == ["refused"] * len(sockets)
    finally:
        portal.stop()
        subprocess.run(["userdel", name], check=False, capture_output=True)


def test_the_access_log_has_no_query(portal: Portal, as_alice: Client) -> None:
    as_alice("GET", "/api/v1/jobs?cluster=owens&secretive=yes")
    wait_for("the log", lambda: re.search(r'"GET /api/v1/jobs" 400', portal.log()))
    assert "secretive" not in portal.log()
