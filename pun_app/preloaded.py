"""The app with all of its adapters imported, for the preloader: PUNs that are forks share them, whichever they use."""

from __future__ import annotations

from pun_app.adapters.registry import ADAPTERS, adapter_class
from pun_app.server import serve

__all__ = ["serve"]

for _name in ADAPTERS:
    adapter_class(_name)
