"""Tests of spawner/eligible.py: the rules for who may have a PUN."""

from __future__ import annotations

import grp
import pwd
from dataclasses import replace

import pytest

from spawner.eligible import Refused, Rules, check_name, find_account

RULES = Rules(1000, r"[\w@.\-]+", [], [], [], None)
NOBODY = pwd.getpwnam("nobody")


def test_an_ordinary_account_is_found_whole() -> None:
    """find_account returns every field of the account."""
    account = find_account("nobody", NOBODY.pw_uid, RULES)
    assert (account.name, account.uid, account.gid) == ("nobody", NOBODY.pw_uid, NOBODY.pw_gid)
    assert (account.home, account.shell) == (NOBODY.pw_dir, NOBODY.pw_shell)


@pytest.mark.parametrize(
    ("name", "uid", "rules", "message"),
    [
        ("root", 0, replace(RULES, min_uid=0), "root"),
        ("nobody", 0, RULES, "root"),
        ("root", NOBODY.pw_uid, RULES, "is called nobody"),
        ("NOBODY", NOBODY.pw_uid, RULES, "is called nobody"),
        ("nobody", 1, RULES, "is called"),
        ("nobody", 4_000_000, RULES, "no longer has an account"),
        ("nobody", NOBODY.pw_uid, replace(RULES, min_uid=100_000), "min_uid"),
        ("nobody", NOBODY.pw_uid, replace(RULES, disabled_shells=[NOBODY.pw_shell]), "disabled_shells"),
        ("nobody", NOBODY.pw_uid, replace(RULES, deny_users=["nobody"]), "deny_users"),
        ("nobody", NOBODY.pw_uid, replace(RULES, allow_groups=["root"]), "allow_groups"),
        ("nobody", NOBODY.pw_uid, replace(RULES, user_regex="[a-m]+"), "user_regex"),
        ("nobody", NOBODY.pw_uid, replace(RULES, only_uid=1234), "single-user"),
    ],
    ids=[
        "root",
        "root's uid with another name",
        "root's name with another uid",
        "name in capitals",
        "another user's uid",
        "unknown uid",
        "min_uid",
        "disabled_shells",
        "deny_users",
        "allow_groups",
        "user_regex",
        "single-user mode",
    ],
)
def test_each_rule_refuses_by_its_name(name: str, uid: int, rules: Rules, message: str) -> None:
    """Each rule refuses an account, and its message names the rule."""
    with pytest.raises(Refused, match=message):
        find_account(name, uid, rules)


def test_a_member_of_an_allowed_group_passes() -> None:
    """Membership in one of several allowed groups is enough."""
    group = grp.getgrgid(NOBODY.pw_gid).gr_name
    assert find_account("nobody", NOBODY.pw_uid, replace(RULES, allow_groups=["x", group]))


def test_single_user_mode_serves_the_one_who_started_it() -> None:
    """The user who started it is served whatever their uid is, except root."""
    rules = replace(RULES, min_uid=10**6, only_uid=NOBODY.pw_uid)
    assert find_account("nobody", NOBODY.pw_uid, rules).uid == NOBODY.pw_uid
    with pytest.raises(Refused, match="root"):
        find_account("root", 0, replace(rules, only_uid=0))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a b", "a\n", "é", "a\0b", "x" * 65, "a%2e"])
def test_a_name_that_would_be_a_path_or_an_option(name: str) -> None:
    """A name that is unsafe as a folder's name is refused even if the site's user_regex matches it."""
    with pytest.raises(Refused, match="user_regex"):
        check_name(name, replace(RULES, user_regex="(?s).*"))


@pytest.mark.parametrize("name", ["alice", "a.b", "user@example.org", "HOST$", "_x", "007"])
def test_names_that_sites_have(name: str) -> None:
    """Names with dots, at signs, digits and a final dollar sign are allowed."""
    check_name(name, replace(RULES, user_regex=".*"))
