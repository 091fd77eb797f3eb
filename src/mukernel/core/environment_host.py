"""The process of a plug-in that has an environment of its own: it introduces itself, and is a host like any other."""

from __future__ import annotations

import os
import sys

from ..deployment.environment import RUNTIME, see_packages
from . import host, sandboxed
from .handshake import introduce, introduction

ENTRY = "mukernel.core.environment_host:main"
SANDBOX_ENTRY = "mukernel.core.environment_host:main_in_sandbox"
INTRODUCTION = introduction()


def main(rights: list[int]) -> None:
    """Entry point of a process; `rights` as those of `host.main`."""
    if not introduce(rights[0], INTRODUCTION):
        os._exit(1)
    host.main(rights)


def main_in_sandbox(rights: list[int]) -> None:
    """Entry point of a sandboxed process; `rights` as those of `sandboxed.main`."""
    sandboxed.main(rights, enclosed)


def enclosed(rights: list[int]) -> None:
    """What came with the plug-in is seen from here on, and no sooner."""
    see_packages(os.path.dirname(next(each for each in sys.path if os.path.basename(each) == RUNTIME)))
    main(rights)
