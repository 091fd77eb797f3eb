"""Extensions: which compiled parts are missing here, what that costs, and how to get them.

The installation says so too, but pip shows nobody what a successful build has printed.
"""

from __future__ import annotations

import os

from ..kernel import ipc
from ..transports.carriers import SETTING
from ..transports.inline import InFlight

REMEDY = (
    "with gcc and Python's headers installed, `MUKERNEL_EXTENSIONS=require pip install --force-reinstall "
    "--no-cache-dir mukernel` compiles it, or says why it can't (in a checkout: `make .venv`)"
)


def missing_extensions() -> str | None:
    """One sentence for people; None where everything is compiled, or sockets were asked for instead of the ring."""
    slower = []
    if ipc.ring is None and not os.environ.get(SETTING):
        slower.append("processes are reached by sockets instead of shared memory, more slowly")
    if InFlight.__module__ == "mukernel.transports.inline":
        slower.append("calls of inline plug-ins that have `save` or `stop` are counted in Python, more slowly")
    if not slower:
        return None
    return f"mukernel's compiled part is missing: {'; '.join(slower)}; {REMEDY}"
