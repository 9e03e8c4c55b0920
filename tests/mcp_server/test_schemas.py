"""Tests of the published tool list: its texts and types are the API's, results are valid for it, and it stays short."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from mcp.server.mcpserver.tools import Tool
from mcp_types import Tool as PublishedTool
from pydantic import BaseModel

from mcp_server import arguments
from mcp_server.job_tools import Outcome
from mcp_server.portal import Portal
from mcp_server.schemas import ApiDocument, Compactor
from mcp_server.tools import ToolRow, described, tools
from pun_app import schemas
from pun_app.adapters import model
from pun_app.openapi import EXAMPLES, document
from pun_app.routes import ROUTES

MAX_CHARACTERS = 25_000
"""Every agent reads the whole list: about 6,000 tokens."""
ROUTE_OF = {route.handler.__name__: route for route in ROUTES}
ROWS = tools(Portal("/nonexistent", "portal.example.org"))
IDS = [row.name for row in ROWS]


@pytest.fixture(scope="module")
def listed() -> dict[str, Tool]:
    return {tool.name: tool for tool in described(ROWS)}


def published(tool: Tool) -> dict[str, Any]:
    """Return a tool as tools/list sends it."""
    one = PublishedTool(
        name=tool.name, title=tool.title, description=tool.description, input_schema=tool.parameters,
        output_schema=tool.output_schema, annotations=tool.annotations,
    )  # fmt: skip
    return one.model_dump(by_alias=True, mode="json", exclude_none=True)


def test_the_list_is_short(listed: dict[str, Tool]) -> None:
    """The list has a bound, as it takes part of every agent's context."""
    text = json.dumps({"tools": [published(tool) for tool in listed.values()]}, separators=(",", ":"))
    assert len(text) <= MAX_CHARACTERS


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_texts_are_the_apis(row: ToolRow, listed: dict[str, Tool]) -> None:
    """Title and description are the route's, unless the tool is a variant of an operation with a text of its own."""
    tool, route = listed[row.name], ROUTE_OF[row.operation]
    assert tool.title == (row.title or route.summary)
    assert tool.description.startswith(row.description or route.description)
    assert bool(row.title) == bool(row.description) == (row.name in ("wait_for_job", "validate_job"))
    assert row.scope == route.scope


def test_no_docstring_is_published(listed: dict[str, Tool]) -> None:
    """Docstrings of tools and models are for developers."""
    text = json.dumps([published(tool) for tool in listed.values()])
    for item in (*(row.function for row in ROWS), arguments.Options, arguments.JobNamed):
        assert item.__doc__ and item.__doc__ not in text


def descriptions(schema: Any) -> list[tuple[str, str]]:
    """Return each field of a schema and of the schemas inside it, with its description."""
    if isinstance(schema, list):
        return [pair for item in schema for pair in descriptions(item)]
    if not isinstance(schema, dict):
        return []
    own = [(name, field.get("description", "")) for name, field in schema.get("properties", {}).items()]
    inside = [*schema.get("properties", {}).values(), schema.get("items"), *schema.get("anyOf", ())]
    return own + descriptions(inside)


def test_every_argument_is_described(listed: dict[str, Tool]) -> None:
    """Each argument has a description, and so has each option, where it is first listed."""
    for tool in listed.values():
        assert all(text for _, text in descriptions(tool.parameters)), tool.name


def test_no_type_is_described_twice(listed: dict[str, Tool]) -> None:
    """A field of a result is described the first time; later its schema is empty."""
    texts = [pair for tool in listed.values() for pair in descriptions(tool.output_schema) if pair[1]]
    in_both_groups = {("native_state", "The scheduler's own word for the state.")}
    assert {pair for pair in texts if texts.count(pair) > 1} <= in_both_groups
    options = {name for name, text in descriptions(listed["submit_job"].parameters) if text}
    assert set(arguments.Options.model_fields) <= options
    assert listed["validate_job"].parameters["properties"]["options"] == {
        "description": "As for submit_job.", "type": "object"
    }  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_every_field_of_the_response_is_listed(row: ToolRow, listed: dict[str, Tool]) -> None:
    """A typed client finds every field of a result by its name, also of a type that was described before."""
    schema: Any = listed[row.name].output_schema
    route = ROUTE_OF[row.operation]
    answer = route.other if route.other and row.status == "200" else route.answer
    if row.key:
        schema = schema["properties"][row.key]
    if getattr(answer, "__origin__", None) is list:
        schema, answer = schema["items"], answer.__args__[0]
    assert set(schema["properties"]) == {field.name for field in msgspec.structs.fields(answer)}


