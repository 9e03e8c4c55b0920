"""Tests of pun_app/adapters/slurm/sacctmgr.py with the output of Slurm 22.05. tests/system/ uses a real Slurm."""

from __future__ import annotations

from pun_app.adapters.model import Account
from pun_app.adapters.slurm.sacctmgr import accounts_command, parse_accounts, parse_shares, shares_command


def test_associations_become_accounts() -> None:
    """Each account once, with the QOS of all its associations, in order."""
    text = "physics|chem|normal||\nphysics|physics|normal,long|long|\nphysics|physics|gpu||\n"
    assert parse_accounts(text) == [
        Account("chem", default=False, qos=["normal"]),
        Account("physics", default=True, qos=["normal", "long", "gpu"], default_qos="long"),
    ]
    assert parse_accounts("") == []
    assert "cluster=owens" in accounts_command("alice", "owens")


def test_what_is_left_is_the_accounts_and_not_a_users() -> None:
    text = (
        "root|||cpu=0\n chem||cpu=1000,gres/gpu=5|cpu=400,mem=7\n  chem|alice|cpu=10|cpu=9\n"
        " over||cpu=10|cpu=15\n open|||cpu=3\n"
    )
    accounts = [Account("chem"), Account("over"), Account("open"), Account("none")]
    assert [
        (a.cpu_minutes_limit, a.cpu_minutes_used, a.cpu_minutes_left) for a in parse_shares(text, accounts)
    ] == [(1000, 400, 600), (10, 15, 0), (None, 3, None), (None, None, None)]  # fmt: skip
    assert shares_command(["chem", "over"])[3] == "--accounts=chem,over"
