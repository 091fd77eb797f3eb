"""The block driver: its queue, its bounds, and what is there after a kill -9."""

import asyncio
import errno
import itertools
import os
import random
import signal
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import until_event

from mukernel import Buffer, ContractError, Kernel, RestartPolicy, Sandbox
from mukernel.contract.lending import LENT_FROM
from mukernel.drivers.block import Block, BlockDriver
from mukernel.drivers.block.disk import Disk
from mukernel.drivers.block.plan import MOST_BLOCKS, Request, conflict, ready, transfers
from mukernel.transports.segment import account, address_of, segment_at

TIRELESS = RestartPolicy(intensity=1000, period=1.0, backoff=0.001, longest_backoff=0.01)
BLOCK, BLOCKS = 512, 64


@pytest.fixture(params=["inline", "process"])
async def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kernel]:
    config = {"path": str(tmp_path / "disk"), "block_size": BLOCK, "size": BLOCK * BLOCKS}
    async with Kernel() as kernel:
        await kernel.load(BlockDriver, name="disk", placement=request.param, config=config, restart=TIRELESS)
        yield kernel


@pytest.fixture
def disk(kernel: Kernel) -> Block:
    return kernel.get(Block)


def filled(number: int, count: int = 1) -> Buffer:
    return Buffer(bytes([number % 256]) * BLOCK * count)


async def test_blocks_are_written_read_and_discarded(disk: Block, tmp_path: Path) -> None:
    info = await disk.info()
    assert (info.block_size, info.blocks, info.read_only) == (BLOCK, BLOCKS, False)
    assert await disk.read(0, BLOCKS) == bytes(BLOCK * BLOCKS)
    await disk.write(3, filled(7, 2))
    await disk.flush()
    assert (tmp_path / "disk").read_bytes()[3 * BLOCK : 5 * BLOCK] == bytes(filled(7, 2))
    await disk.discard(4)
    assert await disk.read(3, 2) == bytes(filled(7)) + bytes(BLOCK)
    await disk.discard(0, BLOCKS)
    assert await disk.read(0, BLOCKS) == bytes(BLOCK * BLOCKS)


@pytest.mark.parametrize(("block", "count"), [(-1, 1), (0, 0), (BLOCKS, 1), (BLOCKS - 1, 2), (1 << 62, 1), (0, -5)])
async def test_what_lies_outside_is_refused(disk: Block, block: int, count: int) -> None:
    for call in (disk.read, disk.discard):
        with pytest.raises(ValueError, match=r"within the disk's 64"):
            await call(block, count)
    if count > 0:
        with pytest.raises(ValueError, match=r"within the disk's 64"):
            await disk.write(block, filled(1, count))
    for length in (0, 1, BLOCK - 1, BLOCK + 1):
        with pytest.raises(ValueError, match="multiple of the block size, 512"):
            await disk.write(0, Buffer(bytes(length)))


def test_a_large_request_is_read_straight_into_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(str(tmp_path / "disk"), BLOCK, LENT_FROM * 2, False)
    count = LENT_FROM // BLOCK
    disk.write(count, [filled(7, count).view])
    small, large = disk.read(count - 1, [1, count])
    assert (small, large) == (filled(0), filled(7, count))
    assert segment_at(address_of(small.view), len(small)) is None
    assert segment_at(address_of(large.view), len(large)) is not None
    monkeypatch.setattr(account, "limit", account.held)
    (without_room,) = disk.read(count, [count])  # its reply is refused, and no neighbour's
    assert without_room == filled(7, count) and segment_at(address_of(without_room.view), len(large)) is None
    disk.close()


def test_a_transfer_has_any_number_of_requests(tmp_path: Path) -> None:
    disk = Disk(str(tmp_path / "disk"), BLOCK, BLOCK * 2500, False)
    disk.write(0, [filled(number).view for number in range(2500)])
    assert disk.read(0, [1] * 2500) == [filled(number) for number in range(2500)]
    disk.close()


async def test_neighbours_are_merged(disk: Block) -> None:
    await asyncio.gather(*[disk.write(number, filled(number)) for number in random.sample(range(BLOCKS), BLOCKS)])
    found = await asyncio.gather(*[disk.read(number) for number in range(BLOCKS)])
    assert found == [filled(number) for number in range(BLOCKS)]
    counts = await disk.statistics()
    assert counts.requests == 2 * BLOCKS
    assert counts.transfers < 2 * BLOCKS  # how many are merged is a matter of time


async def test_requests_for_one_block_keep_their_order_and_a_flush_is_a_barrier(disk: Block) -> None:
    work: list[Any] = []
    for number in range(50):
        work += [disk.write(number % 3, filled(number, 2)), disk.read(number % 3, 2)]
        if number % 10 == 0:
            work.append(disk.flush())
    results = await asyncio.gather(*work)
    read = [each for each in results if each is not None]
    assert read == [filled(number, 2) for number in range(50)]
    assert (await disk.statistics()).flushes == 5


