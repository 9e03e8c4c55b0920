"""qconf: Grid Engine's configuration objects, as lines of a name and a value. qacct prints records in this form too."""

from __future__ import annotations

import re


def parse_objects(text: str) -> list[dict[str, str]]:
    """Return each object as a dict of its names and values; one empty dict where there is none.

    A backslash continues a line. An empty line or a line of ``=`` begins the next object. Of a name that an object has
    several times, the first value counts.
    """
    found: list[dict[str, str]] = [{}]
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.startswith("=====") or not line.strip():
            if found[-1]:
                found.append({})
            continue
        name, _, value = line.strip().partition(" ")
        found[-1].setdefault(name, value.strip())
    return found if found[-1] or len(found) == 1 else found[:-1]
