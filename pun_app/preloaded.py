"""The app with all of its adapters imported, for the preloader: the PUNs that it forks share their memory."""

from __future__ import annotations

from pun_app.adapters.registry import ADAPTERS, adapter_class
from pun_app.server import serve

__all__ = ["serve"]

for _name in ADAPTERS:
    adapter_class(_name)
