"""Imported for plug-ins: what a module must not do in a process that imports it to load a plug-in from it.

It would do there what it does wherever it is imported. Where that starts a kernel, with a plug-in of the module in a
process, each process would start the next, without end.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..contract import ContractError

of_plugins = False  # is this process one that is made for plug-ins?
being_imported: list[str] = []  # for a plug-in, by the process, whichever of its threads


def this_process_is_of_plugins() -> None:
    """Called first in a process that runs plug-ins, or looks at them."""
    global of_plugins
    of_plugins = True


@contextmanager
def imported_for_plugin(module: str) -> Iterator[None]:
    """While this lasts, `module` is being imported; a script goes by its file."""
    being_imported.append(module)
    try:
        yield
    finally:
        being_imported.remove(module)


def check_may_start_kernel() -> None:
    """Raises ContractError in a process of plug-ins that imports one's module, which is what starts the kernel."""
    if of_plugins and being_imported:
        raise ContractError(
            f"{being_imported[-1]}: to load a plug-in's class from it, another process imports it, too, and a kernel "
            f"is started where it is imported{_where()}: each process would start the next. Start the kernel in a "
            'function that the program calls (an application factory, or below `if __name__ == "__main__":`), or put '
            "the class into a module that starts nothing"
        )


def _where() -> str:
    """The place in a module at which it is being imported."""
    frame = sys._getframe()
    while frame.f_code.co_name != "<module>":
        if frame.f_back is None:  # a thread, which the module has begun
            return ""
        frame = frame.f_back
    return f", at {frame.f_code.co_filename}:{frame.f_lineno}"
