"""A plug-in that prints too much."""

import sys

from mukernel import Interface, Plugin


class Printing(Interface, version="1.0"):
    """Prints."""

    async def print_much(self, megabytes: int) -> None: ...


class Printer(Plugin, Printing):
    async def print_much(self, megabytes: int) -> None:
        for _ in range(megabytes):
            sys.stdout.write("x" * (1 << 20))
        sys.stdout.flush()
