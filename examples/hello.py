"""Hello: one plug-in, called, swapped for its next version, moved into the caller's process and scaled, as it runs."""

# mypy: disable-error-code="empty-body"
import asyncio
import os
from collections.abc import AsyncIterator

from mukernel import Clock, Interface, Kernel, Plugin, idempotent, oneway


class Greeter(Interface, version="1.0"):
    """Greets people."""

    @idempotent
    async def greet(self, name: str) -> str: ...  # request/response
    @oneway
    async def note(self, text: str) -> None: ...  # fire-and-forget
    def count(self, upto: int) -> AsyncIterator[int]: ...  # request/stream
    def echo(self, words: AsyncIterator[str]) -> AsyncIterator[str]: ...  # channel
    @idempotent
    async def process(self) -> int: ...


class English(Plugin, Greeter):
    """An Interface in the constructor is injected; everything else is configuration."""

    def __init__(self, clock: Clock, *, polite: bool = False) -> None:
        self.clock, self.polite = clock, polite
        self.notes: list[str] = []

    async def greet(self, name: str) -> str:
        return f"{'Good day' if self.polite else 'Hello'}, {name} ({len(self.notes)} notes)"

    async def note(self, text: str) -> None:
        self.notes.append(text)

    async def count(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number

    async def echo(self, words: AsyncIterator[str]) -> AsyncIterator[str]:
        async for word in words:
            yield word.upper()

    async def process(self) -> int:
        return os.getpid()

    def save(self) -> list[str]:
        return self.notes

    def restore(self, state: list[str]) -> None:
        self.notes = state


class Effusive(English):
    """The next version; it takes over the notes of the one before."""

    async def greet(self, name: str) -> str:
        return f"How very good to see you, {name}! ({len(self.notes)} notes)"


async def words() -> AsyncIterator[str]:
    for word in ("never", "lost"):
        yield word


async def main() -> None:
    async with Kernel() as kernel:
        await kernel.load(English, name="greeter", placement="process", config={"polite": True})
        greeter = kernel.get(Greeter)  # typed as Greeter for editors and type checkers
        await greeter.note("met Ada")
        print(await greeter.greet("Ada"))
        print([number async for number in greeter.count(5)], [word async for word in greeter.echo(words())])

        report = await kernel.swap("greeter", Effusive)
        print(f"{report.before} → {report.after}: {await greeter.greet('Ada')}")

        await kernel.move("greeter", "inline")
        print("runs here now:", await greeter.process() == os.getpid(), "and still:", await greeter.greet("Ada"))

        await kernel.move("greeter", "process")
        await kernel.scale("greeter", 3)
        print("replicas that answer:", len({await greeter.process() for _ in range(9)}))


if __name__ == "__main__":
    asyncio.run(main())
