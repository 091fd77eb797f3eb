"""What the tests of the demo read and write: a module, a symbol, files, and one that the system refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mukernel.demo.interfaces import Symbol

LONG = 3600.0  # seconds: no test takes as long
SOURCE = b'''
"""A module."""
class OrderedDict(dict):
    """Remembers the order
    of insertion.

    At length.
    """
    def move_to_end(self, key, last=True):
        def inner(): pass
        if last:
            class Local: pass
    async def _wait(self): "Waits."

try:
    def quick(): ...
except ImportError:
    def slow(a: int = 3, *b, c) -> None: ...
'''


def symbol(name: str, **changes: object) -> Symbol:
    known = Symbol(name, name, "function", "a.py", 1, "", "")
    return msgspec.structs.replace(known, **changes)


def write(folder: Path, path: str, content: str = "x = 1\n") -> None:
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(content)


def refuse(monkeypatch: pytest.MonkeyPatch, call: str, refused: Path) -> None:
    """The system refuses `os.call` for one path, as it does to who is not root."""
    real = getattr(os, call)

    def guarded(path: Any, *rest: Any, **named: Any) -> Any:
        if not isinstance(path, int) and os.fspath(path) == str(refused):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(refused))
        return real(path, *rest, **named)

    monkeypatch.setattr(os, call, guarded)
