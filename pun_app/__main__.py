"""A PUN as a fresh interpreter: ``python -I -m pun_app FD SETTINGS``, started by the spawner as the user."""

from __future__ import annotations

import sys

from pun_app.server import live

if __name__ == "__main__":
    live(int(sys.argv[1]), sys.argv[2])
