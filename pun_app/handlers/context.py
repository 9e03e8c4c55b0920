"""The handler of GET /api/v1/context: the site's documents for agents, which Open OnDemand sites keep in agents.d."""

from __future__ import annotations

import logging
from pathlib import Path

from pun_app.errors import Refused, Unavailable
from pun_app.handlers.request import Answer, Request
from pun_app.schemas import ContextAnswer, SiteNote
from pun_app.text_file import NoFile, piece

MAX_DOCUMENT_BYTES = 32 * 1024
"""Maximum size of one document. The rest of a longer one is omitted."""
MAX_TOTAL_BYTES = 128 * 1024
"""Maximum size of all documents together: an agent reads them all, and its context is limited."""

log = logging.getLogger("punway.pun")


def site_context(request: Request) -> Answer[ContextAnswer]:
    """Return the site's documents in the order of their file names.

    A document that cannot be read is omitted and named in the log. Raises Unavailable if the folder cannot be read.
    """
    folder = Path(request.site_docs)
    try:
        paths = sorted(path for path in folder.iterdir() if path.name.endswith(".md") and path.name[0] != ".")
    except (FileNotFoundError, NotADirectoryError):
        paths = []
    except OSError as error:
        raise Unavailable(f"The site's documents in {folder} cannot be read: {error.strerror}") from error
    notes: list[SiteNote] = []
    left = MAX_TOTAL_BYTES
    for path in paths:
        try:
            read = piece(str(path), 0, min(MAX_DOCUMENT_BYTES, left), may_grow=False) if left else None
        except (NoFile, Refused) as error:
            log.warning("skipping a document of the site: %s", error)
            continue
        text = read.text if read else ""
        left = max(0, left - len(text.encode()))
        notes.append(SiteNote(source=str(path), content=text, truncated=not read or read.next_offset < read.size))
    return Answer(ContextAnswer(notes=notes))
