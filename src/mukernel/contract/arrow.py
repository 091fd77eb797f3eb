"""Arrow: tables, record batches and arrays of pyarrow as values.

Small ones, and all that goes by a wire that can't pass memory on, travel as a stream of Arrow's own IPC format within
the message. Of large ones that stream is written into a segment of shared memory, once; the message says which columns
of which segments make up the value, and which rows of them. So what has come is passed on without a copy, whole, some
columns or rows of it, or put together with others. Receivers look into the segments.

pyarrow is optional, and never imported before a value of it, or its name in an annotation, proves that somebody else
imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import msgspec

from .arrow_size import check_types, check_work, size_of, view_in
from .arrow_stream import check_stream
from .lending import LENT_FROM, Segment, borrowed_segment, lend_segments, lends, shared_memory

ARROW_CODE = 5
LENT_ARROW_CODE = 6
Kind = Literal["table", "batch", "chunked", "array"]
KINDS: dict[str, Kind] = {"Table": "table", "RecordBatch": "batch", "ChunkedArray": "chunked", "Array": "array"}
ONE_CHUNK = ("batch", "array")
Key: TypeAlias = tuple[Any, ...]
Part: TypeAlias = tuple[int, int, int, int, int]  # segment, batch, column, first row, rows


class LentArrow(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What stands for a value. `segments`: their numbers in the message, each an IPC stream; `columns`: for each column
    of `schema` the parts that follow each other in it."""

    kind: Kind
    schema: bytes
    segments: list[int]
    columns: list[list[Part]]


_lent_decoder = msgspec.msgpack.Decoder(LentArrow)


def arrow_kind(of: Any) -> Kind | None:
    """What a type of pyarrow is sent as; None for any other type."""
    arrow = sys.modules.get("pyarrow")
    if arrow is not None and isinstance(of, type):
        for name, kind in KINDS.items():
            base = getattr(arrow, name, None)  # None while it is being imported
            if base is not None and issubclass(of, base):
                return kind
    return None


# -- sending --------------------------------------------------------------------------------------------------------


def encode_arrow(value: Any, kind: Kind) -> msgspec.msgpack.Ext:
    """Raises TypeError for what pyarrow can't write, Overloaded."""
    import pyarrow

    try:
        schema, columns = taken_apart(value, kind, pyarrow)
        check_types(schema, pyarrow)
        if lends() and size_of(columns, pyarrow) >= LENT_FROM:
            lent = lent_arrow(kind, schema, columns, pyarrow)
            if lent is not None:
                return msgspec.msgpack.Ext(LENT_ARROW_CODE, msgspec.msgpack.encode(lent))
        sink = pyarrow.BufferOutputStream()
        write_stream(sink, schema, columns, kind, pyarrow, value)
        head = bytes([list(KINDS.values()).index(kind)])
        return msgspec.msgpack.Ext(ARROW_CODE, head + sink.getvalue().to_pybytes())
    except pyarrow.ArrowException as error:
        raise TypeError(f"a {type(value).__qualname__} cannot be sent: {error}") from None


def taken_apart(value: Any, kind: Kind, pyarrow: Any) -> tuple[Any, list[list[Any]]]:
    """Its schema, and the chunks of each column."""
    if kind == "table":
        return value.schema, [column.chunks for column in value.columns]
    if kind == "batch":
        return value.schema, [[column] for column in value.columns]
    return pyarrow.schema([("", value.type)]), [value.chunks if kind == "chunked" else [value]]


def write_stream(sink: Any, schema: Any, columns: list[list[Any]], kind: Kind, pyarrow: Any, whole: Any = None) -> None:
    """`whole`: the value that the columns are, where rows without a column matter."""
    options = pyarrow.ipc.IpcWriteOptions()  # and not what the environment may ask for: see `check_stream`
    with pyarrow.ipc.new_stream(sink, schema, options=options) as writer:
        if kind == "batch" and whole is not None:
            writer.write_batch(whole)
        elif kind in ONE_CHUNK:
            writer.write_batch(pyarrow.RecordBatch.from_arrays([column[0] for column in columns], schema=schema))
        elif whole is not None and kind == "table":
            writer.write_table(whole)
        else:
            chunked = [pyarrow.chunked_array(c, f.type) for c, f in zip(columns, schema, strict=True)]
            writer.write_table(pyarrow.Table.from_arrays(chunked, schema=schema))


