"""The groups that access rules name."""

from __future__ import annotations

import grp
import os


def group_names() -> set[str]:
    """Return the names of the process's groups. A PUN exits when its user's groups change."""
    names = set()
    for gid in {os.getegid(), *os.getgroups()}:
        try:
            names.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue  # A group without a name cannot be in an access rule.
    return names
