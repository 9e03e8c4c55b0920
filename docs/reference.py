"""A writer of the reference pages: the API's from its OpenAPI file, tools and prompts from the MCP server's own lists.

``make reference`` runs it after a change. The pages are committed, so that they can be read in the repository; a test
compares them with what this module makes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp_types import GetPromptResult, Prompt, TextContent

from docs import code_map
from mcp_server.guide import add_prompts
from mcp_server.portal import Portal
from mcp_server.tools import described, tools

ROOT = Path(__file__).parents[1]
OPENAPI = ROOT / "nginx" / "static" / "openapi.json"

_API_HEAD = """# API reference

<!-- Written by docs/reference.py from nginx/static/openapi.json. Run `make reference` instead of editing it. -->

Every endpoint, parameter and field. The page is made from the [OpenAPI 3.1 file](../../nginx/static/openapi.json) that
a portal serves at `/api/v1/openapi.json`, and shows at `/api/v1/docs`, where you can try calls.

[The API in brief](api.md) explains what all endpoints have in common, and [Errors](errors.md) explains the error codes.
"""

_TOOLS_HEAD = """# Tool reference

<!-- Written by docs/reference.py from the MCP server's own list. Run `make reference` instead of editing it. -->

The texts below are the ones that an agent reads. Answers are those of the [REST API](../users/reference.md), as
structured content with a schema. A refusal is a tool's error: what is wrong, the API's
[error code](../users/errors.md), and what to do. Ids may be given as text or number.

A tool whose scope the token lacks is not shown to the agent.
*Read-only* and *destructive* are the hints by which a client decides when to ask you first.

