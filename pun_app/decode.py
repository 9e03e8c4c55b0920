"""The decoders of bodies and query strings, which return the Structs of schemas.py and queries.py.

A body is decoded straight into its type. Decoding without a type and converting afterwards would create an object for
every value: 36 MB of empty arrays took 1.7 GB. 60.0 is accepted as an integer, as in JSON Schema and OpenAPI.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec

from pun_app.errors import BadRequest
from pun_app.validation_errors import explain, shortened

_FLOAT = re.compile(r"Expected `(?:[a-z]+ \| )*int(?: \| [a-z]+)*`, got `float`")

Q = TypeVar("Q", bound=msgspec.Struct)

_MAY_BE_EMPTY = ("cursor", "from", "to")
"""Parameters that count as omitted if they are empty: clients pass on what they have, such as the first cursor."""


def decode(content: bytes, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """Return the content as a ``kind``.

    Raises msgspec.DecodeError for anything but JSON, and msgspec.ValidationError, which names the field.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        if not _FLOAT.match(str(error)):
            raise
        # msgspec accepts 60.0 as an int only in lax mode, which also accepts "60". So first check that every string is
        # where a string belongs and every number is where a number belongs.
        try:
            msgspec.json.decode(content, type=_with_floats(kind))
        except msgspec.ValidationError as wrong_type:
            raise msgspec.ValidationError(re.sub(r"\bfloat\b", "int", str(wrong_type), count=1)) from error
        return msgspec.json.decode(content, type=kind, strict=False)


@cache
def _with_floats(kind: Any) -> Any:
    """Return the same type with float in place of int, without the bounds of numbers."""
    if kind is int:
        return float
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = [
            (field.encode_name, _with_floats(field.type), *([] if field.required else [None]))
            for field in msgspec.structs.fields(kind)
        ]
        return msgspec.defstruct(
            kind.__name__, fields, forbid_unknown_fields=kind.__struct_config__.forbid_unknown_fields
        )
    inner = get_args(kind)
    if get_origin(kind) is Annotated:
        # Strings keep their constraints. Numbers and lists lose theirs, which the second pass checks.
        return kind if inner[0] is str or get_origin(inner[0]) is dict else _with_floats(inner[0])
    if get_origin(kind) is list:
        return list[_with_floats(inner[0])]  # type: ignore[misc]
    if get_origin(kind) in (Union, UnionType):
        return Union[tuple(_with_floats(member) for member in inner)]  # noqa: UP007 - the members are known at run time
    return kind


def decode_query(given: Mapping[str, Sequence[str]], kind: type[Q]) -> Q:
    """Return the parameters of a query string as a ``kind``. ``given`` has all values of each name.

    Raises BadRequest, which names the parameter and says what to write.
    """
    known = _decoders(kind)
    if unknown := [name for name in given if name not in known]:
        noun = "parameter" if len(unknown) == 1 else "parameters"
        takes = f"This address takes: {', '.join(known)}." if known else "This address takes no query parameters."
        raise BadRequest(f"Unknown query {noun}: {', '.join(map(shortened, unknown[:10]))}. {takes}")
    values: dict[str, object] = {}
    for name, texts in given.items():
        if len(texts) > 1:
            raise BadRequest(f"{name}: this query parameter is repeated; give it once")
        (text,) = texts
        if any(ord(character) < 32 or character == "\x7f" for character in text):
            raise BadRequest(f"{name}: this query parameter has a control character in it; leave that out")
        if name == "cluster" and not text.strip():
            continue
        if text:
            values[name] = known[name](text)
        elif name not in _MAY_BE_EMPTY:
            raise BadRequest(f"{name}: this query parameter is empty; give it a value or omit it")
    if "cluster" in known and "cluster" not in values:
        raise BadRequest("Missing cluster parameter: add ?cluster=ID; GET /api/v1/clusters lists the ids")
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise BadRequest(explain(error, kind, values)) from error


@cache
def _decoders(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the function for each parameter that turns its text into a value of the field's type.

    A text that it cannot turn stays as it is, and is rejected with the type's own message. msgspec's lax mode would
    also accept 1e3 as a number, 0 as false and null as an omitted parameter.
    """
    return {
        field.encode_name: {int: _int, bool: _bool}.get(_scalar(field.type), str)
        for field in msgspec.structs.fields(kind)
    }


def _scalar(kind: Any) -> Any:
    """Return int for ``Annotated[int | None, ...]``, and so on."""
    while arguments := get_args(kind):
        kind = arguments[0]
    return kind


def _int(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text


def _bool(text: str) -> bool | str:
    return {"true": True, "false": False}.get(text, text)