def lent_arrow(kind: Kind, schema: Any, columns: list[list[Any]], pyarrow: Any) -> LentArrow | None:
    """Its columns as parts of segments: of those that they lie in, and for the others of a new one. None where the
    message has no room for so many segments."""
    sources: list[Segment] = []
    known: dict[Key, tuple[int, int, int, Any]] = {}  # arrays by their buffers: segment, batch, column, itself
    parts: list[list[Part] | None] = [found_parts(column, sources, known, pyarrow) for column in columns]
    fresh = [number for number, found in enumerate(parts) if found is None]
    if fresh:
        segment = written(pyarrow.schema([schema.field(n) for n in fresh]), [columns[n] for n in fresh], kind, pyarrow)
        rows = [batch.num_rows for batch in read_stream(segment, pyarrow)]
        for place, number in enumerate(fresh):
            parts[number] = [(len(sources), batch, place, 0, count) for batch, count in enumerate(rows)]
        sources.append(segment)
    return lent_parts(kind, schema, sources, [found or [] for found in parts])


def lent_parts(kind: Kind, schema: Any, sources: list[Segment], columns: list[list[Part]]) -> LentArrow | None:
    """Of the segments that were looked into, those that something is in are lent, and no other."""
    used = sorted({part[0] for parts in columns for part in parts})
    numbers = lend_segments([sources[each] for each in used])
    if numbers is None:
        return None
    place = {source: number for number, source in enumerate(used)}
    columns = [[(place[source], *rest) for source, *rest in parts] for parts in columns]  # type: ignore[misc]
    return LentArrow(kind, schema.serialize().to_pybytes(), numbers, columns)


def found_parts(
    column: list[Any], sources: list[Segment], known: dict[Key, tuple[int, int, int, Any]], pyarrow: Any
) -> list[Part] | None:
    """Where the chunks of a column lie in segments that hold Arrow's streams; None: not all of them do."""
    parts = []
    for chunk in column:
        key = key_of(chunk)
        if key not in known and not learn(chunk, sources, known, pyarrow):
            return None
        if key not in known:
            return None  # it lies there in another way: a field of a structure, the values of a list
        source, batch, place, array = known[key]
        start = chunk.offset - array.offset
        if start < 0 or start + len(chunk) > len(array):
            return None
        parts.append((source, batch, place, start, len(chunk)))
    return parts


def learn(
    chunk: Any, sources: list[Segment], known: dict[Key, tuple[int, int, int, Any]], pyarrow: Any
) -> bool:  # fmt: skip
    """Take up the segment that a chunk lies in, if there is one. False: there is none."""
    first = next((each for each in chunk.buffers() if each is not None and each.size), None)
    segment = shared_memory().find(first.address, first.size) if first is not None else None
    if segment is None or not segment.holds_arrow or any(each is segment for each in sources):
        return False
    sources.append(segment)
    for number, batch in enumerate(read_stream(segment, pyarrow)):
        for place, array in enumerate(batch.columns):
            if any(each is not None and each.size for each in array.buffers()):  # else it can't be told from others
                known[key_of(array)] = (len(sources) - 1, number, place, array)
    return True


def key_of(array: Any) -> Key:
    """Equal for arrays of one type that look into the same memory, be it at other rows."""
    buffers = tuple((each.address, each.size) if each is not None else None for each in array.buffers())
    dictionary = getattr(array, "dictionary", None)
    return array.type, buffers, key_of(dictionary) if dictionary is not None else None


