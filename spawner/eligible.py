"""Who may have a PUN at all. Runs as root, in the child that is about to become the user: look-ups in the name
service happen there and nowhere else, so that a slow directory server stalls the one user who is asked for.
"""

import grp
import os
import pwd
import re
from contextlib import suppress
from dataclasses import dataclass

# What any account's name must be before it becomes a folder's name, whatever the site's own rule is.
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*\$?")


class Refused(Exception):
    """This account gets no PUN. The message says which rule."""


@dataclass(frozen=True)
class Rules:
    """The site's rules, from ``[pun]`` of punway.toml. ``only_uid`` is set in single-user mode."""

    min_uid: int
    user_regex: str
    disabled_shells: list[str]
    deny_users: list[str]
    allow_groups: list[str]
    only_uid: int | None


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int
    home: str
    shell: str


def check_name(name: str, rules: Rules) -> None:
    """The rules that need no look-up. Raises Refused."""
    if len(name) > 64 or not _SAFE_NAME.fullmatch(name) or not re.fullmatch(rules.user_regex, name):
        raise Refused("the user's name is not of the form that this portal serves (user_regex)")
    if name in rules.deny_users:
        raise Refused(f"{name} is among the users that this portal does not serve (deny_users)")


def find_account(name: str, uid: int, rules: Rules) -> Account:
    """The account of that uid, when it may have a PUN. Raises Refused."""
    check_name(name, rules)
    if uid == 0:
        raise Refused("root is not served")
    if rules.only_uid not in (None, uid):
        raise Refused("this portal runs in single-user mode and serves only the user who started it")
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise Refused(f"{name} has no account on this host any more") from None
    if entry.pw_name != name:
        raise Refused(f"uid {uid} is called {entry.pw_name} on this host, not {name}")
    if pwd.getpwnam(name).pw_uid != uid:
        raise Refused(f"{name} and uid {uid} are not one account on this host")
    if rules.only_uid is None:
        _check_site_rules(entry, rules)
    return Account(name, uid, entry.pw_gid, entry.pw_dir, entry.pw_shell)


def _check_site_rules(entry: pwd.struct_passwd, rules: Rules) -> None:
    name = entry.pw_name
    if entry.pw_uid < rules.min_uid:
        raise Refused(f"uids below {rules.min_uid} are not served (min_uid); {name} has {entry.pw_uid}")
    if entry.pw_gid == 0:
        raise Refused("users whose primary group is root's are not served")
    if entry.pw_shell in rules.disabled_shells:
        raise Refused(f"{name} has a disabled shell, {entry.pw_shell} (disabled_shells)")
    groups = set()
    for gid in os.getgrouplist(name, entry.pw_gid) if rules.allow_groups else ():
        with suppress(KeyError):  # A number that no group has (any more) cannot be on the list.
            groups.add(grp.getgrgid(gid).gr_name)
    if rules.allow_groups and not groups & set(rules.allow_groups):
        raise Refused(f"{name} is in none of the groups that this portal serves (allow_groups)")
