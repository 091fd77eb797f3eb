"""Tables, record batches and arrays of pyarrow arrive whole, whatever way they go; between processes as handles."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import numpy
import pyarrow as pa
import pytest
from conformance_arrow import First, Holder, Passing, Tables
from conformance_worlds import World, between_processes, everywhere

from mukernel import ContractError, Kernel, Overloaded, shared
from mukernel.contract import arrow, large
from mukernel.contract.lending import Incoming, Outgoing, borrowing, lending
from mukernel.transports.segment import MADE_IN_PLACE, new_segment, segment_at

ROWS = 50_000  # some 400 KB for each column of numbers


async def tables(world: World, kernel: Kernel) -> Tables:
    await kernel.load(Holder, name="holder", placement=world.placement)
    return kernel.get(Tables)


def plain(rows: int = ROWS) -> pa.Table:
    return pa.table({"number": numpy.arange(rows), "ratio": numpy.arange(rows) / 7})


def of_every_kind(rows: int) -> pa.Table:
    """One column for each way in which Arrow lays out memory."""
    numbers = list(range(rows))
    some: list[Any] = [n if n % 3 else None for n in numbers]
    return pa.table(
        {
            "int": pa.array(some, "i4"), "bool": pa.array([n % 2 == 0 for n in numbers]),
            "text": pa.array([f"text {n}" if n % 5 else None for n in numbers]),
            "large": pa.array([f"{n}" for n in numbers], pa.large_string()),
            "bytes": pa.array([b"%d" % n for n in numbers]), "fixed": pa.array([b"%04d" % (n % 1000) for n in numbers],
                                                                               pa.binary(4)),
            "when": pa.array(numbers, pa.timestamp("us", "UTC")), "money": pa.array(numbers, pa.decimal128(20, 0)),
            "lists": pa.array([[n] * (n % 4) for n in numbers]),
            "struct": pa.array([{"a": n, "b": f"{n}"} for n in numbers]),
            "map": pa.array([[(f"{n}", n)] for n in numbers], pa.map_(pa.string(), pa.int64())),
            "words": pa.array([f"word {n % 7}" for n in numbers], pa.string()).dictionary_encode(),
            "null": pa.nulls(rows),
        },
        metadata={"made by": "a test"},
    )  # fmt: skip


def memory_of(value: Any) -> set[int]:
    """The segments that a value looks into, by what the system knows them by; 0 for ordinary memory."""
    chunks = [chunk for column in getattr(value, "columns", [value]) for chunk in getattr(column, "chunks", [column])]
    found = set()
    for each in (each for chunk in chunks for each in chunk.buffers() if each is not None and each.size):
        place = segment_at(each.address, each.size)
        found.add(os.fstat(place[0].fd).st_ino if place is not None else 0)
    return found


@everywhere
@pytest.mark.parametrize("rows", [0, 1, 10, 5000], ids=str)
async def test_values_of_every_kind_arrive_as_they_were(world: World, kernel: Kernel, rows: int) -> None:
    holder = await tables(world, kernel)
    table = of_every_kind(rows)
    for sent in (
        table,
        table.slice(rows // 3, rows // 2),
        table.select(["text", "words"]),
        pa.concat_tables([table] * 3),
    ):
        got = await holder.table(sent)
        assert got.equals(sent, check_metadata=True)
        again = await holder.table(got.slice(1))
        assert again.equals(sent.slice(1)) and again.schema.equals(sent.schema, check_metadata=True)
    for column in table.columns:
        array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        assert (await holder.array(array)).equals(array)
        assert (await holder.array(array.slice(rows // 2))).equals(array.slice(rows // 2))
        chunked = pa.chunked_array([array, array.slice(rows // 2), array.slice(rows)])
        got = await holder.chunked(chunked)
        assert got.equals(chunked) and got.type == chunked.type
    batch = pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], schema=table.schema)
    assert (await holder.batch(batch)).equals(batch, check_metadata=True)
    assert (await holder.batch(batch.slice(rows // 2))).equals(batch.slice(rows // 2))


@everywhere
async def test_wherever_a_value_may_stand(world: World, kernel: Kernel) -> None:
    holder, large, small = await tables(world, kernel), plain(), plain(3)
    got = await holder.many([large, small, large.slice(5), plain(0), pa.table({})])
    assert [got[str(n)].equals(each) for n, each in enumerate((large, small, large.slice(5), plain(0)))] == [True] * 4
    assert got["4"].num_columns == 0
    assert (await holder.anything({"deep": [large]}))["deep"][0].equals(large)
    assert await holder.maybe(None) is None and (await holder.maybe(large)).equals(large)

    async def given() -> AsyncIterator[pa.RecordBatch]:
        for number in range(40):
            yield pa.record_batch({"number": numpy.full(ROWS, number)})

    assert [batch["number"][-1].as_py() async for batch in holder.each(given())] == list(range(40))


@everywhere
async def test_what_is_not_declared_is_refused(world: World, kernel: Kernel) -> None:
    holder: Any = await tables(world, kernel)
    if not (world.isolated or world.strict):
        return  # by reference: nobody looks
    with pytest.raises(ContractError, match=r"parameter 'table': expected Table, got RecordBatch"):
        await holder.table(pa.record_batch({"a": [1]}))
    with pytest.raises(ContractError, match=r"expected Int64Array, got StringArray"):
        await holder.integers(pa.array(["a"]))
    with pytest.raises(ContractError, match="cannot be sent"):
        await holder.anything(pa.scalar(1))


@between_processes
async def test_passing_on_through_three_plugins_copies_nothing(world: World, kernel: Kernel) -> None:
    """Nor do some of the rows, some of the columns, or two of them put together."""
    await kernel.load(Holder, name="holder", placement=world.placement)
    await kernel.load(First, name="first", placement="process")
    on = kernel.get(Passing).on
    placed = shared.arrow(plain())
    memory = memory_of(placed)
    assert len(memory) == 1 and 0 not in memory
    got = await on(placed)
    assert memory_of(got) == memory and got.equals(placed)
    for part in (got.slice(100, ROWS // 2), got.select(["ratio"]), pa.concat_tables([got, got.slice(7)])):
        again = await on(part)
        assert memory_of(again) == memory and again.equals(part)
    other = await on(plain())
    both = pa.table({"one": got["number"], "two": other["ratio"]})
    again = await on(both)
    assert memory_of(again) == memory | memory_of(other) and again.equals(both)


@between_processes
async def test_what_a_plugin_makes_or_adds_arrives_without_a_copy_of_the_rest(world: World, kernel: Kernel) -> None:
    holder = await tables(world, kernel)
    made = await holder.made(ROWS)
    assert memory_of(made) and 0 not in memory_of(made)
    wider = await holder.widened(made)
    assert memory_of(made) < memory_of(wider) and 0 not in memory_of(wider)
    assert wider["more"].equals(made["number"])


@between_processes
async def test_what_is_taken_out_of_a_value_does_not_bring_the_rest(world: World, kernel: Kernel) -> None:
    """The field of a structure is copied, and its segment stays here; columns without memory are no others'."""
    holder = await tables(world, kernel)
    got = await holder.table(pa.table({"pair": pa.array([{"a": n, "b": n} for n in range(ROWS)])}))
    field = got["pair"].chunk(0).field(0)
    again = await holder.array(field)
    assert again.equals(field) and not memory_of(again) & memory_of(got)
    uneven = pa.table({"n": range(ROWS), "none": pa.nulls(ROWS)})
    uneven = pa.concat_tables([uneven, uneven.slice(0, 10)])
    got = await holder.table(await holder.table(uneven))
    assert got.equals(uneven)


