"""Counts what is in a document."""

from documents import Documents

from mukernel import Plugin
from mukernel.servers.files import Files


class Summary(Plugin, Documents):
    def __init__(self, files: Files) -> None:
        self.files = files

    async def process(self, name: str) -> list[str]:
        text = bytes(await self.files.read(f"/in/{name}")).decode()
        return [f"{len(text.splitlines())} lines, {len(text.split())} words"]
