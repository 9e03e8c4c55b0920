"""proxy_hook/config.py, config_keys.py and config_rules.py: every error names key and file; the example has all keys."""

from __future__ import annotations

import re
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import pytest
import tomli

from proxy_hook.config import Config, ConfigError, from_data, load, path_to_use
from proxy_hook.config_keys import TABLES
from proxy_hook.config_rules import size_of

FILE = Path("/etc/punway/punway.toml")


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"portl": {}}, "[portl]"),
        ({"portal": 5}, "portal"),
        ({"portal": {"lisen": "x"}}, "portal.lisen"),
        ({"portal": {"listen": 8080}}, "portal.listen"),
        ({"portal": {"listen": "nowhere"}}, "portal.listen"),
        ({"portal": {"listen": "127.0.0.1:0"}}, "portal.listen"),
        ({"portal": {"listen": "127.0.0.1:99999"}}, "portal.listen"),
        ({"portal": {"listen": "0.0.0.0:80"}}, "portal.listen"),
        ({"portal": {"listen": "8080"}}, "portal.listen"),
        ({"portal": {"tls_key": "/x"}}, "portal.tls_key"),
        ({"portal": {"public_url": "portal.example.org"}}, "portal.public_url"),
        ({"portal": {"public_url": 'http://x";evil'}}, "portal.public_url"),
        ({"portal": {"help_url": "www.example.org/help"}}, "portal.help_url"),
        ({"portal": {"site_url": 'https://x/";evil'}}, "portal.site_url"),
        ({"portal": {"run_dir": "run"}}, "portal.run_dir"),
        ({"portal": {"run_dir": "/run/a;b"}}, "portal.run_dir"),
        ({"portal": {"run_dir": "/" + "x" * 90}}, "portal.run_dir"),
        ({"portal": {"state_dir": ""}}, "portal.state_dir"),
        ({"portal": {"hook_user": "a b"}}, "portal.hook_user"),
        ({"portal": {"max_body": "50 MB"}}, "portal.max_body"),
        ({"clusters": {"path": "clusters.d"}}, "clusters.path"),
        ({"pun": {"min_uid": "1000"}}, "pun.min_uid"),
        ({"pun": {"min_uid": 0}}, "pun.min_uid"),
        ({"pun": {"min_uid": True}}, "pun.min_uid"),
        ({"pun": {"user_regex": "("}}, "pun.user_regex"),
        ({"pun": {"disabled_shells": "/bin/false"}}, "pun.disabled_shells"),
        ({"pun": {"deny_users": [1]}}, "pun.deny_users"),
        ({"pun": {"deny_users": ["x" * 20] * 2000}}, "pun.deny_users"),
        ({"pun": {"spawn": "thread"}}, "pun.spawn"),
        ({"pun": {"threads": 0}}, "pun.threads"),
        ({"pun": {"no_new_privs": "yes"}}, "pun.no_new_privs"),
        ({"pun": {"environment": {"A": 1}}}, "pun.environment"),
        ({"tokens": {"max_lifetime": "long"}}, "tokens.max_lifetime"),
        ({"tokens": {"allow_never": "no"}}, "tokens.allow_never"),
        ({"login": {"session_lifetime": 0}}, "login.session_lifetime"),
        ({"login": {"oidc": True}}, "login.oidc"),
        ({"login": {"oidc": True, "client_id": "x"}}, "login.oidc"),
        ({"login": {"client_secret_file": "secret"}}, "login.client_secret_file"),
        ({"login": {"header": "X_User", "header_peers": ["10.0.0.1"]}}, "login.header"),
        ({"login": {"header": "Cookie", "header_peers": ["10.0.0.1"]}}, "login.header"),
        ({"login": {"header": "X-Punway-Peer", "header_peers": ["10.0.0.1"]}}, "login.header"),
        ({"login": {"header": "X-User"}}, "login.header_peers"),
        ({"login": {"header": "X-User", "header_peers": ["front.example.org"]}}, "login.header_peers"),
        ({"login": {"header": "X-User", "header_peers": ["127.0.0.1"]}}, "login.header_secret_file"),
        ({"login": {"header": "X-User", "header_peers": ["10.0.0.1"]}}, "login.header_secret_file"),
        ({"login": {"header": "X-Real-IP", "header_peers": ["10.0.0.1"]}}, "login.header"),
        ({"portal": {"proxies": ["balancer.example.org"]}}, "portal.proxies"),
        ({"portal": {"proxies": ["10.0.0.1/8"]}}, "portal.proxies"),
        ({"portal": {"proxies": ["fe80::1%a; evil"]}}, "portal.proxies"),
        ({"portal": {"proxies": "10.0.0.0/8"}}, "portal.proxies"),
        ({"portal": {"proxy_header": "X Forwarded"}}, "portal.proxy_header"),
        ({"portal": {"proxy_header": "X-Punway-Peer"}}, "portal.proxy_header"),
        ({"portal": {"proxy_header": "Host"}}, "portal.proxy_header"),
        ({"limits": {"connections": 65_536}}, "limits.connections"),
        ({"limits": {"flood": -1}}, "limits.flood"),
        ({"idp": {"issuer": "http://idp.example.org"}}, "idp.issuer"),
        ({"idp": {"issuer": "idp.example.org"}}, "idp.issuer"),
        ({"idp": {"audience": "x"}}, "idp.issuer"),
        ({"idp": {"issuer": "https://i", "jwks_url": "http://i/jwks"}}, "idp.jwks_url"),
        ({"tokens": {"allowed_scopes": ["jobs:all"]}}, "tokens.allowed_scopes"),
        ({"tokens": {"allowed_scopes": []}}, "tokens.allowed_scopes"),
        ({"idp": {"algorithms": ["none"]}}, "idp.algorithms"),
        ({"idp": {"algorithms": ["RS256", "HS256"]}}, "idp.algorithms"),
        ({"idp": {"algorithms": []}}, "idp.algorithms"),
        ({"idp": {"user_map": "("}}, "idp.user_map"),
        ({"idp": {"user_map": ".*"}}, "idp.user_map"),
        ({"idp": {"user_map": "(.*)@(.*)"}}, "idp.user_map"),
        ({"idp": {"user_claim": ""}}, "idp.user_claim"),
        ({"idp": {"issuer": "https://i", "audience": "x"}, "login": {"client_id": "x"}}, "idp.audience"),
        ({"pun": {"environment": {"A=B": "1"}}}, "pun.environment.A=B"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value)[:60],
)
def test_an_error_names_key_and_file(data: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_data(data, FILE)
    assert str(FILE) in str(error.value)
    assert key in str(error.value)


@pytest.mark.parametrize("content", [None, b"[portal", b"\xff\xfe"], ids=["missing", "no-toml", "no-utf8"])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "punway.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=str(path)):
        load(path)


def test_an_empty_file_is_the_defaults() -> None:
    assert from_data({}, FILE) == Config(source=FILE)


def test_the_example_lists_every_key_with_its_default() -> None:
    """The keys are commented out, so the unchanged file has no effect. It has no unknown keys."""
    text = (files("nginx") / "punway.example.toml").read_text(encoding="utf-8")
    live = "\n".join(
        line.removeprefix("#") if line.startswith("#") and " = " in line else line for line in text.splitlines()
    )
    example = tomli.loads(live)
    assert set(example) == set(TABLES)
    for name, table in TABLES.items():
        assert {key.name for key in fields(table)} == set(example[name])
        for key in fields(table):
            default = getattr(table(), key.name)
            assert example[name][key.name] == (list(default) if isinstance(default, tuple) else default), key.name
    from_data(example, FILE)


def test_the_reference_has_every_key_with_its_type_and_default() -> None:
    text = (Path(__file__).parents[2] / "docs" / "admins" / "configuration.md").read_text(encoding="utf-8")
    rows = {
        row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")]
        for row in text.splitlines()
        if row.startswith("| `")
    }
    types = {str: ("text",), bool: ("true or false",), tuple: ("list of texts",), dict: ("table of texts",)}
    numbers = ("number", "seconds", "requests a minute", "requests a second")
    for name, table in TABLES.items():
        for key in fields(table):
            assert key.metadata["why"]
            _, _, kind, default, meaning, *_ = rows.pop(f"`{name}.{key.name}`")
            value = getattr(table(), key.name)
            assert kind in types.get(type(value), numbers), key.name
            shown = tomli.loads(f"value = {default.strip('`')}".replace("\\", "\\\\"))["value"]
            assert shown == (list(value) if isinstance(value, tuple) else value), key.name
            assert meaning, key.name
    assert not [row for row in rows if "." in row]


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("50M", 50 * 2**20), ("1k", 1024), ("2G", 2 * 2**30)], ids=str)
def test_sizes(text: str, size: int) -> None:
    assert size_of(text) == size


def test_which_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """-c, else $PUNWAY_CONFIG, else /etc/punway/punway.toml."""
    monkeypatch.delenv("PUNWAY_CONFIG", raising=False)
    assert path_to_use(None) == FILE
    monkeypatch.setenv("PUNWAY_CONFIG", "/a")
    assert path_to_use(None) == Path("/a")
    assert path_to_use("/b") == Path("/b")


@pytest.mark.parametrize("page", ["identity-providers", "operating", "sign-in"])
def test_the_examples_of_the_documentation_are_valid(page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / "admins" / f"{page}.md").read_text(encoding="utf-8")
    blocks = [block.group().replace("\n    ", "\n") for block in re.finditer(r"\n(?:(?:    .*)?\n)+", text)]
    examples = [block for block in blocks if re.search(r"^\[\w+\]$", block, re.MULTILINE)]
    assert examples
    for example in examples:
        from_data(tomli.loads(example), FILE)
