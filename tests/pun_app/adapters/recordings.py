"""The recorded output of real schedulers, from ``tests/data/*.jsonl`` with one command a line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pun_app.adapters.command import Output
from pun_app.adapters.command_line import CommandLineAdapter

DATA = Path(__file__).parents[2] / "data"


class Recordings(dict[str, dict[str, Any]]):
    """The recordings of one file, by name."""

    def __init__(self, name: str) -> None:
        lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        super().__init__((record["name"], record) for record in map(json.loads, lines))

    def output(self, name: str) -> Output:
        """Return a recording as an adapter gets it: bytes other than UTF-8 are replaced."""
        record = self[name]
        texts = [record["stdout"], record["stderr"]]
        if record.get("bytes") == "latin-1":
            texts = [text.encode("latin-1").decode("utf-8", "replace") for text in texts]
        return Output(record["exit"], *texts)

    def of(self, program: str) -> list[str]:
        """Return the names of a program's recordings, without the commands that never ended."""
        return [
            name for name, record in self.items() if record["argv"][0] == program and isinstance(record["exit"], int)
        ]


def answers(adapter: CommandLineAdapter, *outputs: Output) -> list[list[str]]:
    """Make an adapter's commands return these outputs in turn. Return a list to which each command line is added."""
    ran: list[list[str]] = []
    left = list(outputs)

    def run(argv: Any, *_: Any, **__: Any) -> Output:
        ran.append(list(argv))
        return left.pop(0)

    adapter.run = run  # type: ignore[method-assign]
    return ran


def options_of(argv: list[str]) -> list[str]:
    """Return the options of a command: its words that begin with a dash, without negative numbers."""
    return [word for word in argv[1:] if word.startswith("-") and not word.lstrip("-").isdigit()]


def follows(argv: list[str], usage: str) -> None:
    """Assert that the usage of the real command lists each option, and that its values are where it wants them."""
    for option in options_of(argv):
        assert re.search(rf"[\[|] ?{option}[ \]]", usage), option
        takes_a_value = bool(re.search(rf"[\[|] ?{option} [\w\[{{\"]", usage))
        following = argv[argv.index(option) + 1 : argv.index(option) + 2]
        assert takes_a_value == bool(following and not following[0].startswith("-")), option
