"""What a third-party plug-in wants, by [tool.document-host] in its pyproject.toml, and what it gets of that."""

import tomllib
from pathlib import Path

import msgspec

# What this host grants to whoever asks for it; all else is kept from every plug-in.
OFFERED = ("Files:read:/in", "Files:write:/out", "Events")


class Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """`wants`: what it would like to call."""

    wants: list[str] = []

    @property
    def granted(self) -> list[str]:
        return [each for each in self.wants if each in OFFERED]

    @property
    def refused(self) -> list[str]:
        return [each for each in self.wants if each not in OFFERED]


class Tools(msgspec.Struct):
    host: Manifest = msgspec.field(default_factory=Manifest, name="document-host")


class Project(msgspec.Struct):
    tool: Tools = msgspec.field(default_factory=Tools)


def read_manifest(project: Path) -> Manifest:
    """Of the project in a folder; one that says nothing wants nothing. Raises OSError, and ValueError for a file that
    is no TOML or a table that is no manifest."""
    path = project / "pyproject.toml"
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), Project).tool.host
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