def samples(answer: Any, operation: str) -> list[Any]:
    """Return values of a response type: with everything null that may be, and the contract's example."""
    if getattr(answer, "__origin__", None) is list:
        inner = samples(answer.__args__[0], "")
        return [[], inner, *([EXAMPLES[operation]] if operation in EXAMPLES else [])]
    values: dict[Any, Any] = {str: "x", int: 1, float: 0.5, bool: True}
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(answer):
        kind = msgspec.inspect.type_info(field.type)
        while isinstance(kind, msgspec.inspect.Metadata):
            kind = kind.type
        if isinstance(kind, msgspec.inspect.UnionType):
            fields[field.name] = None
        elif isinstance(kind, msgspec.inspect.ListType):
            fields[field.name] = []
        elif isinstance(kind, msgspec.inspect.DictType):
            fields[field.name] = {}
        else:
            names = {"StrType": str, "IntType": int, "FloatType": float, "BoolType": bool}
            fields[field.name] = values[names[type(kind).__name__]]
    empty = msgspec.to_builtins(answer(**fields))
    return [empty, *([EXAMPLES[operation]] if operation in EXAMPLES else [])]


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_results_are_valid_for_their_schema(row: ToolRow, listed: dict[str, Tool]) -> None:
    """Clients validate a structured result by the published schema, and fail the call if it does not fit."""
    schema: Any = listed[row.name].output_schema
    Draft202012Validator.check_schema(schema)
    route = ROUTE_OF[row.operation]
    answer = route.other if route.other and row.status == "200" else route.answer
    for data in samples(answer, row.operation):
        result = {row.key: data, "reached": True, "next_cursor": None} if row.key else data
        Draft202012Validator(schema).validate(result)
    with pytest.raises(Exception, match="is not of type"):
        Draft202012Validator(schema).validate({row.key: 7} if row.key else 7)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(arguments.Options, schemas.Options), (arguments.JobNamed, schemas.JobNamed)],
    ids=["options", "jobs"],
)
def test_the_arguments_are_the_apis(ours: type[BaseModel], theirs: type[msgspec.Struct]) -> None:
    """The tools' models of arguments have the fields of the API's bodies."""
    assert set(ours.model_fields) == {field.name for field in msgspec.structs.fields(theirs)}


def test_outcomes_are_the_adapters() -> None:
    """list_past_jobs accepts every outcome that there is, and completed for any of them."""
    assert Outcome.__args__ == ("completed", *model.OUTCOMES)


def test_the_document_is_the_apis() -> None:
    """The texts come from the installed file, which is the generated document."""
    installed, generated = ApiDocument.load(), ApiDocument(document())
    assert installed.components == generated.components
    for operation in ROUTE_OF:
        assert installed.description(operation) == generated.description(operation)


def test_a_nullable_type_in_its_shortest_form() -> None:
    """A result may be null where the API's may; an argument that may be null is simply optional."""
    nullable = {"description": "x", "anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}], "default": None}
    result = Compactor({}).result({"type": "object", "properties": {"n": nullable}})
    assert result["properties"]["n"] == {"description": "x", "type": ["integer", "null"], "minimum": 1}
    argument = Compactor({}).arguments({"type": "object", "properties": {"n": nullable}}, {"n": "y"})
    assert argument["properties"]["n"] == {"description": "x", "type": "integer", "minimum": 1}
