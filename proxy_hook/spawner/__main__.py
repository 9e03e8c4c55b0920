"""The spawner: the root process that starts and reaps PUNs. Started by ``punway spawner``, as root.

``python -I -m proxy_hook.spawner`` with its settings as JSON on standard input. Standard library only, one
thread, no network, no secret: one event loop over the hook's connections, the listeners of users who have
no process just now, and the pipes of those who have one.
"""

from __future__ import annotations

import json
import logging
import sys

from proxy_hook.spawner.answers import Spawner
from proxy_hook.spawner.eligible import Rules
from proxy_hook.spawner.launch import Settings


def settings_from(text: str) -> Settings:
    data = json.loads(text)
    rules = {key: tuple(v) if isinstance(v, list) else v for key, v in data.pop("rules").items()}
    return Settings(rules=Rules(**rules), **data)


def main() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="punway spawner: %(message)s")
    Spawner(settings_from(sys.stdin.read())).run()


if __name__ == "__main__":
    main()