def written(schema: Any, columns: list[list[Any]], kind: Kind, pyarrow: Any) -> Segment:
    """A new segment with a stream of these columns: copied once. Raises Overloaded."""
    counter = pyarrow.MockOutputStream()
    write_stream(counter, schema, columns, kind, pyarrow)

    def write(file: Any) -> None:
        with pyarrow.PythonFile(file, mode="w") as sink:
            write_stream(sink, schema, columns, kind, pyarrow)

    segment = shared_memory().written(counter.size(), write)
    segment.holds_arrow = True
    return segment


def in_shared_memory(value: Any) -> Any:
    """The same value, in a segment of its own. Raises TypeError, Overloaded."""
    kind = arrow_kind(type(value))
    if kind is None:
        raise TypeError(
            f"got a {type(value).__qualname__}, wanted a Table, RecordBatch, ChunkedArray or Array of pyarrow"
        )
    import pyarrow

    schema, columns = taken_apart(value, kind, pyarrow)
    segment = written(schema, columns, kind, pyarrow)
    batches = read_stream(segment, pyarrow)
    return put_together(kind, schema, [[b.column(n) for b in batches] for n in range(len(schema))], pyarrow)


# -- receiving ------------------------------------------------------------------------------------------------------


def decode_arrow(data: memoryview) -> object:
    """A value that lies in its message. Raises ValueError for anything malformed."""
    with malformed() as pyarrow:
        kind = list(KINDS.values())[data[0]]
        content = pyarrow.py_buffer(bytes(data[1:]))  # Arrow wants its memory aligned
        check_stream(content, pyarrow)
        with pyarrow.ipc.open_stream(content) as reader:
            schema, batches = reader.schema, [*reader]
        check_types(schema, pyarrow)
        check_arrays([column for batch in batches for column in batch.columns], len(data), pyarrow)
        if kind == "table":
            return pyarrow.Table.from_batches(batches, schema)
        if kind == "batch":
            (batch,) = batches
            return batch
        return put_together(kind, schema, [[batch.column(0) for batch in batches]], pyarrow)


def decode_lent_arrow(data: memoryview) -> object:
    """A value that lies in segments. Raises ValueError for anything malformed, Overloaded."""
    with malformed() as pyarrow:
        lent = _lent_decoder.decode(data)
        segments = [borrowed_segment(number) for number in lent.segments]
        if not all(each.final for each in segments):  # else what is checked here could be another thing a moment later
            raise ValueError("a segment that can still be written")
        for each in segments:
            check_stream(pyarrow.py_buffer(each.view(0, each.size)), pyarrow)
        sources = [read_stream(each, pyarrow) for each in segments]
        columns = []
        used: dict[tuple[int, int, int], Any] = {}  # many parts may name one array: its content is looked at once
        for parts in lent.columns:
            chunks = []
            for source, batch, place, start, length in parts:
                if min(source, batch, place, start, length) < 0:
                    raise ValueError(f"a part of {(source, batch, place, start, length)}")
                array = used.get((source, batch, place))
                if array is None:
                    array = used[source, batch, place] = sources[source][batch].column(place)
                if start + length > len(array):
                    raise ValueError(f"rows {start} to {start + length} of {len(array)}")
                chunks.append(array.slice(start, length))
            columns.append(chunks)
        schema = pyarrow.ipc.read_schema(pyarrow.py_buffer(lent.schema))
        check_types(schema, pyarrow)
        check_inside([*used.values()], segments, pyarrow)
        if any(view_in(each.type, pyarrow) is not None for each in used.values()):
            raise ValueError("a column of views that the schema does not have")
        check_arrays([*used.values()], sum(each.size for each in segments), pyarrow)
        value = put_together(lent.kind, schema, columns, pyarrow)
        for each in segments:
            each.holds_arrow = True
        return value


@contextmanager
def malformed() -> Iterator[Any]:
    """pyarrow, and its errors as ValueError."""
    try:
        import pyarrow
    except ImportError:
        raise ValueError("an Arrow value arrived, and pyarrow is not installed here: install mukernel[arrow]") from None
    try:
        yield pyarrow
    except (msgspec.DecodeError, pyarrow.ArrowException, IndexError, ValueError, TypeError, OSError) as error:
        raise ValueError(f"a malformed Arrow value: {error}") from None


