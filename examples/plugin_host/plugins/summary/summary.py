"""Names the headings of a document. It was written for Markdown 3.4, and says so in its pyproject.toml."""

# mypy: disable-error-code="empty-body, import-not-found, import-untyped"
from importlib.metadata import version

import markdown

from mukernel import Interface, Plugin
from mukernel.servers.files import Files


class Documents(Interface, version="1.0"):
    """What the host calls, as this plug-in knows it."""

    async def process(self, name: str) -> list[str]: ...


class Summary(Plugin, Documents):
    def __init__(self, files: Files) -> None:
        self.files = files

    async def process(self, name: str) -> list[str]:
        document = markdown.Markdown(extensions=["toc"])
        document.convert(bytes(await self.files.read(f"/in/{name}")).decode())
        headings = [each["name"] for each in document.toc_tokens]
        return [f"{len(headings)} headings: {', '.join(headings)} (by Markdown {version('markdown')})"]
