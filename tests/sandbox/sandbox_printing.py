"""A plug-in that prints: too much, or as it dies."""

import os
import sys

from mukernel import Interface, Plugin


class Printing(Interface, version="1.0"):
    """Prints."""

    async def print_much(self, megabytes: int) -> None: ...
    async def die(self, lines: int, by: int) -> None: ...


class Printer(Plugin, Printing):
    async def print_much(self, megabytes: int) -> None:
        for _ in range(megabytes):
            sys.stdout.write("x" * (1 << 20))
        sys.stdout.flush()

    async def die(self, lines: int, by: int) -> None:
        """`by`: the signal, or 0: it ends with status 7."""
        sys.stdout.write("a line\n" * lines)
        sys.stdout.flush()
        if by:
            os.kill(os.getpid(), by)
        os._exit(7)
