"""Fixtures of the tests of the LSF adapter."""

from __future__ import annotations

import pytest

from pun_app.adapters.lsf.adapter import LsfAdapter
from tests.pun_app.adapters.lsf.common import NOW


@pytest.fixture
def adapter() -> LsfAdapter:
    """An adapter for the user of the recordings."""
    adapter = LsfAdapter("c", {"adapter": "lsf"})
    adapter.user = "pbsa"
    return adapter


@pytest.fixture(autouse=True)
def _at_the_time_of_the_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time at which the output was recorded: most of its times have no year."""
    monkeypatch.setattr("time.time", lambda: float(NOW))
