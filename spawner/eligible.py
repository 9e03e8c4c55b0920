"""The rules that decide which users may have a PUN. A root child checks them before it becomes the user.

The spawner looks up accounts only in that child, so a slow directory server delays only the user who is looked up. The
hook's registrar applies the same rules, so it refuses the tokens of the same users.
"""

import grp
import os
import pwd
import re
from contextlib import suppress
from dataclasses import dataclass

# A user's name becomes a folder's name. It must match this pattern whatever the site's own user_regex permits.
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*\$?")


class Refused(Exception):
    """The refusal of an account that may not have a PUN. The user sees the message, which names the rule."""


@dataclass(frozen=True)
class Rules:
    """The site's rules, from ``[pun]`` of punway.toml. ``only_uid`` is set in single-user mode and None otherwise."""

    min_uid: int
    user_regex: str
    disabled_shells: list[str]
    deny_users: list[str]
    allow_groups: list[str]
    only_uid: int | None


@dataclass(frozen=True)
class Account:
    """A Unix account, as the name service describes it."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


def check_name(name: str, rules: Rules) -> None:
    """Check the rules that need no look-up. Raises Refused."""
    if len(name) > 64 or not _SAFE_NAME.fullmatch(name) or not re.fullmatch(rules.user_regex, name):
        raise Refused("this portal does not serve user names of this form (pun.user_regex)")
    if name in rules.deny_users:
        raise Refused(f"this portal does not serve {name} (pun.deny_users)")


def find_account(name: str, uid: int, rules: Rules) -> Account:
    """Return the account that has both this name and this uid. Raises Refused if it may not have a PUN."""
    check_name(name, rules)
    if uid == 0:
        raise Refused("this portal does not serve root")
    if rules.only_uid not in (None, uid):
        raise Refused("this portal runs in single-user mode and serves only the user who started it")
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise Refused(f"{name} no longer has an account on this host") from None
    # Compare in both directions: two names may share a uid, and a name may have been given to another uid.
    if entry.pw_name != name:
        raise Refused(f"uid {uid} is called {entry.pw_name} on this host, not {name}")
    if pwd.getpwnam(name).pw_uid != uid:
        raise Refused(f"{name} and uid {uid} are different accounts on this host")
    if rules.only_uid is None:
        _check_site_rules(entry, rules)
    return Account(name, uid, entry.pw_gid, entry.pw_dir, entry.pw_shell)


def _check_site_rules(entry: pwd.struct_passwd, rules: Rules) -> None:
    """Check uid, primary group, shell and groups. Raises Refused."""
    name = entry.pw_name
    if entry.pw_uid < rules.min_uid:
        raise Refused(f"{name} has uid {entry.pw_uid}; this portal serves uids from {rules.min_uid} on (pun.min_uid)")
    if entry.pw_gid == 0:
        raise Refused(f"this portal does not serve {name}, whose primary group is root's")
    if entry.pw_shell in rules.disabled_shells:
        raise Refused(f"{name} has a disabled login shell, {entry.pw_shell} (pun.disabled_shells)")
    groups = set()
    for gid in os.getgrouplist(name, entry.pw_gid) if rules.allow_groups else ():
        with suppress(KeyError):  # A gid without a name cannot be on the list.
            groups.add(grp.getgrgid(gid).gr_name)
    if rules.allow_groups and not groups & set(rules.allow_groups):
        raise Refused(f"{name} is not in any group that this portal serves (pun.allow_groups)")
