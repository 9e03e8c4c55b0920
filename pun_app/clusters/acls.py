"""OOD's ACLs on a cluster: ``{adapter: group, groups: […], type: allowlist}``, all of which must pass.

A rule that is not understood denies access: a typo must not let everyone in.
Source: the Open OnDemand documentation, "Cluster Config Schema v2", acls.
"""

from __future__ import annotations

import logging
from typing import Any

from pun_app.adapters.groups import group_names

log = logging.getLogger("punway.pun")

_ALLOW = ("allowlist", "whitelist")
_BLOCK = ("blocklist", "blacklist")


def allowed(acls: Any) -> bool:
    """Return True if this process's user passes every rule. Without rules everyone passes."""
    if acls is None:
        return True
    return isinstance(acls, list) and all(_passes(rule) for rule in acls)


def _passes(rule: Any) -> bool:
    if not isinstance(rule, dict) or rule.get("adapter") != "group" or not isinstance(rule.get("groups"), list):
        log.warning("denying access by an ACL that is not understood: %r", rule)
        return False
    named = group_names() & {str(group) for group in rule["groups"]}
    kind = rule.get("type", _ALLOW[0])
    if kind in _ALLOW:
        return bool(named)
    if kind in _BLOCK:
        return not named
    log.warning("denying access by an ACL of an unknown type: %r", kind)
    return False
