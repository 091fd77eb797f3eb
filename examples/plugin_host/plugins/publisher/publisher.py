"""Makes a page of a document, and says so. Its table of contents has `html`, which came with Markdown 3.6."""

# mypy: disable-error-code="empty-body, import-not-found, import-untyped"
from importlib.metadata import version
from pathlib import PurePosixPath

import markdown

from mukernel import Buffer, Interface, Plugin
from mukernel.servers.events import EventClient, Events
from mukernel.servers.files import Files


class Documents(Interface, version="1.0"):
    """What the host calls, as this plug-in knows it."""

    async def process(self, name: str) -> list[str]: ...


class Publisher(Plugin, Documents):
    def __init__(self, files: Files, events: Events) -> None:
        self.files, self.events = files, EventClient(events)

    async def process(self, name: str) -> list[str]:
        document = markdown.Markdown(extensions=["toc"])
        body = document.convert(bytes(await self.files.read(f"/in/{name}")).decode())
        contents = "".join(f"<li>{each['html']}</li>" for each in document.toc_tokens)
        page = PurePosixPath(name).with_suffix(".html").name
        await self.files.write(f"/out/{page}", Buffer(f"<ol>{contents}</ol>\n{body}\n".encode()))
        await self.events.publish("documents.made", page.encode())
        return [f"made /out/{page} (by Markdown {version('markdown')})"]
