"""Stray: a process that the code of a plug-in has forked, and that comes back from that code, as if it were its parent.

Only the parent goes on there: a ring has one writer, and what came for one process is not to be done by two. What a
plug-in forks may do what it likes within the plug-in's own code, and end there, or run another program.
"""

from __future__ import annotations

import os
from typing import NoReturn

STATUS = 70  # EX_SOFTWARE


def end_stray(*anything: object) -> NoReturn:
    """End this process, which is one, and say why. Nothing is flushed: what is to be written is the parent's, too."""
    said = (
        f"mukernel: process {os.getpid()}, which a plug-in forked, came back from the plug-in's code, where only its "
        f"parent, process {os.getppid()}, goes on: it is ended. End such a child by os._exit, or start what it is to "
        "do by multiprocessing or subprocess\n"
    )
    try:
        os.write(2, said.encode())
    finally:
        os._exit(STATUS)
