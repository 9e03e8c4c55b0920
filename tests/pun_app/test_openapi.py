"""Tests of the OpenAPI document: it matches the code, it is described in full, and the served file is up to date."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate

from pun_app import schemas
from pun_app.adapters.model import ClusterInfo, Queue
from pun_app.openapi import BODIES, EXAMPLES, document
from pun_app.routes import ROUTES, Route
from pun_app.schemas import StatusBody, SubmitBody

ROOT = Path(__file__).parents[2]
IDS = [f"{route.method} {route.path}" for route in ROUTES]


def test_the_served_file_is_up_to_date() -> None:
    """The committed file is the output of ``python -m pun_app.openapi`` (``make reference`` writes it)."""
    assert json.loads((ROOT / "nginx" / "static" / "openapi.json").read_text()) == document()


def test_it_is_openapi() -> None:
    """The document is valid OpenAPI 3.1."""
    validate(document())


@pytest.mark.parametrize("route", ROUTES, ids=IDS)
def test_every_route_is_there_with_its_words(route: Route) -> None:
    """Each operation has the route's summary and description, its scope, and the responses that every route has."""
    operation = document()["paths"][route.path.replace("<id>", "{id}")][route.method.lower()]
    assert operation["operationId"] == route.handler.__name__
    assert operation["summary"] == route.summary and 5 < len(route.summary) < 50
    assert operation["description"] == f"{route.description} Scope: {route.scope or 'any'}."
    assert {"401", "403", "429", "503", str(route.status)} <= operation["responses"].keys()


def undescribed(node: Any, place: str = "") -> Iterator[str]:
    """Yield the places of schema fields, parameters, headers, responses and bodies without a description."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from undescribed(item, f"{place}[{index}]")
    elif isinstance(node, dict):
        for name, value in node.items():
            if name in ("properties", "responses", "headers"):
                yield from (f"{place}.{name}.{key}" for key, item in value.items() if not item.get("description"))
            elif name == "parameters":
                yield from (f"{place}.{item['name']}" for item in value if not item.get("description"))
            elif name == "requestBody" and not value.get("description"):
                yield f"{place}.{name}"
            if name not in ("example", "examples"):
                yield from undescribed(value, f"{place}.{name}")


def test_everything_is_described() -> None:
    """Every field of every schema, every parameter, header, response and body has a description."""
    assert list(undescribed(document())) == []
    assert sum(len(schema["properties"]) for schema in document()["components"]["schemas"].values()) > 130


def test_no_docstring_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docstrings of handlers and Structs are for developers, so no change of one changes the document."""
    before = document()
    structs = [
        value for value in vars(schemas).values() if isinstance(value, type) and issubclass(value, msgspec.Struct)
    ]
    for item in (*(route.handler for route in ROUTES), *structs, Queue, ClusterInfo):
        monkeypatch.setattr(item, "__doc__", "For developers only.")
    assert document() == before


@pytest.mark.parametrize("route", ROUTES, ids=IDS)
def test_the_parameters_are_those_that_the_handler_reads(route: Route) -> None:
    """The document has every field of the query's Struct, and the handler's module reads each of them."""
    operation = document()["paths"][route.path.replace("<id>", "{id}")][route.method.lower()]
    fields = msgspec.structs.fields(route.query)
    published = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"]
    assert published == [field.encode_name for field in fields]
    tree = ast.parse(Path(sys.modules[route.handler.__module__].__file__ or "").read_text())
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {field.name for field in fields} <= read


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.handler.__name__ in EXAMPLES], ids=lambda r: str(r.path)
)
def test_the_examples_are_answers(route: Route) -> None:
    """Each example response converts to its type."""
    msgspec.convert(EXAMPLES[route.handler.__name__], route.answer)


@pytest.mark.parametrize(("name", "kind"), [("submit_job", SubmitBody), ("job_statuses", StatusBody)])
def test_the_examples_are_bodies(name: str, kind: Any) -> None:
    """Each example body converts to its type."""
    msgspec.convert(BODIES[name], kind)


def test_no_pattern_is_pythons_own() -> None:
    r"""No pattern has Python's ``\Z``, which other languages do not know."""
    assert "\\\\Z" not in json.dumps(document())