def read_stream(segment: Segment, pyarrow: Any) -> list[Any]:
    """The record batches of the stream that a segment holds, which look into it."""
    with pyarrow.ipc.open_stream(pyarrow.py_buffer(segment.view(0, segment.size))) as reader:
        return [*reader]


def check_inside(arrays: list[Any], segments: list[Segment], pyarrow: Any) -> None:
    """Raises ValueError for arrays that do not look into the segments, though nothing in the streams says so."""
    views = [pyarrow.py_buffer(each.view(0, each.size)) for each in segments]
    for array in arrays:
        for each in array.buffers():
            if each is not None and each.size:
                ends = each.address + each.size
                if not any(view.address <= each.address and ends <= view.address + view.size for view in views):
                    raise ValueError("a stream that can't be read where it lies")
    dictionaries = [each.dictionary for each in arrays if hasattr(each, "dictionary")]
    if dictionaries:
        check_inside(dictionaries, segments, pyarrow)


def put_together(kind: Kind, schema: Any, columns: list[list[Any]], pyarrow: Any) -> Any:
    """Raises ValueError, or ArrowException, for columns that do not fit the schema."""
    if len(columns) != len(schema) or (kind in ONE_CHUNK and any(len(column) != 1 for column in columns)):
        raise ValueError(f"{len(columns)} columns for a schema of {len(schema)}, or chunks where there are none")
    if kind in ("array", "chunked") and len(columns) != 1:
        raise ValueError(f"{len(columns)} columns where there is one")
    for field, column in zip(schema, columns, strict=True):
        if any(chunk.type != field.type for chunk in column):
            raise ValueError(f"column {field.name!r} is not of type {field.type}")
    if kind == "batch":
        value: Any = pyarrow.RecordBatch.from_arrays([column[0] for column in columns], schema=schema)
    elif kind == "array":
        value = columns[0][0]
    elif kind == "chunked":
        value = pyarrow.chunked_array(columns[0], schema.field(0).type)
    else:
        chunked = [pyarrow.chunked_array(c, f.type) for c, f in zip(columns, schema, strict=True)]
        value = pyarrow.Table.from_arrays(chunked, schema=schema)
    value.validate()
    return value


def check_arrays(arrays: list[Any], came: int, pyarrow: Any) -> None:
    """Raises ArrowException for arrays that lead out of their memory. Where places in it are told by their content, as
    of texts, lists and dictionaries, all of that is looked at; ValueError where that is out of proportion to `came`,
    the bytes of the message. So what they say does not tell how long this takes."""
    told: list[Any] = []
    words: dict[Key, Any] = {}  # dictionaries, which batches share: each is looked at once
    indexed = []
    for array in arrays:
        array.validate()
        if isinstance(array, pyarrow.DictionaryArray) and is_plain(array.dictionary, pyarrow):
            dictionary = array.dictionary
            words[len(dictionary), dictionary.offset, *key_of(dictionary)] = dictionary
            indexed.append(array)
        elif not is_fixed_width(array.type, pyarrow):
            told.append(array)
    told += words.values()
    check_work([*told, *(array.indices for array in indexed)], came, pyarrow)
    for array in told:
        array.validate(full=True)
    for array in indexed:
        pyarrow.DictionaryArray.from_arrays(array.indices, array.dictionary)  # looks whether they lead out of it


def is_plain(array: Any, pyarrow: Any) -> bool:
    """Do its buffers, length and offset say all of it?"""
    return not (array.type.num_fields or isinstance(array, (pyarrow.DictionaryArray, pyarrow.ExtensionArray)))


def is_fixed_width(of: Any, pyarrow: Any) -> bool:
    types = pyarrow.types
    return bool(
        types.is_primitive(of) or types.is_boolean(of) or types.is_decimal(of) or types.is_null(of)
        or types.is_fixed_size_binary(of)
    )  # fmt: skip
