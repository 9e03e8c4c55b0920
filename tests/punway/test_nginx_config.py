"""Tests of punway/nginx_config.py: nginx accepts the configuration, and its own errors have the contract's form."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from proxy_hook.config import Config
from proxy_hook.config_keys import Limits, Login, Mcp, Portal
from punway import nginx_config
from punway.nginx_config import ANSWERS, PAGES, error_page, full_config, portal_config
from punway.serve_nginx import write_files

CONFIG = Config(mcp=replace(Mcp(), user="nobody"))
TLS = Config(portal=replace(Portal(), listen="[::1]:8443", tls_certificate="/etc/x.crt", tls_key="/etc/x.key"))


def test_every_answer_is_json_of_the_contract() -> None:
    """Each error of nginx itself has the fields of the contract."""
    for answer in ANSWERS.values():
        body = json.loads(answer[1:-1].replace("\\'", "'").replace("\\\\", "\\"))
        assert set(body) == {"error", "message"}


def test_every_page_of_nginxs_own_leads_on() -> None:
    """Each error page is complete and links only to pages that exist."""
    for status in PAGES:
        for has_pages in (True, False):
            page = error_page(status, has_pages)
            assert page.startswith("'<!doctype html>") and page.endswith("</html>'") and "$" not in page
            assert 'href="/api/v1/docs"' in page and ('href="/settings/api_tokens"' in page) == has_pages


def test_help_is_the_sites_own_where_there_is_one() -> None:
    """/help redirects to portal.help_url if it is set."""
    site = replace(CONFIG, portal=replace(Portal(), help_url="https://www.example.org/help?a=1"))
    assert 'return 303 "https://www.example.org/help?a=1";' in portal_config(site)
    assert "help.html" in portal_config(CONFIG) and "help.html" not in portal_config(site)


def test_the_configured_values_are_in_it() -> None:
    """Address, certificate, body size and sockets come from the configuration; without TLS there is no ssl."""
    text = portal_config(TLS)
    for part in ("listen [::1]:8443 ssl http2;", "ssl_certificate /etc/x.crt;", "client_max_body_size 52428800;",
                 "Strict-Transport-Security", "unix:/run/punway/hook.sock", "ssl_protocols TLSv1.2 TLSv1.3;"):  # fmt: skip
        assert part in text
    assert "ssl" not in portal_config(CONFIG).replace("tls", "").split("listen")[1].split(";")[0]


@pytest.mark.parametrize(
    ("version", "is_on", "listen", "directive"),
    [((1, 22, 1), True, "ssl http2;", False), ((), True, "ssl http2;", False), ((1, 25, 1), True, "ssl;", True),
     ((1, 14, 0), True, "ssl;", False), ((1, 22, 1), False, "ssl;", False)],
    ids=["parameter", "unknown version", "directive", "too old", "disabled"],
)  # fmt: skip
def test_http2_is_for_the_nginx_that_there_is(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], is_on: bool, listen: str, directive: bool
) -> None:
    """HTTP/2 is enabled in the way that this version of nginx knows, or not at all."""
    monkeypatch.setattr(nginx_config, "nginx_version", lambda: version)
    text = portal_config(replace(TLS, portal=replace(TLS.portal, http2=is_on)))
    assert f"listen [::1]:8443 {listen}" in text and ("http2 on;" in text) is directive


def test_what_is_compressed() -> None:
    """Only locations without secrets in their responses are compressed: not those of pages and sign-in."""
    text = portal_config(CONFIG)
    blocks = {re.split(r" \{", block)[0]: block for block in re.split(r"\n    location ", text)[1:]}
    compressed = {name for name, block in blocks.items() if "gzip on;" in block}
    assert compressed == {"/api/", "= /mcp", "= /api/v1/openapi.json", "= /api/v1/docs", "/assets/"}
    assert text.index("gzip off;") < text.index("location ") and "event-stream" not in "".join(
        re.findall(r"gzip_types ([^;]*);", text)
    )


ADDRESSES = {
    "/api/v1/jobs/{token}": "token", "/{token}?x": "token", "/api/v1/clusters?x=Bearer%20{token}": "token",
    "/login/once/{token}": "link", "/login/once/{token}0": "token", "/login/once/{token}?x={token}": "token",
    "/api/v1/jobs/eyJhbGciOiJub25lIn0.e30.": "token", "/api/v1/clusters?%65yJhbGciOiJub25lIn0%2ee30": "token",
    "/api/v1/clusters?a=b&access_token=x": "token", "/api/v1/jobs/1234?cluster=owens": "", "/api/v1/jobs/eyJ": "",
    "/api/v1/jobs?cursor=MTczMjQ2NDAwMDoxMjM0": "", "/api/v1/jobs/" + "a" * 63: "",
}  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_which_addresses_hold_a_secret(address: str) -> None:
    """A secret is found however a client encodes it. The test runs nginx's expressions in Python."""
    found = re.search(r"map \$request_uri \$punway_secret \{\n(.*?)\n\}", portal_config(CONFIG), re.DOTALL)
    assert found
    lines = re.findall(r'"~(\*?)(.*)" (\w+);', found[1])

    def meaning(given: str) -> str:
        for any_case, pattern, means in lines:
            if re.search(pattern, given, re.IGNORECASE if any_case else 0):
                return str(means)
        return ""

    token = "0123456789abcdef" * 4
    once = "".join(f"%{ord(character):02x}" for character in token)
    for form in (
        token,
        once,
        once.upper(),
        token[:60] + once[180:],
        once.replace("%", "%25"),
        once.replace("%", "%2525"),
    ):
        expected = ADDRESSES[address]
        if expected == "link" and form != token:
            expected = "token"
        assert meaning(address.replace("{token}", form)) == expected


