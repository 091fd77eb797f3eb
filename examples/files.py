"""Files: a plug-in keeps its prices in a mount; pandas-like libraries reach the same files as mukernel://."""

# mypy: disable-error-code="empty-body"
import asyncio
import tempfile

import fsspec

from mukernel import Blocking, Buffer, Interface, Kernel, Plugin
from mukernel.servers.files import Files, FileServer, connect_files


class Report(Interface):
    async def write(self, day: str, text: str) -> int: ...
    async def lines(self, day: str) -> int: ...


class FileReport(Plugin, Report):
    """Knows a path, and neither where that lies nor on which machine."""

    def __init__(self, files: Files, blocking: Blocking[Files]) -> None:
        self.files = files
        connect_files(blocking)  # from here on any library in this process may open mukernel://

    async def write(self, day: str, text: str) -> int:
        info = await self.files.write(f"/reports/{day}.txt", Buffer(text.encode()))
        return info.size

    async def lines(self, day: str) -> int:
        return await asyncio.to_thread(count_lines, f"mukernel:///reports/{day}.txt")


def count_lines(url: str) -> int:
    with fsspec.open(url, "rt") as file:
        return len(file.readlines())


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Kernel() as kernel:
            mounts = {"/reports": folder, "/scratch": {"url": "memory://scratch"}}
            await kernel.load(FileServer, name="files", placement="process", config={"mounts": mounts})
            await kernel.load(FileReport, name="report", placement="process")
            report, files = kernel.get(Report), kernel.get(Files)

            print("written", await report.write("monday", "tea 3\nink 8\n"), "bytes")
            print("read through mukernel://", await report.lines("monday"), "lines")
            await files.copy("/reports/monday.txt", "/scratch/copy.txt")
            print("mounts", [info.path for info in await files.list("/")])
            try:
                await files.read("/reports/../etc/passwd")
            except ValueError as error:
                print("refused:", error)
            try:
                await files.read("/reports/tuesday.txt")
            except FileNotFoundError as error:
                print("as itself:", error)


if __name__ == "__main__":
    asyncio.run(main())
