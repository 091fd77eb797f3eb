"""A plug-in that nobody trusts: in a process it reads what you can read; in a sandbox it finds what it was given."""

# mypy: disable-error-code="empty-body"
import asyncio
import socket
import tempfile
from pathlib import Path

from mukernel import Interface, Kernel, Plugin, Sandbox


class Reports(Interface, version="1.0"):
    """Makes a report of a folder."""

    async def lines(self, path: str) -> int: ...
    async def tell_the_world(self) -> str: ...


class ThirdParty(Plugin, Reports):
    async def lines(self, path: str) -> int:
        return count_lines(path)

    async def tell_the_world(self) -> str:
        with socket.socket() as connection:
            return f"a socket of family {connection.family.name}"


def count_lines(path: str) -> int:
    return len(Path(path).read_text().splitlines())


def write_notes(folder: str) -> None:
    for name in ("granted", "private"):
        Path(folder, name).mkdir()
        Path(folder, name, "notes.txt").write_text("one\ntwo\n")


async def attempt(what: str, call) -> None:  # type: ignore[no-untyped-def]
    try:
        print(f"{what}: {await call}")
    except Exception as error:  # what the plug-in raised, as the system told it
        print(f"{what}: refused, {str(error).partition(':')[0]}")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_notes(folder)
        async with Kernel() as kernel:
            await kernel.load(ThirdParty, name="reports", placement="process")
            reports = kernel.get(Reports)
            await attempt("in a process, your notes", reports.lines(f"{folder}/private/notes.txt"))
            await kernel.unload("reports")

            sandbox = Sandbox(read=(f"{folder}/granted",))
            await kernel.load(ThirdParty, name="reports", placement="sandbox", sandbox=sandbox, memory=256 << 20)
            reports = kernel.get(Reports)
            await attempt("in a sandbox, what it was granted", reports.lines(f"{folder}/granted/notes.txt"))
            await attempt("in a sandbox, your notes", reports.lines(f"{folder}/private/notes.txt"))
            await attempt("in a sandbox, the network", reports.tell_the_world())


if __name__ == "__main__":
    asyncio.run(main())
