"""A host of third-party plug-ins: each in a sandbox, with what it depends on in an environment of its own, and with
grants for what it needs. One of them is hostile."""

import argparse
import asyncio
import logging
import os
import tempfile
from pathlib import Path

from documents import Documents
from manifest import read_manifest

from mukernel import Kernel, MukernelError
from mukernel.deployment import Installer
from mukernel.servers.events import EventClient, Events, EventServer
from mukernel.servers.files import FileServer

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
NAMES = ("summary", "publisher", "hostile")
MEMORY = 256 << 20  # bytes of each plug-in


def prepare(folder: Path) -> None:
    """The host's own data: documents for the plug-ins, a place for what they make, and what is not their business."""
    for name in ("in", "out", "secrets"):
        (folder / name).mkdir()
    (folder / "in" / "notes.md").write_text("# Tea\n\nIt is *ready*.\n\n# `Ink`\n\nIt is not.\n")
    (folder / "secrets" / "token").write_text("a secret of the host")
    os.environ["HOST_TOKEN"] = "a secret of the host"


async def load_servers(kernel: Kernel, folder: Path) -> None:
    """Ordinary plug-ins of the host's own, by which the others reach what they are granted."""
    mounts = {f"/{name}": str(folder / name) for name in ("in", "out", "secrets")}
    await kernel.load(FileServer, name="files", placement="process", config={"mounts": mounts})
    streams = {"documents": {"topics": ["documents.>"]}}
    config = {"folder": str(folder / "events"), "streams": streams}
    await kernel.load(EventServer, name="events", placement="process", config=config)


async def load_plugin(kernel: Kernel, name: str, config: dict[str, object]) -> None:
    """Installs the project of a plug-in and all that it depends on, unless that is in the store, and starts it."""
    manifest = read_manifest(PLUGINS / name)
    await kernel.load(
        str(PLUGINS / name), name=name, placement="sandbox", memory=MEMORY, grants=manifest.granted, config=config
    )
    refused = f", refused {', '.join(manifest.refused)}" if manifest.refused else ""
    print(f"{name}: granted {', '.join(manifest.granted)}{refused}")


def told_to_the_hostile(folder: Path, store: Path) -> dict[str, object]:
    """It even gets to know where things lie, and who the host is: what is kept from a plug-in need not be hidden."""
    neighbour = next(store.glob("environments/*/lib/python*/site-packages/summary.py"))
    return {"secret": str(folder / "secrets" / "token"), "neighbour": str(neighbour), "host": os.getpid()}


async def main(folder: Path, store: Path) -> None:
    prepare(folder)
    async with Kernel(installer=Installer(store)) as kernel:
        await load_servers(kernel, folder)
        for name in NAMES:
            await load_plugin(kernel, name, told_to_the_hostile(folder, store) if name == "hostile" else {})
        for name in [*NAMES, "hostile"]:
            try:
                for line in await kernel.get(Documents, plugin=name).process("notes.md"):
                    print(f"{name}: {line}")
            except MukernelError as error:
                print(f"{name}: {type(error).__name__}")
        print("the host goes on:", *await kernel.get(Documents, plugin="summary").process("notes.md"))
        async for event in EventClient(kernel.get(Events)).subscribe("documents.>", start="first"):
            print(f"event: {event.topic} {event.body.decode()}")
            break
    print("written:", *(folder / "out" / "notes.html").read_text().splitlines())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--store", type=Path, metavar="FOLDER", help="keep the environments of the plug-ins there, so that the next "
        "start has nothing to install; without it they go with the example",
    )  # fmt: skip
    store = parser.parse_args().store
    logging.getLogger("mukernel").setLevel(logging.CRITICAL)  # that one of them dies is meant
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(main(Path(scratch), store or Path(scratch, "store")))
