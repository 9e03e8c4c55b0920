"""proxy_hook/nginx_config.py: what is printed is what nginx takes, and every answer has the contract's form."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from proxy_hook.config import Config, Portal
from proxy_hook.nginx_config import ANSWERS, portal_config

CONFIG = Config()
TLS = Config(portal=replace(Portal(), listen="[::1]:8443", tls_certificate="/etc/x.crt", tls_key="/etc/x.key"))


def test_every_answer_is_json_of_the_contract() -> None:
    for answer in ANSWERS.values():
        body = json.loads(answer[1:-1].replace("\\'", "'").replace("\\\\", "\\"))
        assert set(body) == {"error", "message"}


def test_the_configured_values_are_in_it() -> None:
    text = portal_config(TLS)
    for part in ("listen [::1]:8443 ssl;", "ssl_certificate /etc/x.crt;", "client_max_body_size 52428800;",
                 "Strict-Transport-Security", "unix:/run/punway/hook.sock", "ssl_protocols TLSv1.2 TLSv1.3;"):  # fmt: skip
        assert part in text
    assert "ssl" not in portal_config(CONFIG).replace("tls", "").split("listen")[1].split(";")[0]


def test_no_location_passes_a_clients_headers() -> None:
    """Each place that passes a request on does so with a list of its own."""
    text = portal_config(CONFIG)
    blocks = [block for block in re.split(r"\n    location ", text)[1:] if "proxy_pass " in block]
    assert len(blocks) == 3
    for block in blocks:
        assert "proxy_pass_request_headers off;" in block
        assert "proxy_set_header Cookie" not in block
    assert sum("Authorization $http_authorization" in block for block in blocks) == 1


@pytest.mark.skipif(not (shutil.which("nginx") or Path("/usr/sbin/nginx").exists()), reason="nginx is not installed")
def test_nginx_takes_it_beside_other_sites(tmp_path: Path) -> None:
    """Included in the http block of a stock nginx.conf, as in /etc/nginx/conf.d."""
    (tmp_path / "portal.conf").write_text(portal_config(CONFIG, f"{tmp_path}/access.log punway"))
    whole = f"events {{}} pid {tmp_path}/pid; http {{ access_log off; include {tmp_path}/portal.conf; server {{ listen unix:{tmp_path}/other.sock; }} }}"
    (tmp_path / "nginx.conf").write_text(whole)
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    argv = [nginx, "-t", "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
