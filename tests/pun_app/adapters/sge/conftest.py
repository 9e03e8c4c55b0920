"""Fixtures of the tests of the Grid Engine adapter."""

from __future__ import annotations

import pytest

from pun_app.adapters.sge.adapter import SgeAdapter


@pytest.fixture
def adapter() -> SgeAdapter:
    """An adapter for the user alice."""
    adapter = SgeAdapter("c", {"adapter": "sge"})
    adapter.user = "alice"
    return adapter
