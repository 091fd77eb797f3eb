"""What the host and its plug-ins meet at."""

# mypy: disable-error-code="empty-body"
from mukernel import Interface


class Documents(Interface, version="1.0"):
    """A plug-in that does something with a document of the host's."""

    async def process(self, name: str) -> list[str]: ...
