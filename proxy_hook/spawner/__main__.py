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
from proxy_hook.spawner.launch import Settings

if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="punway spawner: %(message)s")
    Spawner(Settings.from_json(json.load(sys.stdin))).run()
