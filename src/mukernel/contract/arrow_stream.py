"""Arrow's IPC streams, before pyarrow reads them: a small one can ask for memory without end.

What is packed is unpacked, a dictionary is put together anew for each batch after which it has grown, and numbers of
another kind of machine are turned round, each time into memory of the reader's. mukernel writes none of these, so what
has them is refused, by the metadata of its messages alone (flatbuffers, as in Message.fbs and Schema.fbs of Arrow).
"""

from __future__ import annotations

import struct
import sys
from typing import Any

SCHEMA, DICTIONARY_BATCH, RECORD_BATCH = 1, 2, 3  # MessageHeader
VERSION_5 = 4  # MetadataVersion; older ones say in other places that they are packed
BYTE_ORDER = 0 if sys.byteorder == "little" else 1  # Endianness


class FlatTable:
    """A table of a flatbuffer. Raises struct.error, ValueError for one that leads out of it."""

    def __init__(self, data: memoryview, at: int) -> None:
        self.data, self.at = data, at
        self.vtable = at - self.number("<i", at)
        self.size = self.number("<H", self.vtable)

    def number(self, form: str, at: int) -> int:
        if at < 0:
            raise ValueError("metadata that lead out of their message")
        number: int = struct.unpack_from(form, self.data, at)[0]
        return number

    def place(self, field: int) -> int | None:
        """Where a field lies; None: it has its default."""
        entry = 4 + 2 * field
        offset = self.number("<H", self.vtable + entry) if entry + 2 <= self.size else 0
        return self.at + offset if offset else None

    def value(self, field: int, form: str) -> int:
        at = self.place(field)
        return self.number(form, at) if at is not None else 0

    def table(self, field: int) -> FlatTable:
        at = self.place(field)
        if at is None:
            raise ValueError(f"a message without its part {field}")
        return FlatTable(self.data, at + self.number("<I", at))


def check_stream(content: Any, pyarrow: Any) -> None:
    """Raises ValueError for a stream that can't be read where it lies; and what pyarrow raises for none at all.
    `content`: a Buffer of pyarrow, which nobody can write any more."""
    reader = pyarrow.ipc.MessageReader.open_stream(content)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        try:
            check_metadata(memoryview(message.metadata))
        except struct.error:
            raise ValueError("metadata that lead out of their message") from None


def check_metadata(data: memoryview) -> None:
    """Those of one message. Raises ValueError, struct.error."""
    message = FlatTable(data, struct.unpack_from("<I", data)[0])
    if message.value(0, "<h") != VERSION_5:
        raise ValueError("a stream of an older version of Arrow's format")
    kind, header = message.value(1, "<B"), message.table(2)
    if kind == SCHEMA and header.value(0, "<h") != BYTE_ORDER:
        raise ValueError("a stream that was written for another kind of machine")
    if kind == DICTIONARY_BATCH and header.value(2, "<B"):
        raise ValueError("a dictionary that comes in parts")
    if kind not in (SCHEMA, DICTIONARY_BATCH, RECORD_BATCH):
        raise ValueError(f"a message of kind {kind} in a stream of record batches")
    batch = header.table(1) if kind == DICTIONARY_BATCH else header
    if kind != SCHEMA and batch.place(3) is not None:
        raise ValueError("a stream that is compressed")


__all__ = ["check_stream"]