REQUESTS = st.lists(
    st.builds(
        lambda kind, block, count: Request(kind, block, block + (0 if kind == "flush" else count), None),
        st.sampled_from(["read", "write", "discard", "flush"]), st.integers(0, 20), st.integers(1, 5),
    ),
    max_size=40,
)  # fmt: skip


@given(REQUESTS, st.integers(0, 25))
def test_a_plan_does_everything_once_and_keeps_the_order_that_matters(waiting: list[Any], head: int) -> None:
    left, done = list(waiting), []
    while left:
        batch = ready(left)
        assert batch, "something can always be done"
        for transfer in transfers(batch, head):
            assert len({each.kind for each in transfer}) == 1
            assert all(one.end == other.block for one, other in itertools.pairwise(transfer))
            assert transfer[-1].end - transfer[0].block <= MOST_BLOCKS
            done += transfer
            head = transfer[-1].end
        left = [each for each in left if each not in batch]
    place = {id(each): number for number, each in enumerate(done)}
    assert len(done) == len(place) == len(waiting)
    for number, later in enumerate(waiting):
        for earlier in waiting[:number]:
            if conflict(earlier, later) or "flush" in (earlier.kind, later.kind):
                assert place[id(earlier)] < place[id(later)]


def test_the_elevator_goes_upwards_and_begins_again() -> None:
    requests = [Request("read", block, block + 1, None) for block in (9, 2, 5, 1, 7)]
    assert [each[0].block for each in transfers(requests, 5)] == [5, 7, 9, 1]
    assert [len(each) for each in transfers(requests, 5)] == [1, 1, 1, 2]


@pytest.mark.parametrize("kernel", ["process"], indirect=True)
async def test_killed_under_load_it_comes_back_and_what_was_flushed_is_there(kernel: Kernel, tmp_path: Path) -> None:
    disk, done = kernel.get(Block), asyncio.Event()
    rounds = [0] * 8

    async def client(number: int) -> None:
        while not done.is_set():
            for block in range(number * 8, number * 8 + 8):
                await disk.write(block, filled(rounds[number] + block))
            await disk.flush()
            assert await disk.read(number * 8, 8) == b"".join(
                bytes(filled(rounds[number] + block)) for block in range(number * 8, number * 8 + 8)
            )
            rounds[number] += 1

    load = [asyncio.create_task(client(number)) for number in range(8)]
    for kill in range(10):
        reached = [each + 2 for each in rounds]
        while not all(each >= want for each, want in zip(rounds, reached, strict=True)):
            await asyncio.sleep(0)
            assert not [task for task in load if task.done()], [task.exception() for task in load if task.done()]
        instance = kernel.registry.entry("disk").replicas[0].instance
        assert instance is not None and instance.place.pid is not None
        os.kill(instance.place.pid, signal.SIGKILL)
        await until_event(kernel, "disk", "restart", kill + 1)
    done.set()
    await asyncio.gather(*load)
    expected = b"".join(bytes(filled(rounds[block // 8] - 1 + block)) for block in range(BLOCKS))
    assert (tmp_path / "disk").read_bytes() == expected


async def test_a_swap_under_load_loses_nothing(kernel: Kernel) -> None:
    disk = kernel.get(Block)
    writes = [asyncio.create_task(disk.write(number, filled(number))) for number in range(BLOCKS)]
    await kernel.swap("disk", BlockDriver)
    await asyncio.gather(*writes)
    assert await disk.read(0, BLOCKS) == b"".join(bytes(filled(number)) for number in range(BLOCKS))


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"path": "none"}, "`size` makes one"),
        ({"path": "/there/is/no/folder/disk", "size": 4096}, "No such file"),
        ({"block_size": 1000}, "power of 2"),
        ({"size": 5000}, "multiple of block_size"),
        ({"size": "4 acres"}, "config.size: got '4 acres', wanted a size in bytes such as"),
        ({"size": 0}, "config.size: got 0, wanted a size in bytes such as"),
        ({"size": "9999999T"}, "config.size: got 10995115178248372224, wanted "),
        ({"block_size": "3K"}, "config.block_size: got 3072, wanted a power of 2"),
        ({"size": 8192}, "wanted that, or no size"),
        ({"path": "/dev/null"}, "neither a file nor a block device"),
        ({"path": "odd"}, "wanted a multiple"),
        ({"path": "no\0thing", "size": 4096}, "config.path: .*null (byte|character)"),
    ],
)
async def test_what_is_no_disk_is_refused(
    config: dict[str, Any], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk").write_bytes(bytes(4096))
    (tmp_path / "odd").write_bytes(bytes(4097))
    async with Kernel() as kernel:
        with pytest.raises(ContractError, match=problem):
            await kernel.load(BlockDriver, placement="process", config={"path": "disk", **config})
    assert not (tmp_path / "none").exists()


async def test_sizes_may_be_texts(tmp_path: Path) -> None:
    async with Kernel() as kernel:
        config = {"path": str(tmp_path / "disk"), "block_size": "1K", "size": "4M"}
        await kernel.load(BlockDriver, placement="process", config=config)
        info = await kernel.get(Block).info()
    assert (info.block_size, info.blocks) == (1024, 4096)


async def test_a_disk_that_is_read_only_and_one_that_is_full(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(4096))
    async with Kernel() as kernel:
        await kernel.load(BlockDriver, config={"path": str(tmp_path / "disk"), "block_size": 512, "read_only": True})
        disk = kernel.get(Block)
        for call in (disk.write(0, filled(1)), disk.discard(0)):
            with pytest.raises(PermissionError, match="read-only"):
                await call
    full = Disk(str(tmp_path / "disk"), 512, None, False)
    os.close(full.file)
    full.file = os.open("/dev/full", os.O_RDWR)
    with pytest.raises(OSError) as caught:
        full.write(0, [memoryview(bytes(512))])
    assert caught.value.errno == errno.ENOSPC
    full.close()


@pytest.mark.parametrize(
    ("raised", "number", "text"),
    [
        (MemoryError(), errno.ENOMEM, "no memory for 1 blocks"),
        (RuntimeError("a mistake"), errno.EIO, "RuntimeError: a mistake"),
        (OSError(errno.ENXIO, "no such device"), errno.ENXIO, "no such device"),
    ],
)
async def test_whatever_goes_wrong_is_an_answer_and_the_next_call_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, number: int, text: str
) -> None:
    def broken(disk: Disk, block: int, counts: Sequence[int]) -> list[Buffer]:
        raise raised

    driver = BlockDriver(path=str(tmp_path / "disk"), block_size=BLOCK, size=BLOCK * BLOCKS)
    with monkeypatch.context() as patched:
        patched.setattr(Disk, "read", broken)
        answers = [asyncio.create_task(driver.read(block)) for block in (0, 2)]
        later = asyncio.create_task(driver.read(4))
        await asyncio.wait([*answers, later])
    for answer in (*answers, later):
        error = answer.exception()
        assert isinstance(error, OSError) and error.errno == number and text in str(error)
    await driver.write(0, filled(7))
    assert await driver.read(0) == bytes(filled(7))
    await driver.stop()