| tool | purpose | scope | hint |
| --- | --- | --- | --- |
"""


def api_reference(document: Mapping[str, Any]) -> str:
    """Return the API reference page for an OpenAPI document."""
    operations = [
        (method.upper(), path.replace("{id}", ":id"), operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    page = [_API_HEAD]
    for tag in document["tags"]:
        page.append(f"## {tag['name'].capitalize()}\n")
        for method, path, operation in operations:
            if operation["tags"] == [tag["name"]]:
                page += _operation(method, path, operation)
    page.append("## Schemas\n")
    for name, schema in document["components"]["schemas"].items():
        page += [f"### {name}\n", *_paragraph(schema), _fields(schema)]
    return _joined(page)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {method} {path}\n"
    if not operation["description"].startswith(operation["summary"].rstrip(".")):
        yield f"**{operation['summary'].rstrip('.')}.**\n"
    yield from _paragraph(operation)
    if operation.get("parameters"):
        yield "| parameter | in | type | description |\n| --- | --- | --- | --- |"
        for parameter in operation["parameters"]:
            name = f"`{parameter['name']}`" + (" (required)" if parameter["required"] else "")
            words = _cell(parameter.get("description", ""))
            yield f"| {name} | {parameter['in']} | {_type(parameter['schema'])} | {words} |"
        yield ""
    if body := operation.get("requestBody"):
        content = body["content"]["application/json"]
        yield f"Request body: {_type(content['schema'])}\n"
        yield from _example(content)
    for status, response in operation["responses"].items():
        if status < "300" and (content := response.get("content", {}).get("application/json")):
            yield f"Response {status}: {_type(content['schema'])}\n"
            yield from _example(content)
    errors = [f"{status} {HTTPStatus(int(status)).phrase}" for status in operation["responses"] if status >= "300"]
    yield f"Other responses: {', '.join(errors)}\n"


def _paragraph(part: Mapping[str, Any]) -> list[str]:
    return [f"{part['description']}\n"] if part.get("description") else []


def _example(content: Mapping[str, Any]) -> Iterator[str]:
    examples = [content["example"]] if "example" in content else []
    examples += [example["value"] for example in content.get("examples", {}).values()]
    for example in examples:
        yield f"```json\n{json.dumps(example, indent=2, ensure_ascii=False)}\n```\n"


def _fields(schema: Mapping[str, Any]) -> str:
    rows = ["| field | type | description |", "| --- | --- | --- |"]
    for name, field in schema.get("properties", {}).items():
        asked_for = schema.get("additionalProperties") is False and name in schema.get("required", ())
        required = " (required)" if asked_for else ""
        rows.append(f"| `{name}`{required} | {_type(field)} | {_cell(field.get('description', ''))} |")
    return "\n".join(rows) + "\n"


def _type(schema: Mapping[str, Any]) -> str:
    """Return a schema's type in words; a named schema becomes a link to its table on the page."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(choice) for choice in choices))
    if "enum" in schema:
        return " or ".join(f"`{word}`" for word in schema["enum"] if word is not None)
    kinds = schema.get("type", "any")
    return " or ".join(_plain_type(kind, schema) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _plain_type(kind: str, schema: Mapping[str, Any]) -> str:
    if kind == "array":
        items = _type(schema["items"]) if schema.get("items") else ""
        return f"array of ({items})" if " or " in items else f"array of {items}" if items else "array"
    if kind == "object":
        if named := schema.get("properties"):
            return "object with " + ", ".join(f"`{name}` ({_type(field)})" for name, field in named.items())
        values = schema.get("additionalProperties")
        return f"object of {_type(values)}" if isinstance(values, dict) and values else "object"
    return kind + (_range(schema) if kind in ("integer", "number") else "")


def _range(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None and high is None:
        return ""
    if high is None or high >= 10**15:
        return f" (at least {low})" if low is not None else ""
    return f" ({low:,} to {high:,})" if low is not None else f" (at most {high:,})"


def _cell(words: str) -> str:
    return words.replace("|", r"\|").replace("\n", " ")


def _joined(parts: Iterable[str]) -> str:
    return "\n".join(parts).rstrip() + "\n"


def tool_reference() -> str:
    """Return the reference page of the MCP server's tools."""
    rows = tools(Portal("/nonexistent", "portal.example.org"))
    made = described(rows)
    page = [_TOOLS_HEAD.rstrip()]
    for row, tool in zip(rows, made, strict=True):
        hints = row.hints
        hint = "read-only" if hints.read_only_hint else "destructive" if hints.destructive_hint else ""
        scope = f"`{row.scope}`" if row.scope else "any"
        page.append(f"| [`{row.name}`](#{row.name}) | {tool.title} | {scope} | {hint} |")
    page.append("")
    for tool in made:
        page += [f"## {tool.name}\n", f"{tool.description}\n"]
        if arguments := tool.parameters["properties"]:
            page.append("| argument | type | description |\n| --- | --- | --- |")
            for name, schema in arguments.items():
                required = " (required)" if name in tool.parameters.get("required", ()) else ""
                kind = "object" if "properties" in schema else _type(schema)
                page.append(f"| `{name}`{required} | {kind} | {_cell(schema.get('description', ''))} |")
            page.append("")
        for name, schema in arguments.items():
            if "properties" in schema:
                page += [f"The fields of `{name}`:\n", _fields(schema)]
    return _joined(page)


_PROMPTS_HEAD = """# Prompts

<!-- Written by docs/reference.py from the MCP server's own list. Run `make reference` instead of editing it. -->

A prompt is a text of the portal that you choose in your client, often as a slash command. It tells the agent which
tools to use and in which order, and leaves the last step to you.
"""


def prompt_reference() -> str:
    """Return the page of the MCP server's prompts, each with the text that an agent gets for example arguments."""
    server = MCPServer("punway")
    add_prompts(server)
    page = [_PROMPTS_HEAD]
    for prompt in asyncio.run(server.list_prompts()):
        page += [f"## {prompt.name}\n", f"{prompt.description}\n"]
        page.append("| argument | description |\n| --- | --- |")
        for argument in prompt.arguments or ():
            required = " (required)" if argument.required else ""
            page.append(f"| `{argument.name}`{required} | {_cell(argument.description or '')} |")
        given = {name: text for name, text in _EXAMPLE_ARGUMENTS.items() if name in _names(prompt)}
        made = asyncio.run(server.get_prompt(prompt.name, given))
        assert isinstance(made, GetPromptResult)
        example = ", ".join(f"`{name}` = `{text}`" for name, text in given.items())
        page += [f"\nThe text for {example}:\n", "```text"]
        page += [message.content.text for message in made.messages if isinstance(message.content, TextContent)]
        page.append("```\n")
    return _joined(page)


_EXAMPLE_ARGUMENTS = {"job_id": "12345", "task": "count the words of every file in data/", "cluster": "owens"}


def _names(prompt: Prompt) -> set[str]:
    return {argument.name for argument in prompt.arguments or ()}


PAGES: dict[str, Callable[[], str]] = {
    "docs/users/reference.md": lambda: api_reference(json.loads(OPENAPI.read_text(encoding="utf-8"))),
    "docs/agents/tools.md": tool_reference,
    "docs/developers/architecture.md": code_map.page,
    "docs/agents/prompts.md": prompt_reference,
}
"""Each generated page, and the function that makes its text."""


if __name__ == "__main__":
    for path, page in PAGES.items():
        (ROOT / path).write_text(page(), encoding="utf-8")
        print(f"wrote {path}")
