"""pun_app/adapters/sge/qconf.py."""

from __future__ import annotations

from pun_app.adapters.sge.qconf import parse_objects


def test_a_backslash_continues_a_line() -> None:
    """Long lists are printed over several lines."""
    assert parse_objects("name x\nentries a,b, \\\n        c\n") == [{"name": "x", "entries": "a,b,  c"}]
