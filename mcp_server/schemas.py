"""The published schemas of the tools, made from the API's OpenAPI document.

The document (nginx/static/openapi.json) is the one source of the descriptions and of the types of results. The schemas
are compact, as every agent reads all of them: they have no titles and no references, and describe each type once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OPENAPI_FILE = Path(__file__).parents[1] / "nginx" / "static" / "openapi.json"

Schema = dict[str, Any]
# The server rejects a text that is too long, with a message. Few agents would count characters.
_LEFT_OUT_OF_ARGUMENTS = ("title", "default", "$defs", "minLength", "maxLength", "maxItems")
# A result always has all of its fields. The descriptions say what is in its dictionaries.
_LEFT_OUT_OF_RESULTS = ("title", "default", "required", "additionalProperties")
_NULL = {"type": "null"}


class ApiDocument:
    """The API's OpenAPI document, by operation and by component."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.components: dict[str, Schema] = document["components"]["schemas"]
        self._operations = {
            operation["operationId"]: operation
            for methods in document["paths"].values()
            for operation in methods.values()
        }

    @classmethod
    def load(cls) -> ApiDocument:
        """Read the document that is installed with the portal."""
        return cls(json.loads(OPENAPI_FILE.read_text(encoding="utf-8")))

    def summary(self, operation: str) -> str:
        """Return an operation's summary, such as ``List jobs``."""
        return str(self._operations[operation]["summary"])

    def description(self, operation: str) -> str:
        """Return an operation's description without its last sentence, which names the scope."""
        return str(self._operations[operation]["description"].rpartition(" Scope: ")[0])

    def argument(self, operation: str, name: str) -> str:
        """Return the description of a parameter, of a field of the body or of a field of the body's script.

        Raises KeyError if the operation has none of this name.
        """
        found = {parameter["name"]: parameter for parameter in self._operations[operation]["parameters"]}
        if body := self._operations[operation].get("requestBody"):
            reference = body["content"]["application/json"]["schema"]
            fields = self._resolved(reference)["properties"]
            found = {**self._resolved(fields.get("script", {})).get("properties", {}), **fields, **found}
        return str(found[name]["description"])

    def response(self, operation: str, status: str) -> Schema:
        """Return the schema of a successful response's body."""
        content = self._operations[operation]["responses"][status]["content"]
        return dict(content["application/json"]["schema"])

    def _resolved(self, schema: Schema) -> Schema:
        return self.components[_name(schema)] if "$ref" in schema else schema


class Compactor:
    """A writer of compact schemas for a list of tools. No type is in the list twice."""

    def __init__(self, components: Mapping[str, Schema]) -> None:
        self._components = components
        self._described: set[tuple[str, str]] = set()

    def result(self, schema: Schema) -> Schema:
        """Return the compact form of a schema from the document, such as a response's."""
        compact = self._compact(schema, self._components, is_input=False)
        if "$ref" in schema:
            return compact
        return {**compact, "properties": self._new_fields(compact["properties"])}

    def arguments(self, schema: Schema, descriptions: Mapping[str, str]) -> Schema:
        """Return the compact form of a schema of arguments that pydantic made, with a description of each argument.

        Its models have the names of the document's components, which describe their fields.
        """
        compact = self._compact(schema, schema.get("$defs", {}), is_input=True)
        fields = {name: {"description": descriptions[name], **field} for name, field in compact["properties"].items()}
        return {**compact, "properties": fields}

    def _compact(self, schema: Schema, definitions: Mapping[str, Schema], *, is_input: bool) -> Schema:
        def inner(part: Schema) -> Schema:
            return self._compact(part, definitions, is_input=is_input)

        if "$ref" in schema:
            name = _name(schema)
            component = self._component(name, inner(definitions[name]), is_input=is_input)
            return {**component, **_description(schema)}
        if "anyOf" in schema:
            return {**_description(schema), **_choice([inner(part) for part in schema["anyOf"]], is_input=is_input)}
        left_out = _LEFT_OUT_OF_ARGUMENTS if is_input else _LEFT_OUT_OF_RESULTS
        compact = {name: value for name, value in schema.items() if name not in left_out}
        if is_input and schema.get("default") is not None:
            compact["default"] = schema["default"]
        if "properties" in schema:
            compact["properties"] = {name: inner(field) for name, field in schema["properties"].items()}
        for name in ("items", "additionalProperties"):
            if isinstance(compact.get(name), dict):
                compact[name] = inner(schema[name])
        return compact

    def _component(self, name: str, schema: Schema, *, is_input: bool) -> Schema:
        """Return a component's schema, in full the first time.

        Later a result has the names of its fields, so that a typed client still finds them. An argument has none.
        """
        compact = {key: part for key, part in schema.items() if key != "description"}
        published = self._components[name]["properties"]
        fields = self._new_fields(
            {
                field: {**value, "description": published[field]["description"]}
                for field, value in schema["properties"].items()
            }
        )
        if is_input and not any(fields.values()):
            return {"type": "object"}
        return {**compact, "properties": fields}

    def _new_fields(self, fields: dict[str, Schema]) -> dict[str, Schema]:
        """Return the fields, with an empty schema for each that the list has described before."""
        new = {}
        for name, field in fields.items():
            key = (name, str(field.get("description")))
            new[name] = {} if key in self._described else field
            if "description" in field:
                self._described.add(key)
        return new


def _choice(choices: list[Schema], *, is_input: bool) -> Schema:
    """Return the shortest form of a choice. An optional argument is just left out, so arguments do not mention null.

    Arguments use anyOf rather than a list of types, which some models' providers reject.
    """
    types = [choice for choice in choices if choice != _NULL]
    if len(types) > 1:
        return {"anyOf": types if is_input else choices}
    if is_input or len(types) == len(choices):
        return types[0]
    if "enum" in types[0]:
        return {**types[0], "enum": [*types[0]["enum"], None]}
    return {**types[0], "type": [types[0]["type"], "null"]}


def _description(schema: Schema) -> Schema:
    return {"description": schema["description"]} if "description" in schema else {}


def _name(reference: Schema) -> str:
    return str(reference["$ref"]).rpartition("/")[2]
