"""Imported for plug-ins: what a module must not do in a process that imports it to load a plug-in from it.

It does there what it does wherever it is imported. Where that loads a plug-in of its own into a process, each process
would start the next, without end.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..contract import ContractError
from .imported import FRAMEWORK

of_plugins = False  # is this process one that is made for plug-ins?
being_imported: list[tuple[str, int]] = []  # modules, for plug-ins, each with the thread that imports it


def this_process_is_of_plugins() -> None:
    """Called first in a process that runs plug-ins, or looks at them."""
    global of_plugins
    of_plugins = True


@contextmanager
def imported_for_plugin(module: str) -> Iterator[None]:
    """While this lasts, `module` is being imported; a script goes by its file."""
    entry = module, threading.get_ident()
    being_imported.append(entry)
    try:
        yield
    finally:
        being_imported.remove(entry)


def check_no_chain(module: str) -> None:
    """Called before a process is started to load a plug-in from `module`. Raises ContractError in a process of plug-ins
    that imports one's module just now: that is what asks for it. Our own modules import none of the application's."""
    if of_plugins and being_imported and module.partition(".")[0] != FRAMEWORK:
        name, thread = being_imported[-1]
        raise ContractError(
            f"{name}: to load a plug-in's class from it, another process imports it, too, and a plug-in is loaded into "
            f"a process where it is imported{_place_of(thread)}: each process would start the next. Start the kernel "
            'in a function that the program calls (an application factory, or below `if __name__ == "__main__":`), or '
            "put the class into a module that starts nothing"
        )


def _place_of(thread: int) -> str:
    """Up to where a thread has come in the module that it imports."""
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return f", at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
