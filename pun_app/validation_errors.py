"""Messages for invalid requests: they name the field and say what to write.

msgspec's own messages contain Python's type names and regular expressions. These messages are made from the type of the
field. A field whose type says too little has a hint: ``Meta(extra={"write": "a number with M, G or T, such as 4G"})``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from msgspec import inspect

_ERROR = re.compile(r"(?P<problem>.*?)(?: - at (?P<key>`key` in )?`\$\.?(?P<path>[^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"\.?(?P<field>\w+)|\[(?P<index>[0-9]+|\.\.\.)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_GOT = re.compile(r", got `(\w+)`")
_JSON_TYPES = {
    "array": "a list",
    "bool": "true or false",
    "float": "a fraction",
    "int": "a number",
    "null": "null",
    "object": "an object",
    "str": "a string",
}
MAX_QUOTED_LENGTH = 50
"""Maximum length of a client's name or value that a message quotes, in characters."""


def explain(
    error: msgspec.ValidationError, kind: type[msgspec.Struct], texts: Mapping[str, object] | None = None
) -> str:
    """Return a message for an error that msgspec raised for a ``kind``.

    For a JSON body the message ends with the type that the client sent: ``options.wall_time: write a whole number from
    1 to 315360000, not a string``. For a query string, whose values are the ``texts``, it ends with the client's text.
    """
    # Imported here because a PUN needs the module only after an invalid request.
    from msgspec.inspect import type_info

    match = _ERROR.fullmatch(str(error))
    assert match
    problem, path = match["problem"], match["path"] or ""
    place = _find(type_info(kind), path)
    path = path.replace("[...]", "")
    if unknown := _UNKNOWN.fullmatch(problem):
        name = shortened(unknown[1])
        known = ", ".join(field.encode_name for field in _fields(place))
        return f"Unknown field: {_joined(path, name)}. The fields of {path or 'the body'} are: {known}"
    if missing := _MISSING.fullmatch(problem):
        field = next(field for field in _fields(place) if field.encode_name == missing[1])
        return f"{_joined(path, missing[1])}: this field is required; write {expected(field.type)}"
    if not path:
        names = ", ".join(field.encode_name for field in _fields(place))
        return f"The body must be a JSON object with the fields {names}{_not_what_was_sent(problem)}"
    if match["key"]:
        return f"{path}: write each name as {expected(place.key_type)}"
    each = "each value as " if (match["path"] or "").endswith("[...]") else ""
    sent = _not_what_was_sent(problem) if texts is None else f', not "{shortened(str(texts[path]))}"'
    return f"{path}: write {each}{expected(place)}{sent}"


def shortened(text: str) -> str:
    """Return a client's text for a message: shortened, and with characters that do not print replaced."""
    printable = "".join(character if character.isprintable() else "\ufffd" for character in text[:MAX_QUOTED_LENGTH])
    return printable if len(text) <= MAX_QUOTED_LENGTH else f"{printable}…"


def expected(place: Any) -> str:
    """Return in words what a client should write for a type."""
    from msgspec import inspect

    if hint := _hint(place):
        return hint
    for kind in _alternatives(place):
        if hint := _hint(kind):
            return hint
    return " or ".join(_in_words(_bare(kind), inspect) for kind in _alternatives(place))


def _in_words(kind: Any, inspect: Any) -> str:
    """Return one type in words. It knows every type that the API's Structs use."""
    if isinstance(kind, inspect.IntType):
        return "a whole number" + _range(kind.ge, kind.le, "", "from")
    if isinstance(kind, inspect.StrType):
        return "a string" + _range(kind.min_length, kind.max_length, " characters", "of")
    if isinstance(kind, inspect.ListType):
        return "a list" + _range(kind.min_length, kind.max_length, " items", "of")
    if isinstance(kind, inspect.LiteralType):
        return f"one of {', '.join(str(value) for value in kind.values)}"
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    return "an object" + (_range(None, kind.max_length, " names", "of") if isinstance(kind, inspect.DictType) else "")


def _range(least: int | None, most: int | None, unit: str, preposition: str) -> str:
    if most is None:
        return f" {preposition} at least {least}{unit if least != 1 else unit[:-1]}" if least else ""
    return f" {preposition} {least} to {most}{unit}" if least is not None else f" {preposition} up to {most}{unit}"


def _not_what_was_sent(problem: str) -> str:
    got = _GOT.search(problem)
    return f", not {_JSON_TYPES.get(got[1], got[1])}" if got else ""


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _hint(kind: Any) -> str:
    return str((getattr(kind, "extra", None) or {}).get("write", ""))


def _bare(kind: Any) -> Any:
    """Return a type without its annotations."""
    from msgspec.inspect import Metadata

    while isinstance(kind, Metadata):
        kind = kind.type
    return kind


def _alternatives(kind: Any) -> list[Any]:
    """Return the members of a union without null, which clients never need to write; of any other type, itself."""
    from msgspec.inspect import NoneType, UnionType

    bare = _bare(kind)
    return [one for one in bare.types if not isinstance(one, NoneType)] if isinstance(bare, UnionType) else [kind]


def _find(place: Any, path: str) -> Any:
    """Return the type at a path such as ``jobs[1].job_id``."""
    for step in _STEP.finditer(path):
        bare = _bare(_alternatives(place)[0])
        if step["field"]:
            place = next(field.type for field in bare.fields if field.encode_name == step["field"])
        else:
            place = bare.item_type if hasattr(bare, "item_type") else bare.value_type
    bare = _bare(_alternatives(place)[0])
    # An error in a key of an object has the path of the object.
    return bare if hasattr(bare, "key_type") else place


def _fields(place: Any) -> tuple[inspect.Field, ...]:
    fields: tuple[inspect.Field, ...] = _bare(_alternatives(place)[0]).fields
    return fields
