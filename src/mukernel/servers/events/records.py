"""The form of a file of records: a header, then frames that each carry a checksum, so that damage is always seen.

A file begins with MAGIC, a salt and a number of the owner's choice. A frame is a mark, the length of its payload, a
CRC-32 and the payload. The salt is random, the mark is its CRC-32, and the checksum begins with it: where a reader
looks for the next frame after some damage, it finds no marks and no frames in payloads, of which a publisher may make
anything.
Integers are little-endian.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

MAGIC = b"MUKLOG2\n"
MAGIC_BEFORE = b"MUKLOG1\n"  # when all files had the same mark
FRAME = struct.Struct("<4sII")  # mark, length of the payload, checksum
_HEADER = struct.Struct("<8sIQI")  # magic, salt, number, checksum of these
HEADER_SIZE = _HEADER.size


class Frame(NamedTuple):
    """One frame that was read. `after_damage`: what stood before it in the file was no frame."""

    position: int
    end: int
    payload: bytes
    after_damage: bool


def new_header(number: int) -> bytes:
    """The header of a new file, with a salt of its own."""
    return header_of(number, int.from_bytes(os.urandom(4), "little"))


def header_of(number: int, salt: int) -> bytes:
    """The header of a file with that salt."""
    head = _HEADER.pack(MAGIC, salt, number, 0)[:-4]
    return head + zlib.crc32(head).to_bytes(4, "little")


def read_header(data: bytes) -> tuple[int, int] | None:
    """(number, salt), or None for what is no header. Raises OSError for a header of another format."""
    if len(data) < HEADER_SIZE:
        return None
    magic, salt, number, checksum = _HEADER.unpack_from(data)
    if magic not in (MAGIC, MAGIC_BEFORE) or zlib.crc32(data[: HEADER_SIZE - 4]) != checksum:
        return None
    if magic == MAGIC_BEFORE:
        raise OSError("a file there has the format of a version before 0.1.0, which is not read; move the folder away")
    return number, salt


def salt_in(data: bytes) -> int:
    """The salt that stands in a header, of HEADER_SIZE bytes, though the rest of it may be damaged."""
    return int(_HEADER.unpack_from(data)[1])


def framed(payload: bytes, salt: int) -> bytes:
    """A payload as a frame."""
    return FRAME.pack(mark_of(salt), len(payload), checksum_of(payload, salt)) + payload


def mark_of(salt: int) -> bytes:
    """What the frames of a file begin with. Not the salt as it is: in a file of zeros that would be everywhere."""
    return zlib.crc32(salt.to_bytes(4, "little")).to_bytes(4, "little")


def checksum_of(payload: bytes, salt: int) -> int:
    """The length is part of it: a run of zeros is no frame."""
    return zlib.crc32(payload, zlib.crc32(len(payload).to_bytes(4, "little"), salt))


def frame_at(data: bytes, position: int, salt: int) -> bytes | None:
    """The payload of the frame that stands there; None if none does that is whole."""
    start = position + FRAME.size
    if start > len(data):
        return None
    mark, length, checksum = FRAME.unpack_from(data, position)
    if mark != mark_of(salt) or start + length > len(data):
        return None
    payload = data[start : start + length]
    return payload if checksum_of(payload, salt) == checksum else None


def frames(data: bytes, salt: int, position: int = HEADER_SIZE) -> Iterator[Frame]:
    """Every whole frame, in order. What follows the last one is a torn write."""
    damage, mark = False, mark_of(salt)
    while position < len(data):
        payload = frame_at(data, position, salt)
        if payload is None:
            damage = True
            position = data.find(mark, position + 1)
            if position < 0:
                return
            continue
        end = position + FRAME.size + len(payload)
        yield Frame(position, end, payload, damage)
        position, damage = end, False
