"""XML as schedulers print it."""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from pun_app.adapters.errors import SchedulerUnavailable

__all__ = ["Element", "document", "text_of"]

_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""What an XML document cannot have, and a job's name may."""


def document(text: str, product: str) -> Element:
    """The root of an answer. Raises SchedulerUnavailable for one that was cut off, or is no XML."""
    try:
        return ElementTree.fromstring(_NO_XML.sub("\ufffd", text))  # noqa: S314 - expat bounds what entities become
    except ElementTree.ParseError as error:
        raise SchedulerUnavailable(f"{product}'s answer cannot be read: {error}") from error


def text_of(element: Element, path: str) -> str:
    """The text of the element at a path below this one, without blanks around it; "" where there is none."""
    return (element.findtext(path) or "").strip()