def test_which_locations_pass_a_clients_headers() -> None:
    """Only the hook gets all headers of a browser, for signing in. Other locations have a list; no PUN gets a cookie."""
    text = portal_config(CONFIG)
    blocks = {re.split(r" \{", block)[0]: block for block in re.split(r"\n    location ", text)[1:]}
    passing = {name for name, block in blocks.items() if "proxy_pass " in block}
    with_list = {name for name in passing if "proxy_pass_request_headers off;" in blocks[name]}
    assert passing - with_list == {"= /.punway/auth/pages", "= /login", "/login/", "= /logout"}
    for name in passing - with_list:
        assert "proxy_pass http://punway_hook" in blocks[name]
        assert 'proxy_set_header Authorization "";' in blocks[name]
    assert {name for name in passing if "X-Pun-Socket $punway_socket" in blocks[name]} == {"/api/", "/settings/"}
    assert "proxy_set_header Cookie" not in text
    with_credential = {name for name in passing if "Authorization $http_authorization" in blocks[name]}
    assert with_credential == {"= /.punway/auth/api", "= /.punway/auth/mcp", "= /mcp"}
    for name in passing - with_list:
        for header in ("X-Punway-Peer $remote_addr", "X-Request-Id $request_id"):
            assert f"proxy_set_header {header};" in blocks[name]


def test_users_processes_and_the_mcp_server_are_reached_by_the_relay_alone() -> None:
    """nginx reads responses only from the hook and the relay, since other processes read what anybody sends."""
    text = portal_config(CONFIG)
    assert set(re.findall(r"proxy_pass (http://[a-z_]+)", text)) == {"http://punway_hook", "http://punway_relay"}
    assert text.count("proxy_pass ") == len(re.findall(r"proxy_pass http://punway_(?:hook|relay)[/$;]", text))
    for block in re.split(r"\n    location ", text)[1:]:
        if "proxy_pass http://punway_relay" in block:
            for header in ("X-Punway-Token-Id", "X-Punway-Token-Name"):
                assert f"proxy_hide_header {header};" in block
            # The relay looks for these headers in this order, and counts requests by user.
            assert re.search(r"proxy_set_header X-Pun-Socket \S+;\s+proxy_set_header X-Pun-User \$punway_user;", block)


