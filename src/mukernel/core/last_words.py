"""Last words: what Python does for a program that ends, or for an object that is let go of, where we don't.

A process of plug-ins leaves out the tear-down of all that was warm, which takes 10 ms and writes to pages that are
shared. What a plug-in would miss of it is done here: what it has registered (`atexit`, `weakref.finalize`, thus
temporary folders), what it has written, and the `__del__` of what it was. A plug-in that leaves a process which goes
on is part of cycles: the collector closes its files some time, and may close what lies below a text before that is
written.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import sys
from collections.abc import Iterable

from .plain import plain_object


def say_last_words() -> None:
    """For a process that ends. What the fork server had when it forked is frozen, and not looked at."""
    with contextlib.suppress(Exception, SystemExit):
        atexit._run_exitfuncs()
    write_out((*gc.get_objects(), sys.stdout, sys.stderr))  # stdout is None where the kernel's own was closed
    gc.collect()


def write_out_files_of(plugin: object) -> None:
    """For a plug-in that leaves: what lies in its own attributes, or in those of the plain object that it serves."""
    for holder in (plugin, plain_object(plugin)):
        write_out(getattr(holder, "__dict__", {}).values())


def write_out(objects: Iterable[object]) -> None:
    for each in objects:
        if issubclass(type(each), io.IOBase):
            with contextlib.suppress(Exception):
                each.flush()  # type: ignore[attr-defined]
