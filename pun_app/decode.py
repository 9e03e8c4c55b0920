"""JSON to Structs, where a whole number may be written as 60.0: to JSON Schema, and so to OpenAPI, it is one.

Everything is decoded by its type. To decode without types first, and to convert, would make objects of whatever a body
holds: 36 MB of empty arrays were 1.7 GB.
"""

from __future__ import annotations

import re
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

_FLOAT = re.compile(r"Expected `(?:[a-z]+ \| )*int(?: \| [a-z]+)*`, got `float`")


def decode(content: bytes, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """Return the content as ``kind``. Raises msgspec.DecodeError, and ValidationError that names the field."""
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        if not _FLOAT.match(str(error)):
            raise
        # msgspec takes 60.0 for an int only if it takes "60" as well. So find first that every text is where text
        # belongs, and every number where a number does.
        try:
            msgspec.json.decode(content, type=_with_floats(kind))
        except msgspec.ValidationError as other:
            raise msgspec.ValidationError(re.sub(r"\bfloat\b", "int", str(other), count=1)) from error
        return msgspec.json.decode(content, type=kind, strict=False)


@cache
def _with_floats(kind: Any) -> Any:
    """Return the same type with float in the place of int, without the bounds of numbers."""
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
        return _with_floats(inner[0]) if inner[0] is int or get_origin(inner[0]) is list else kind
    if get_origin(kind) is list:
        return list[_with_floats(inner[0])]  # type: ignore[misc]
    if get_origin(kind) in (Union, UnionType):
        return Union[tuple(_with_floats(one) for one in inner)]  # noqa: UP007 - made of types that are not written here
    return kind
