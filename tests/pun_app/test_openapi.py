"""The OpenAPI document is what the code says, and the file that is served is what the document is."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate

from pun_app.handlers import clusters, context, history, jobs, output, paging, request, site, statuses, whoami
from pun_app.openapi import BODIES, EXAMPLES, document
from pun_app.routes import ROUTES, Route
from pun_app.schemas import StatusBody, SubmitBody

ROOT = Path(__file__).parents[2]
IDS = [f"{route.method} {route.path}" for route in ROUTES]
SHARED = {"page_size": {"limit"}, "entry_before": {"cursor"}, "cluster": {"cluster"}}
"""What helpers of the handlers look at."""


def test_the_served_file_is_up_to_date() -> None:
    """python -m pun_app.openapi > nginx/static/openapi.json"""
    assert json.loads((ROOT / "nginx" / "static" / "openapi.json").read_text()) == document()


def test_it_is_openapi() -> None:
    validate(document())


@pytest.mark.parametrize("route", ROUTES, ids=IDS)
def test_every_route_is_there_with_its_words(route: Route) -> None:
    operation = document()["paths"][route.path.replace("<id>", "{id}")][route.method.lower()]
    assert operation["operationId"] == route.handler.__name__
    assert 5 < len(operation["summary"]) < 100 and f"Scope: {route.scope or 'any'}." in operation["description"]
    assert {"401", "403", "429", "503", str(route.status)} <= operation["responses"].keys()


def looked_at(function: ast.FunctionDef, functions: dict[str, ast.FunctionDef]) -> set[str]:
    """The names of the parameters that a handler asks its request for, by itself and by the functions it calls."""
    names: set[str] = set()
    for node in ast.walk(function):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("given", "_time") and isinstance(node.args[-1], ast.Constant):
            names.add(str(node.args[-1].value))
        elif called in SHARED:
            names |= SHARED[called]
        elif called in functions and called != function.name:
            names |= looked_at(functions[called], functions)
    return names


@pytest.mark.parametrize("route", ROUTES, ids=IDS)
def test_the_parameters_are_those_that_the_handler_looks_at(route: Route) -> None:
    """None is left out of the document, and none is in it that nobody reads."""
    modules = (clusters, context, history, jobs, output, paging, request, site, statuses, whoami)
    module = next(m for m in modules if m.__name__ == route.handler.__module__)
    tree = ast.parse(Path(module.__file__ or "").read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    names = looked_at(functions[route.handler.__name__], functions)
    if route.handler is output.job_output:
        names |= {name for name, _, _ in output._BOUNDS}
    assert names - {""} == {parameter.name for parameter in route.parameters if parameter.place == "query"}


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.handler.__name__ in EXAMPLES], ids=lambda r: str(r.path)
)
def test_the_examples_are_answers(route: Route) -> None:
    """The contract's, with what this portal says besides."""
    msgspec.convert(EXAMPLES[route.handler.__name__], route.answer)


@pytest.mark.parametrize(("name", "kind"), [("submit_job", SubmitBody), ("job_statuses", StatusBody)])
def test_the_examples_are_bodies(name: str, kind: Any) -> None:
    msgspec.convert(BODIES[name], kind)


def test_no_pattern_is_pythons_own() -> None:
    assert "\\\\Z" not in json.dumps(document())
