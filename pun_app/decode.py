"""A JSON decoder for Structs that accepts 60.0 as an integer, as JSON Schema and OpenAPI do.

It decodes straight into the type. Decoding without a type and converting afterwards would create an object for every
value of a body: 36 MB of empty arrays took 1.7 GB.
"""

from __future__ import annotations

import re
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

_FLOAT = re.compile(r"Expected `(?:[a-z]+ \| )*int(?: \| [a-z]+)*`, got `float`")


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