async def test_a_bad_block_is_no_matter_of_its_neighbours(disk: Block, kernel: Kernel, tmp_path: Path) -> None:
    await disk.write(0, filled(7, BLOCKS))
    os.truncate(tmp_path / "disk", 6 * BLOCK)  # behind the driver's back: what lies beyond can't be read

    async def read(block: int) -> bytes | int | None:
        try:
            return bytes(await disk.read(block))
        except OSError as error:
            return error.errno

    found = await asyncio.gather(*(read(block) for block in range(4, 8)))
    assert found == [bytes(filled(7)), bytes(filled(7)), errno.EIO, errno.EIO]


async def test_a_sandboxed_driver_makes_its_image(tmp_path: Path) -> None:
    config = {"path": str(tmp_path / "disk"), "block_size": BLOCK, "size": BLOCK * BLOCKS}
    sandbox = Sandbox(write=(str(tmp_path),))
    async with Kernel() as kernel:
        await kernel.load(BlockDriver, placement="sandbox", sandbox=sandbox, config=config)
        await kernel.get(Block).write(0, filled(7))
    assert (tmp_path / "disk").stat().st_size == BLOCK * BLOCKS
    assert [each.name for each in tmp_path.iterdir()] == ["disk"]


async def test_a_stop_that_is_cancelled_answers_who_waits_and_lets_go_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = BlockDriver(path=str(tmp_path / "disk"), block_size=BLOCK, size=BLOCK * BLOCKS)
    begun, go_on, write = asyncio.Event(), threading.Event(), Disk.write
    loop = asyncio.get_running_loop()

    def slowly(disk: Disk, block: int, pieces: Sequence[memoryview]) -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait()
        write(disk, block, pieces)

    monkeypatch.setattr(Disk, "write", slowly)
    writing = [asyncio.create_task(driver.write(block, filled(block))) for block in (1, 3)]
    await begun.wait()
    stopping = asyncio.create_task(driver.stop())
    for _ in range(3):
        await asyncio.sleep(0)
        stopping.cancel()
    go_on.set()
    await asyncio.wait([stopping, *writing])
    assert stopping.cancelled() and all(each.result() is None for each in writing)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(driver.disk.file)
    assert (tmp_path / "disk").read_bytes()[BLOCK : 4 * BLOCK] == bytes(filled(1)) + bytes(BLOCK) + bytes(filled(3))
