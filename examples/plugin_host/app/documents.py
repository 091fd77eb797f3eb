"""What the host calls its plug-ins by. They don't import this: each declares it as it knows it, and what is compared is
its name, its version and its methods."""

# mypy: disable-error-code="empty-body"
from mukernel import Interface


class Documents(Interface, version="1.0"):
    """A plug-in that does something with a document of the host's."""

    async def process(self, name: str) -> list[str]: ...
