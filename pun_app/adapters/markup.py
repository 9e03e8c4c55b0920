"""XML as schedulers print it."""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from pun_app.adapters.errors import SchedulerUnavailable

__all__ = ["Element", "document", "text_of"]

_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Characters that XML forbids but a job's name may contain."""


def document(text: str, product: str) -> Element:
    """Return the root of an XML document. Raises SchedulerUnavailable for text that was cut off, or is not XML."""
    try:
        return ElementTree.fromstring(_NO_XML.sub("\ufffd", text))  # noqa: S314 - expat bounds what entities become
    except ElementTree.ParseError as error:
        raise SchedulerUnavailable(f"{product}'s output cannot be read: {error}") from error


def text_of(element: Element, path: str) -> str:
    """Return the text of the element at a path below this one, without outer blanks; "" without such an element."""
    return (element.findtext(path) or "").strip()
