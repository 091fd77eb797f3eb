"""What processes print: kept, and never more of it than is allowed, whatever prints it and however often it starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from waiting import until

from mukernel import ContractError, Interface, Kernel, Plugin
from mukernel.core.process_logs import ProcessLogs, put_aside

SIZE = 1 << 20


class Printing(Interface, version="1.0"):
    """Prints."""

    async def print_lines(self, first: int, count: int) -> None: ...


class Printer(Plugin, Printing):
    async def print_lines(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            print(f"line {number:010} " + "x" * 1008)


def sizes(folder: Path) -> dict[str, int]:
    return {each.name: each.stat().st_size for each in folder.iterdir()}


def lines_in(folder: Path) -> list[int]:
    text = b"".join((folder / name).read_bytes() for name in ("printer.log.1", "printer.log"))
    return [int(line.split()[1]) for line in text.splitlines() if line.startswith(b"line ") and len(line) == 1024]


async def test_what_one_life_prints_is_put_aside_at_the_heartbeat(tmp_path: Path) -> None:
    async with Kernel(log_folder=str(tmp_path), heartbeat=0.05) as kernel:
        await kernel.load(Printer, name="printer", placement="process", log_size=SIZE)
        printer, logs = kernel.get(Printing), kernel.processes.logs
        for round in range(20):
            await printer.print_lines(round * 300, 300)
            await until(lambda: not logs.busy and not logs.is_long(str(tmp_path / "printer.log")))
        await printer.print_lines(6000, 10)
        assert sum(sizes(tmp_path).values()) <= SIZE
        found = lines_in(tmp_path)
    assert found[-1] == 6009
    assert found == sorted(set(found)), "each line is there once, in order"
    assert len(found) > 100


@pytest.mark.parametrize("placement", ["process", "sandbox"])
async def test_the_bound_holds_over_all_lives(placement: str, tmp_path: Path) -> None:
    async with Kernel(log_folder=str(tmp_path), heartbeat=0) as kernel:  # nothing but a start looks
        await kernel.load(Printer, name="printer", placement=placement, log_size=SIZE)
        for _ in range(8):
            await kernel.get(Printing).print_lines(0, 400)
            await kernel.restart("printer")
            assert sum(sizes(tmp_path).values()) <= SIZE + (64 << 10)
    assert set(sizes(tmp_path)) == {"printer.log", "printer.log.1"}


async def test_who_prints_in_a_sandbox_is_heard_again_when_its_log_was_put_aside(tmp_path: Path) -> None:
    """The bound is not one of a life, at whose end a plug-in that runs for months would be silent."""
    async with Kernel(log_folder=str(tmp_path), heartbeat=0) as kernel:
        await kernel.load(Printer, name="printer", placement="sandbox", log_size=SIZE)
        printer, log = kernel.get(Printing), tmp_path / "printer.log"
        await printer.print_lines(0, 1000)
        await until(lambda: b"the rest is left out" in log.read_bytes()[-200:])
        assert log.stat().st_size < SIZE // 2 + 200
        kernel.processes.logs.look()
        await until(lambda: log.stat().st_size < SIZE // 4)
        await until(lambda: not kernel.processes.logs.busy)
        await printer.print_lines(5000, 1)
        await until(lambda: b"line 0000005000" in log.read_bytes())


async def test_a_log_that_cannot_be_kept_is_emptied_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logs = ProcessLogs(str(tmp_path))
    (tmp_path / "printer.log.1").mkdir()  # nothing can be written there
    (tmp_path / "printer.log").write_bytes(b"x" * SIZE)
    descriptor = await logs.open("printer", SIZE)
    assert descriptor is not None
    os.close(descriptor)
    assert (tmp_path / "printer.log").stat().st_size == 0
    assert "can't be kept" in caplog.text


def test_what_is_put_aside_is_the_end_and_for_its_owner_alone(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"old" + b"new")
    with open(log, "ab", buffering=0) as held:
        put_aside(str(log), 3)
        held.write(b"next")
    assert (tmp_path / "a.log.1").read_bytes() == b"new"
    assert (tmp_path / "a.log.1").stat().st_mode & 0o777 == 0o600
    assert log.read_bytes() == b"next", "who holds it open goes on at its beginning"


@pytest.mark.parametrize("size", [0, -1, 1, True, "64M", None])
async def test_a_size_that_is_none_is_refused(size: object) -> None:
    async with Kernel() as kernel:
        with pytest.raises(ContractError, match="log_size: got"):
            await kernel.load(Printer, placement="process", log_size=size)  # type: ignore[arg-type]
