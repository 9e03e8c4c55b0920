"""The groups that access rules name."""

from __future__ import annotations

import grp
import os


def group_names() -> set[str]:
    """The names of the process's groups: a PUN leaves when the directory gives its user others."""
    names = set()
    for gid in {os.getegid(), *os.getgroups()}:
        try:
            names.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue  # A number without a name is in nobody's list.
    return names
