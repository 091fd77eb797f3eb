"""What the tests of the event server share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # the plug-ins' own modules, which other processes import by name


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """An event server that keeps `orders.>`."""
    return {"folder": str(tmp_path / "events"), "streams": {"orders": {"topics": ["orders.>"]}}}