def test_behind_a_balancer_the_client_is_who_it_names() -> None:
    """Limits, logs and the hook use the client that a balancer names. The trusted header goes by who has connected."""
    text = portal_config(replace(CONFIG, portal=replace(Portal(), proxies=("10.0.0.0/8", "2001:db8::1"))))
    for line in ("set_real_ip_from 10.0.0.0/8;", "set_real_ip_from 2001:db8::1;", "real_ip_header X-Forwarded-For;",
                 "real_ip_recursive on;", "proxy_set_header X-Punway-Direct-Peer $realip_remote_addr;"):  # fmt: skip
        assert line in text
    without = portal_config(CONFIG)
    assert "real_ip" not in without and "realip" not in without
    blocks = re.split(r"\n    location ", without)[1:]
    direct = [block for block in blocks if "proxy_set_header X-Punway-Direct-Peer $remote_addr;" in block]
    assert len(direct) == 4, "the locations that accept the trusted header"


def test_a_limit_of_0_is_none() -> None:
    """A limit of 0 writes no directive."""
    text = portal_config(replace(CONFIG, limits=replace(Limits(), flood=0, connections=0)))
    assert "limit_req " not in text and "limit_conn " not in text
    text = portal_config(CONFIG)
    assert "limit_req zone=punway_flood burst=2000 nodelay;" in text and "limit_conn punway_connections 4000;" in text


@pytest.mark.parametrize(
    ("hard", "connections"),
    [(1_048_576, 32_768), (20_000, 10_000), (resource.RLIM_INFINITY, 32_768)],
    ids=["high limit", "low limit", "no limit"],
)
def test_workers_take_what_the_host_allows(monkeypatch: pytest.MonkeyPatch, hard: int, connections: int) -> None:
    """A worker may need two open files for each connection, and gets no more than the host allows."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, hard))
    text = full_config(CONFIG)
    assert f"worker_connections {connections};" in text and f"worker_rlimit_nofile {2 * connections};" in text


def test_where_the_logs_of_an_nginx_of_its_own_go(tmp_path: Path) -> None:
    """Logs go to the folder that systemd made, where /dev/stdout cannot be opened, and otherwise to the outputs."""
    write_files(CONFIG, tmp_path, Path("/var/log/punway"))
    text = (tmp_path / "portal.conf").read_text()
    assert "access_log /var/log/punway/access.log punway;" in text and "/var/log/punway/audit.log" in text
    write_files(CONFIG, tmp_path, None)
    text = (tmp_path / "portal.conf").read_text()
    assert "access_log /dev/stderr punway;" in text and "access_log /dev/stdout punway_audit" in text


def test_without_a_way_to_sign_in_there_are_no_pages() -> None:
    """With all ways to sign in disabled, the locations of pages are missing."""
    text = portal_config(replace(CONFIG, login=replace(Login(), link=False)))
    for address in ("/settings/", "/login", "/logout"):
        assert f"location {address}" not in text and f"location = {address}" not in text


def test_without_its_user_there_is_no_mcp_server() -> None:
    """After an upgrade the portal has no MCP server until an admin creates its user."""
    for mcp in (replace(Mcp(), user="no-such-user"), replace(Mcp(), enabled=False)):
        text = portal_config(replace(CONFIG, mcp=mcp))
        assert "location = /mcp" not in text and "inner" not in text and '"via": "http"' in text


@pytest.mark.skipif(not (shutil.which("nginx") or Path("/usr/sbin/nginx").exists()), reason="nginx is not installed")
def test_nginx_takes_it_beside_other_sites(tmp_path: Path) -> None:
    """nginx accepts the file in the http block of a stock nginx.conf, next to another site."""
    (tmp_path / "inner").mkdir()
    config = replace(CONFIG, portal=replace(Portal(), run_dir=str(tmp_path)))
    (tmp_path / "portal.conf").write_text(portal_config(config, f"{tmp_path}/access.log", f"{tmp_path}/audit.log"))
    whole = f"events {{}} pid {tmp_path}/pid; http {{ access_log off; include {tmp_path}/portal.conf; server {{ listen unix:{tmp_path}/other.sock; }} }}"
    (tmp_path / "nginx.conf").write_text(whole)
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    argv = [nginx, "-t", "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
