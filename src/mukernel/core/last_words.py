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
import os
import stat
import sys
from collections.abc import Iterable

from .plain import plain_object


def say_last_words() -> None:
    """For a process that ends. What the fork server had when it forked is frozen, and not looked at. Files come first,
    as a handler may take all the time that there is."""
    write_out(gc.get_objects())
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    write_out(gc.get_objects())
    gc.collect()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()


def write_out_files_of(plugin: object) -> None:
    """For a plug-in that leaves: what lies in its own attributes, or in those of the plain object that it serves."""
    for holder in (plugin, plain_object(plugin)):
        write_out([*getattr(holder, "__dict__", {}).values()])


def write_out(objects: Iterable[object]) -> None:
    """Those of them that are regular files: of what goes to a pipe or a socket nobody may be reading."""
    files = dict[type, bool]()
    for each in objects:
        kind = type(each)
        if files.get(kind) is None:
            files[kind] = issubclass(kind, io.IOBase)
        if files[kind]:
            with contextlib.suppress(BaseException):
                if stat.S_ISREG(os.fstat(each.fileno()).st_mode):  # type: ignore[attr-defined]
                    each.flush()  # type: ignore[attr-defined]
