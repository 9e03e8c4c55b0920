"""GET /api/v1/context: the site's own notes for agents, as Open OnDemand's sites keep them in agents.d."""

from __future__ import annotations

import logging
from pathlib import Path

from pun_app.errors import Refused, Unavailable
from pun_app.handlers.request import Answer, Request
from pun_app.schemas import ContextAnswer, SiteNote
from pun_app.text_file import NoFile, piece

NOTE_SIZE = 32 * 1024
"""Bytes of one note; the rest of a longer one is left out."""
WHOLE_SIZE = 128 * 1024
"""Bytes of them all: an agent reads every one of them, and has other things to keep in mind."""

log = logging.getLogger("punway.pun")


def site_context(request: Request) -> Answer[ContextAnswer]:
    """What the site tells agents: its notes, in the order of their files' names.

    One that cannot be read is left out, and named in the log.
    """
    folder = Path(request.site_docs)
    try:
        paths = sorted(path for path in folder.iterdir() if path.name.endswith(".md") and path.name[0] != ".")
    except (FileNotFoundError, NotADirectoryError):
        paths = []
    except OSError as error:
        raise Unavailable(f"{folder} cannot be read: {error.strerror}") from error
    notes: list[SiteNote] = []
    left = WHOLE_SIZE
    for path in paths:
        try:
            read = piece(str(path), 0, min(NOTE_SIZE, left), may_grow=False) if left else None
        except (NoFile, Refused) as error:
            log.warning("a note of the site is left out: %s", error)
            continue
        text = read.text if read else ""
        left = max(0, left - len(text.encode()))
        notes.append(SiteNote(source=str(path), content=text, truncated=not read or read.next_offset < read.size))
    return Answer(ContextAnswer(notes=notes))
