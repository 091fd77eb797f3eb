"""Streams of Arrow that ask for more memory than they have are refused before pyarrow reads them; sizes are told by
nothing that can crash."""

from __future__ import annotations

import contextlib
import struct
from typing import Any, NoReturn

import msgspec
import pyarrow as pa
import pytest

from mukernel.contract import arrow, large
from mukernel.contract.arrow_size import check_work, size_of
from mukernel.contract.arrow_stream import BYTE_ORDER, check_metadata, check_stream
from mukernel.contract.lending import LENT_FROM, Incoming, borrowing, lending

ROWS = 50_000
NUMBERS = pa.table({"number": pa.array(range(ROWS))})
WORDS = pa.table({"word": pa.array(["one", "two"] * ROWS).dictionary_encode()})


def stream_of(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def grown() -> bytes:
    """A dictionary of which a part comes later: it is put together anew for each batch after that."""
    sink = pa.BufferOutputStream()
    parts = [pa.DictionaryArray.from_arrays([0, n], [f"word {each}" for each in range(n + 1)]) for n in range(3)]
    schema = pa.schema([("word", parts[0].type)])
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)) as writer:
        for part in parts:
            writer.write_batch(pa.RecordBatch.from_arrays([part], schema=schema))
    content: bytes = sink.getvalue().to_pybytes()
    return content


REFUSED = {
    "packed by zstd": (stream_of(NUMBERS, compression="zstd"), "compressed"),
    "packed by lz4": (stream_of(NUMBERS, compression="lz4"), "compressed"),
    "a packed dictionary": (stream_of(WORDS, compression="zstd"), "compressed"),
    "of an older version": (stream_of(NUMBERS, metadata_version=pa.ipc.MetadataVersion.V4), "older version"),
    "a dictionary in parts": (grown(), "comes in parts"),
}


