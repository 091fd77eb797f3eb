"""A host of third-party plug-ins: each in a sandbox, with grants for what it needs; one of them is hostile."""

import asyncio
import logging
import os
import tempfile
from pathlib import Path

from documents import Documents
from manifest import read_manifests

from mukernel import Kernel, MukernelError
from mukernel.servers.events import EventClient, Events, EventServer
from mukernel.servers.files import FileServer

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
MEMORY = 256 << 20  # bytes of each plug-in


def prepare(folder: Path) -> None:
    """The host's own data: documents for the plug-ins, a place for what they make, and what is not their business."""
    for name in ("in", "out", "secrets"):
        (folder / name).mkdir()
    (folder / "in" / "notes.txt").write_text("Tea is ready.\nInk is not.\n")
    (folder / "secrets" / "token").write_text("a secret of the host")
    os.environ["HOST_TOKEN"] = "a secret of the host"


async def load_servers(kernel: Kernel, folder: Path) -> None:
    """Ordinary plug-ins of the host's own, by which the others reach what they are granted."""
    mounts = {f"/{name}": str(folder / name) for name in ("in", "out", "secrets")}
    await kernel.load(FileServer, name="files", placement="process", config={"mounts": mounts})
    streams = {"documents": {"topics": ["documents.>"]}}
    config = {"folder": str(folder / "events"), "streams": streams}
    await kernel.load(EventServer, name="events", placement="process", config=config)


async def load_plugins(kernel: Kernel, folder: Path) -> list[str]:
    for name, manifest in read_manifests(PLUGINS).items():
        # It is even told where the secret lies, and who the host is: what is kept from a plug-in need not be hidden.
        config = {"secret": str(folder / "secrets" / "token"), "host": os.getpid()} if name == "hostile" else {}
        await kernel.load(
            manifest.use, name=name, placement="sandbox", memory=MEMORY, grants=manifest.granted, config=config,
            folder=manifest.folder,
        )  # fmt: skip
        refused = f", refused {', '.join(manifest.refused)}" if manifest.refused else ""
        print(f"{name}: granted {', '.join(manifest.granted)}{refused}")
    return list(read_manifests(PLUGINS))


async def main(folder: Path) -> None:
    prepare(folder)
    async with Kernel() as kernel:
        await load_servers(kernel, folder)
        for name in [*await load_plugins(kernel, folder), "hostile"]:
            try:
                for line in await kernel.get(Documents, plugin=name).process("notes.txt"):
                    print(f"{name}: {line}")
            except MukernelError as error:
                print(f"{name}: {type(error).__name__}")
        print("the host goes on:", await kernel.get(Documents, plugin="summary").process("notes.txt"))
        async for event in EventClient(kernel.get(Events)).subscribe("documents.>", start="first"):
            print(f"event: {event.topic} {event.body.decode()}")
            break
    print("written:", (folder / "out" / "notes.txt").read_text().splitlines())


if __name__ == "__main__":
    logging.getLogger("mukernel").setLevel(logging.CRITICAL)  # that one of them dies is meant
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(main(Path(scratch)))
