"""The frame: keeps the picture up to date, and on the screen, while the demo goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from mukernel import Clock, Kernel, MukernelError

from .load import Load
from .picture import Picture
from .screen import Screen
from .story import Story
from .summary import ledger_of
from .watch import Watch

REFRESH = 0.2  # seconds between two pictures
SAMPLE = 0.5  # seconds between two rates of the history


class Frame:
    """Fills the picture with what is so now, and has it drawn, as long as the demo goes on."""

    def __init__(self, kernel: Kernel, screen: Screen, picture: Picture) -> None:
        self.kernel, self.screen, self.picture = kernel, screen, picture
        self.clock, self.watch = kernel.get(Clock), Watch(kernel)
        self.began = self.clock.now()
        self.load: Load | None = None
        self.story: Story | None = None
        self.next_sample = 0.0  # when the next rate is added to the history

    def progressed(self, done: int, total: int) -> None:
        self.picture.progress = done, total
        self.screen.draw(self.picture)

    def next_part(self, doing: str) -> None:
        self.picture.doing = doing

    def begin(self, load: Load, story: Story) -> None:
        """The plug-ins are ready: from now on the load is shown."""
        self.load, self.story, self.picture.progress = load, story, None
        self.picture.events, self.picture.account = story.events, load.account

    async def draw_for_ever(self) -> None:
        while True:
            await self.update()
            self.screen.draw(self.picture)
            await self.clock.sleep(REFRESH)

    async def update(self) -> None:
        picture, now = self.picture, self.clock.now()
        picture.elapsed = now - self.began
        picture.rows = await self.watch.rows()
        if self.load is not None and self.story is not None:
            picture.rates, picture.doing = self.load.rates(), self.story.doing
            picture.results = self.story.results
            if now >= self.next_sample:
                self.next_sample = now + SAMPLE
                picture.history.append(picture.rates.calls)
            with contextlib.suppress(MukernelError):  # it was just killed: the last ledger stays
                picture.ledger = ledger_of(await self.kernel.ledger("search"))


@contextlib.asynccontextmanager
async def shown(kernel: Kernel, screen: Screen, picture: Picture) -> AsyncIterator[Frame]:
    """Draws in the background. Raises at the end what drawing raised."""
    frame = Frame(kernel, screen, picture)
    drawing = asyncio.create_task(frame.draw_for_ever())
    try:
        yield frame
    finally:
        drawing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await drawing
    await frame.update()
    screen.draw(picture)