@between_processes
async def test_a_few_rows_of_a_large_table_are_all_that_travels(world: World, kernel: Kernel) -> None:
    holder = await tables(world, kernel)
    before = shared.held()
    got = await holder.table(plain().slice(ROWS // 2, 10))
    assert got.num_rows == 10 and shared.held() == before
    assert sum(each.size for each in got["number"].chunk(0).buffers() if each is not None) < 1000
    got = await holder.table(plain(20 * ROWS).slice(ROWS, ROWS))
    assert shared.held() - before < 3 * 8 * ROWS


@between_processes
async def test_memory_is_free_when_the_last_holder_lets_go(world: World, kernel: Kernel) -> None:
    holder = await tables(world, kernel)
    before = shared.held()
    got = await holder.table(plain())
    size = shared.held() - before
    assert size >= got.nbytes
    assert await holder.held() == 0
    part = got.column(0).slice(10, 10)
    del got
    gc.collect()
    assert shared.held() - before == size  # a slice keeps the whole of its segment
    del part
    assert shared.held() == before


@between_processes
async def test_the_quota_is_an_answer(world: World, kernel: Kernel) -> None:
    await kernel.load(Holder, name="holder", placement=world.placement, shared_memory=1 << 20)
    holder = kernel.get(Tables)
    with pytest.raises(Overloaded, match=r"shared_memory\) is 1,048,576"):
        await holder.made(4 * ROWS)
    with pytest.raises(Overloaded, match="no room for"):
        await holder.table(plain(4 * ROWS))
    assert (await holder.table(plain(ROWS // 2))).num_rows == ROWS // 2


@between_processes
async def test_what_waits_in_the_mailbox_of_a_killed_process_arrives(world: World, kernel: Kernel) -> None:
    holder = await tables(world, kernel)
    world.stop(kernel, "holder")
    await holder.keep(plain())
    kept = asyncio.ensure_future(holder.kept())
    await asyncio.sleep(0)
    await world.kill(kernel, "holder")
    assert await kept == ROWS


# -- what a hostile peer may send -----------------------------------------------------------------------------------


def sent(value: Any) -> Outgoing:
    message = lending(msgspec.msgpack.Encoder(enc_hook=large.encode_large).encode)(value)
    assert isinstance(message, Outgoing)
    return message


def read(payload: bytes, segments: Any) -> Any:
    decode = borrowing(msgspec.msgpack.Decoder(ext_hook=large.decode_extension).decode)
    return decode(Incoming(payload, segments))


def test_a_message_with_any_byte_changed_is_read_or_refused() -> None:
    """And raises nothing but ValueError; nothing crashes."""
    table = of_every_kind(2000)
    message = sent(table)
    assert read(message.payload, message.segments).equals(table)
    inline = bytes(lending(msgspec.msgpack.Encoder(enc_hook=large.encode_large).encode)(of_every_kind(3)))
    numbers = numpy.random.default_rng(1)
    for payload, segments in ((message.payload, message.segments), (inline, [])):
        for place in numbers.integers(0, len(payload), 400):
            broken = bytearray(payload)
            broken[place] ^= 1 << int(numbers.integers(0, 8))
            try:
                got = read(bytes(broken), segments)
                if isinstance(got, pa.Table):
                    got.validate(full=True)
            except (ValueError, msgspec.DecodeError):
                pass


def lent(**changes: Any) -> bytes:
    found = arrow.LentArrow(
        "table", plain().schema.serialize().to_pybytes(), [0], [[(0, 0, 0, 0, 1)], [(0, 0, 1, 0, 1)]]
    )
    changed = msgspec.structs.replace(found, **changes)
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(arrow.LENT_ARROW_CODE, msgspec.msgpack.encode(changed)))


@pytest.mark.parametrize(
    "changes",
    [
        {"segments": [1]}, {"segments": [-1]}, {"segments": []}, {"kind": "array"}, {"kind": "odd"}, {"schema": b"x"},
        {"columns": []}, {"columns": [[(0, 0, 0, 0, 1)]]}, {"columns": [[(0, 0, 0, 0, 1)], [(0, 0, 0, 0, 1)]]},
        {"columns": [[(0, 0, 0, ROWS, 1)], [(0, 0, 1, 0, 1)]]}, {"columns": [[(0, 0, 0, -1, 1)], [(0, 0, 1, 0, 1)]]},
        {"columns": [[(0, 1, 0, 0, 1)], [(0, 0, 1, 0, 1)]]}, {"columns": [[(0, 0, 9, 0, 1)], [(0, 0, 1, 0, 1)]]},
        {"columns": [[(0, 0, 0, 0, 2)], [(0, 0, 1, 0, 1)]]}, {"columns": [[(0, 0, 0, 0, 1 << 62)], [(0, 0, 1, 0, 1)]]},
    ],
)  # fmt: skip
def test_handles_that_lead_elsewhere_are_refused(changes: dict[str, Any]) -> None:
    segments = sent(plain()).segments
    assert read(lent(), segments).num_rows == 1
    with pytest.raises((ValueError, msgspec.DecodeError)):
        read(lent(**changes), segments)


def test_memory_that_can_still_be_written_and_places_that_lie_are_refused() -> None:
    """What was checked must stay as it was; what is told by content must lie within it."""
    original = sent(pa.table({"text": ["x" * 100_000, "y"]}))
    content = bytes(original.segments[0].view(0, original.segments[0].size))
    assert read(original.payload, original.segments).num_rows == 2

    in_place = new_segment(len(content))
    in_place.map(writable=True)[:] = content
    in_place.seal(MADE_IN_PLACE)
    with pytest.raises(ValueError, match="can still be written"):
        read(original.payload, [in_place])

    right, lie = numpy.array([0, 100_000, 100_001], "i4").tobytes(), numpy.array([0, 1 << 30, 100_001], "i4").tobytes()
    assert content.count(right) == 1
    lying = arrow.shared_memory().written(len(content), lambda file: file.write(content.replace(right, lie)))
    with pytest.raises(ValueError, match="malformed Arrow value"):
        read(original.payload, [lying])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, plain().schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(plain())
    packed = sink.getvalue().to_pybytes()
    with pytest.raises(ValueError, match="compressed"):
        read(lent(), [arrow.shared_memory().written(len(packed), lambda file: file.write(packed))])


def test_pyarrow_is_imported_by_nobody_who_does_not_name_it() -> None:
    program = (
        "import sys, numpy, mukernel, mukernel.contract.large as large, msgspec; from mukernel import shared; "
        "msgspec.msgpack.encode([numpy.zeros(3), mukernel.Buffer(b'')], enc_hook=large.encode_large); "
        "assert not any(name.startswith('pyarrow') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