def read(value: msgspec.msgpack.Ext, segments: list[Any]) -> Any:
    decode = borrowing(msgspec.msgpack.Decoder(ext_hook=large.decode_extension).decode)
    return decode(Incoming(msgspec.msgpack.encode(value), segments))


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("lent", [True, False], ids=["lent", "in the message"])
def test_what_would_be_unpacked_is_refused_unread(kind: str, lent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    content, why = REFUSED[kind]
    schema = pa.ipc.open_stream(content).schema.serialize().to_pybytes()

    def unpacked(*arguments: Any) -> NoReturn:
        raise AssertionError("it was read")

    monkeypatch.setattr(pa.ipc, "open_stream", unpacked)
    if lent:
        found = arrow.LentArrow("table", schema, [0], [[(0, 0, 0, 0, 1)]])
        value = msgspec.msgpack.Ext(arrow.LENT_ARROW_CODE, msgspec.msgpack.encode(found))
        segments = [arrow.shared_memory().written(len(content), lambda file: file.write(content))]
    else:
        value, segments = msgspec.msgpack.Ext(arrow.ARROW_CODE, b"\0" + content), []
    with pytest.raises(ValueError, match=why):
        read(value, segments)


def metadata(version: int, kind: int, of_header: tuple[int, ...]) -> memoryview:
    """A message whose header has fields of two bytes."""
    fields = struct.pack(f"<{len(of_header)}h", *of_header)
    places = struct.pack(f"<{len(of_header)}H", *(4 + 2 * n for n in range(len(of_header))))
    header = struct.pack("<HH", 4 + len(places), 4 + len(fields)) + places
    message = struct.pack("<HHHHH", 10, 12, 4, 6, 8)
    root = 4 + len(message)
    after = root + 12  # of the message's table: vtable, version, kind, header
    table = struct.pack("<ihBxI", len(message), version, kind, after + len(header) - (root + 8))
    return memoryview(struct.pack("<I", root) + message + table + header + struct.pack("<i", len(header)) + fields)


def test_what_would_be_turned_round_is_refused() -> None:
    check_metadata(metadata(4, 1, (BYTE_ORDER,)))
    with pytest.raises(ValueError, match="another kind of machine"):
        check_metadata(metadata(4, 1, (1 - BYTE_ORDER,)))
    with pytest.raises(ValueError, match="a message of kind 4"):
        check_metadata(metadata(4, 4, ()))


def test_metadata_that_lead_elsewhere_are_refused() -> None:
    right = bytes(metadata(4, 1, (BYTE_ORDER,)))
    for place in range(0, len(right) - 4, 2):
        for lie in (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\x80"):
            with contextlib.suppress(ValueError, struct.error):
                check_metadata(memoryview(right[:place] + lie + right[place + 4 :]))


@pytest.mark.parametrize("table", [NUMBERS, WORDS, NUMBERS.slice(5, 0), pa.table({}), pa.table({"": pa.nulls(9)})])
def test_what_we_write_is_taken(table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARROW_PRE_1_0_METADATA_VERSION", "1")
    encode = lending(msgspec.msgpack.Encoder(enc_hook=large.encode_large).encode)
    body = encode(table)
    decode = borrowing(msgspec.msgpack.Decoder(ext_hook=large.decode_extension).decode)
    came = body if type(body) is bytes else Incoming(body.payload, body.segments)
    assert decode(came).equals(table)
    check_stream(pa.py_buffer(stream_of(table)), pa)


def unions(rows: int) -> list[pa.Array]:
    kinds = pa.array([n % 2 for n in range(rows)], pa.int8())
    parts = [pa.array(range(rows)), pa.array([f"{n}" for n in range(rows)])]
    return [
        pa.UnionArray.from_sparse(kinds, parts),
        pa.UnionArray.from_dense(kinds, pa.array(range(rows), pa.int32()), parts),
    ]


@pytest.mark.parametrize("rows", [0, 1, ROWS])
def test_unions_go_on_as_they_came(rows: int) -> None:
    """pyarrow's own size of an empty one crashes the process."""
    encode = lending(msgspec.msgpack.Encoder(enc_hook=large.encode_large).encode)
    decode = borrowing(msgspec.msgpack.Decoder(ext_hook=large.decode_extension).decode)
    for union in unions(rows):
        for value in (union, union.slice(rows // 2), union.slice(rows), pa.table({"union": union})):
            for _ in range(3):
                body = encode(value)
                came = decode(body if type(body) is bytes else Incoming(body.payload, body.segments))
                assert came.equals(value)
                value = came


@pytest.mark.parametrize(
    "array",
    [
        pa.array(range(ROWS)), pa.array([n % 2 == 0 for n in range(8 * ROWS)]), pa.array([f"{n}" for n in range(ROWS)]),
        pa.array([f"{n}" for n in range(ROWS)], pa.large_string()), pa.array([[n] * 3 for n in range(ROWS)]),
        pa.array([b"four"] * ROWS, pa.binary(4)),
    ],
    ids=lambda array: str(array.type),
)  # fmt: skip
def test_sizes_are_about_those_of_pyarrow(array: pa.Array) -> None:
    for part in (array, array.slice(len(array) // 2), array.slice(7, 1000)):
        assert part.nbytes / 2 <= size_of([[part]], pa) <= 2 * part.nbytes
    assert size_of([[array.slice(0, 10)]], pa) < LENT_FROM < size_of([[array, array]], pa)


VIEWS = [
    pa.array(["one"], pa.string_view()), pa.array([b"one"], pa.binary_view()), pa.array([[1]], pa.list_view(pa.int8())),
    pa.array([[{"in": "one"}]], pa.list_(pa.struct([("in", pa.string_view())]))),
]  # fmt: skip


@pytest.mark.parametrize("array", VIEWS, ids=lambda array: str(array.type))
def test_views_are_refused_on_both_sides(array: pa.Array) -> None:
    """They may all lie in one place, so to check them would take as long as they say."""
    table = pa.table({"column": array})
    for value in (array, table, table.to_batches()[0]):
        with pytest.raises(TypeError, match="is not taken; cast it to string"):
            msgspec.msgpack.encode(value, enc_hook=large.encode_large)
    with pytest.raises(ValueError, match="is not taken; cast it to string"):
        read(msgspec.msgpack.Ext(arrow.ARROW_CODE, b"\0" + stream_of(table)), [])
    content = stream_of(table)
    for schema, why in ((table.schema, "is not taken"), (pa.schema([("column", pa.string())]), "views")):
        with pytest.raises(ValueError, match=why):
            read(*lent(content, schema, [(0, 0, 0, 0, 1)]))


def lent(content: bytes, schema: pa.Schema, parts: list[arrow.Part]) -> tuple[msgspec.msgpack.Ext, list[Any]]:
    found = arrow.LentArrow("table", schema.serialize().to_pybytes(), [0], [parts])
    segments = [arrow.shared_memory().written(len(content), lambda file: file.write(content))]
    return msgspec.msgpack.Ext(arrow.LENT_ARROW_CODE, msgspec.msgpack.encode(found)), segments


def test_a_text_that_many_parts_name_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr(arrow, "check_work", lambda arrays, came, pyarrow: looked.append((arrays, came)))
    table = pa.table({"text": ["a" * (1 << 20)]})
    content = stream_of(table)
    value = read(*lent(content, table.schema, [(0, 0, 0, 0, 1)] * 5000))
    assert value.num_rows == 5000
    ((arrays, came),) = looked
    assert len(arrays) == 1 and came == len(content)


@pytest.mark.parametrize("nested", [False, True], ids=["columns", "dictionaries within"])
def test_what_lies_in_the_same_memory_is_refused(nested: bool) -> None:
    text = pa.array(["a" * (1 << 20)])
    if nested:
        word = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), text)
        text = pa.StructArray.from_arrays([word] * 2, ["one", "two"])
    check_work([text] * 2, 2 << 20, pa)
    with pytest.raises(ValueError, match="the same memory over and over"):
        check_work([text] * 10, 2 << 20, pa)


def test_many_batches_of_texts_are_taken() -> None:
    texts = pa.array([f"text {n}" for n in range(ROWS)])
    whole = pa.chunked_array([texts.slice(start, 100) for start in range(0, ROWS, 100)])
    for table in (pa.table({"text": whole}), pa.table({"word": whole.dictionary_encode()})):
        encode = lending(msgspec.msgpack.Encoder(enc_hook=large.encode_large).encode)
        body = encode(table)
        assert type(body) is not bytes
        decode = borrowing(msgspec.msgpack.Decoder(ext_hook=large.decode_extension).decode)
        assert decode(Incoming(body.payload, body.segments)).equals(table)
