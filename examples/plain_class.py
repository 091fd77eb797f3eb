"""A class that never heard of mukernel, in a process of its own: its interface is read from its typed methods."""

import asyncio
import os
from dataclasses import dataclass

from mukernel import Kernel, interface_of


@dataclass
class Page:
    title: str
    words: int


class Reader:
    """It could as well come from a library."""

    def __init__(self, longest: int = 10) -> None:
        self.longest = longest

    def read(self, text: str) -> Page:
        return Page(text[: self.longest], len(text.split()))

    async def process(self) -> int:
        return os.getpid()


async def main() -> None:
    async with Kernel() as kernel:
        await kernel.load(Reader, name="reader", placement="process", config={"longest": 5})
        reader = kernel.get(interface_of(Reader))  # to editors and type checkers a Reader
        print(reader.read("a plain class"))
        print("elsewhere:", await reader.process() != os.getpid())


if __name__ == "__main__":
    asyncio.run(main())
