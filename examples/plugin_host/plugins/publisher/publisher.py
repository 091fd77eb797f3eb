"""Makes another document of a document, and says so."""

from documents import Documents

from mukernel import Buffer, Plugin
from mukernel.servers.events import EventClient, Events
from mukernel.servers.files import Files


class Publisher(Plugin, Documents):
    def __init__(self, files: Files, events: Events) -> None:
        self.files, self.events = files, EventClient(events)

    async def process(self, name: str) -> list[str]:
        text = bytes(await self.files.read(f"/in/{name}"))
        await self.files.write(f"/out/{name}", Buffer(text.upper()))
        await self.events.publish("documents.made", name.encode())
        return [f"made /out/{name}"]
