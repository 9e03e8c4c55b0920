"""Slurm's accounts: the command lines of sacctmgr and sshare, and their output. Pure functions.

Tested with Slurm 22.05.
"""

from __future__ import annotations

import msgspec

from pun_app.adapters.model import Account
from pun_app.adapters.parse import number, word
from pun_app.adapters.slurm.scontrol import comma_separated, parse_tres


def accounts_command(user: str, cluster: str) -> list[str]:
    """Return the argv for a user's associations. Without a cluster, sacctmgr lists those on all clusters."""
    return [
        "sacctmgr", "--noheader", "--parsable2", "show", "user", "withassoc", "where", f"name={user}",
        f"cluster={cluster}", "format=DefaultAccount,Account,QOS,DefaultQOS",
    ]  # fmt: skip


def parse_accounts(text: str) -> list[Account]:
    """Return each account once. A user may have an association for each partition."""
    accounts: dict[str, Account] = {}
    for line in text.splitlines():
        default, name, qos, default_qos = (*line.split("|"), "", "", "", "")[:4]
        if not name:
            continue
        before = accounts.get(name)
        names = [*(before.qos if before else []), *comma_separated(qos)]
        accounts[name] = Account(
            name=name,
            default=name == default,
            qos=list(dict.fromkeys(names)),
            default_qos=word(default_qos) or (before.default_qos if before else None),
        )
    return list(accounts.values())


def shares_command(accounts: list[str]) -> list[str]:
    """Return the argv for the limits and the usage of accounts, in minutes of each resource."""
    return [
        "sshare", "--noheader", "--parsable2", f"--accounts={','.join(accounts)}",
        "--format=Account,User,GrpTRESMins,GrpTRESRaw",
    ]  # fmt: skip


def parse_shares(text: str, accounts: list[Account]) -> list[Account]:
    """Return the accounts with their processor minutes, which are in the row without a user."""
    minutes: dict[str, tuple[int | None, int | None]] = {}
    for line in text.splitlines():
        name, user, limit, used = (*line.split("|"), "", "", "", "")[:4]
        if not user:
            minutes[name.strip()] = _cpu_minutes(limit), _cpu_minutes(used)
    return [_with_minutes(account, *minutes.get(account.name, (None, None))) for account in accounts]


def _with_minutes(account: Account, limit: int | None, used: int | None) -> Account:
    left = None if limit is None else max(0, limit - (used or 0))
    return msgspec.structs.replace(account, cpu_minutes_limit=limit, cpu_minutes_used=used, cpu_minutes_left=left)


def _cpu_minutes(tres: str) -> int | None:
    return number(parse_tres(tres).get("cpu", ""))
