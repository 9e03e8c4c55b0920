"""Tests of text that is not valid UTF-8, from a user's token file and from names of the site's files."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from tests.pun_app.pun import ORIGIN, Pun
from tokens import scopes
from tokens.token import issue, utc_now

ODD = "half \ud800 of a pair"


def test_a_token_whose_name_is_no_text(pun: Pun) -> None:
    """The API accepts the token, the page shows it and can revoke it, and the file's other tokens work."""
    token, _ = issue("x")
    pun.store.add(token)
    entries = json.loads(pun.store.path.read_text())
    entries[0] |= {"name": ODD, "id": "a\ud800"}
    pun.store.path.write_text(json.dumps(entries))
    headers = {"X-Pun-Assertion": pun.signer.sign(1001, "alice", "token", token.sha256, scopes.ALL)}
    said = pun.app.get("/api/v1/whoami", headers=headers, status=200)
    assert (said.json["data"]["token_name"], said.json["data"]["token_id"]) == ("half \ufffd of a pair", "a\ufffd")
    assert "half \ufffd of a pair" in pun.page().text
    pun.store.record_last_used({"a\ufffd": utc_now()})
    pun.store.remove("a\ufffd")
    assert pun.store.tokens() == []


@pytest.mark.parametrize("odd", [["x"], {}, 5, None])
def test_an_id_that_is_no_text(pun: Pun, odd: object) -> None:
    """The last use of entries with an id is written, and an entry without one does not end the thread."""
    token, _ = issue("x", scopes.ALL, utc_now() + timedelta(days=1))
    pun.store.add(token)
    entries = json.loads(pun.store.path.read_text())
    pun.store.path.write_text(json.dumps([{**entries[0], "id": odd}, *entries]))
    pun.store.record_last_used({token.id: utc_now()})
    assert pun.store.tokens()[-1].last_used_at


def test_files_of_the_site_whose_names_are_no_text(pun: Pun, tmp_path: Path) -> None:
    """They are listed with a question mark, and no list fails."""
    (tmp_path / "clusters.d" / os.fsdecode(b"odd\xff.yml")).write_text("v2:\n  job: {adapter: local}\n")
    os.mkdir(tmp_path / "agents.d")
    (tmp_path / "agents.d" / os.fsdecode(b"\xff.md")).write_text("Hello.")
    titles = {cluster["id"]: cluster["title"] for cluster in pun("GET", "/api/v1/clusters", 200).json["data"]}
    assert titles["odd?"] == "Odd?" and "box" in titles
    (note,) = pun("GET", "/api/v1/context", 200).json["data"]["notes"]
    assert note["content"] == "Hello." and note["source"].endswith("?.md")


def test_a_form_that_is_no_text(pun: Pun) -> None:
    """Bytes in a form that are not UTF-8 make no token, or one whose name is valid text."""
    headers = {**pun.session(), "Origin": ORIGIN, "Content-Type": "application/x-www-form-urlencoded"}
    for odd in ("%ED%A0%80", "%FF", "%00", "%E2%80%A8"):
        page = pun.page().text
        form = page.split('name="csrf_token" value="', 1)[1].split('"', 1)[0]
        body = f"csrf_token={form}&name={odd}&preset=read&expires=30d"
        assert pun.app.post("/settings/api_tokens", body, headers=headers, expect_errors=True).status_int in (303, 422)
    for token in pun.store.tokens():
        token.name.encode()
