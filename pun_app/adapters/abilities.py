"""The table of what each adapter supports, generated from the adapters.

``python -m pun_app.adapters.abilities`` prints the table of docs/admins/schedulers.md.
"""

from __future__ import annotations

from pun_app.adapters.base import OPERATIONS, Adapter
from pun_app.adapters.model import OPTIONS
from pun_app.adapters.registry import ADAPTERS, adapter_class


def missing_operations(adapter: type[Adapter]) -> list[str]:
    """Return the operations that the adapter lacks (501)."""
    return [name for name in OPERATIONS if not adapter.supports(name)]


def missing_options(adapter: type[Adapter]) -> list[str]:
    """Return the options of a submit that the adapter rejects (422)."""
    return [name for name in OPTIONS if name not in adapter.options]


def table() -> str:
    """Return a Markdown table with a row for each operation and option, and a column for each adapter."""
    classes = [adapter_class(name) for name in ADAPTERS]
    lines = [f"| | {' | '.join(f'`{name}`' for name in ADAPTERS)} |", "|---" * (len(classes) + 1) + "|"]
    for operation in OPERATIONS:
        cells = ["yes" if adapter.supports(operation) else "501" for adapter in classes]
        lines.append(f"| {operation} | {' | '.join(cells)} |")
    for option in OPTIONS:
        cells = ["yes" if option in adapter.options else "422" for adapter in classes]
        lines.append(f"| `options.{option}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
