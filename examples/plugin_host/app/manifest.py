"""What a third-party plug-in says of itself, in its `plugin.toml`, and what this host gives it of that."""

import tomllib
from pathlib import Path

import msgspec

# What this host grants to whoever asks for it; all else is kept from every plug-in.
OFFERED = ("Files:read:/in", "Files:write:/out", "Events")


class Manifest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`use`: the class, relative to the plug-in's folder. `wants`: what it would like to call."""

    use: str
    wants: list[str] = []
    folder: str = ""

    @property
    def granted(self) -> list[str]:
        return [each for each in self.wants if each in OFFERED]

    @property
    def refused(self) -> list[str]:
        return [each for each in self.wants if each not in OFFERED]


def read_manifests(folder: Path) -> dict[str, Manifest]:
    """Those of all plug-ins in a folder, by name. Raises msgspec.ValidationError for what is no manifest."""
    found = {}
    for path in sorted(folder.glob("*/plugin.toml")):
        manifest = msgspec.convert(tomllib.loads(path.read_text()), Manifest)
        found[path.parent.name] = msgspec.structs.replace(manifest, folder=str(path.parent))
    return found
