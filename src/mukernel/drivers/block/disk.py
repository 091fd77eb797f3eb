"""Disk: a disk image or a device, opened; what it does blocks."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress

from ... import shared
from ...contract import Buffer, ContractError, Overloaded
from ...core.checks import checked_bytes

KEEP_SIZE, PUNCH_HOLE = 0x01, 0x02  # of fallocate
ZEROS = bytes(1 << 20)
MOST_PIECES = 1024  # that the system takes at once (UIO_MAXIOV)

_library = ctypes.CDLL(None, use_errno=True)
_library.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class Disk:
    """`size`: bytes of an image that is made if there is none. Raises ContractError for what can't be a disk."""

    def __init__(self, path: str, block_size: int | str, size: int | str | None, read_only: bool) -> None:
        block_size = checked_bytes("config.block_size", block_size)
        size = None if size is None else checked_bytes("config.size", size)
        if not 512 <= block_size <= 1 << 20 or block_size & (block_size - 1):
            raise ContractError(f"config.block_size: got {block_size}, wanted a power of 2 from 512 to 1,048,576")
        if size is not None and size % block_size:
            raise ContractError(f"config.size: got {size}, wanted a multiple of block_size, {block_size}")
        self.file = opened(path, size, read_only)
        try:
            found = os.fstat(self.file)
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISBLK(found.st_mode)):
                raise ContractError(f"config.path: {path!r} is neither a file nor a block device")
            length = os.lseek(self.file, 0, os.SEEK_END)
            if not length or length % block_size:
                raise ContractError(
                    f"config.path: {path!r} has {length} bytes, wanted a multiple of block_size, {block_size}, above 0"
                )
            if size is not None and size != length:
                raise ContractError(
                    f"config.size: got {size}, and {path!r} has {length} bytes: wanted that, or no size"
                )
        except BaseException:
            os.close(self.file)
            raise
        self.block_size, self.blocks, self.read_only = block_size, length // block_size, read_only

    def close(self) -> None:
        os.close(self.file)

    def read(self, block: int, counts: Sequence[int]) -> list[Buffer]:
        """Neighbouring requests of so many blocks each, in one transfer, straight into what is sent. Raises OSError,
        MemoryError."""
        pieces = [room(count * self.block_size) for count in counts]
        left, at = [each.view for each in pieces], block * self.block_size
        while left:
            done = os.preadv(self.file, left[:MOST_PIECES], at)
            if not done:
                raise OSError(errno.EIO, "the image has been cut short")
            left, at = rest(left, done), at + done
        return pieces

    def write(self, block: int, pieces: Sequence[memoryview]) -> None:
        """Neighbouring requests in one transfer. Raises OSError."""
        left, at = [memoryview(each) for each in pieces], block * self.block_size
        while left:
            done = os.pwritev(self.file, left[:MOST_PIECES], at)
            left, at = rest(left, done), at + done

    def discard(self, block: int, count: int) -> None:
        """Raises OSError."""
        start, length = block * self.block_size, count * self.block_size
        if _library.fallocate(self.file, PUNCH_HOLE | KEEP_SIZE, start, length) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(code, os.strerror(code))
        for at in range(start, start + length, len(ZEROS)):
            self.write_zeros(at, min(len(ZEROS), start + length - at))

    def write_zeros(self, at: int, length: int) -> None:
        while length:
            done = os.pwrite(self.file, ZEROS[:length], at)
            at, length = at + done, length - done

    def flush(self) -> None:
        """Raises OSError: then nothing is known of what was written since the last one."""
        os.fdatasync(self.file)


def opened(path: str, size: int | None, read_only: bool) -> int:
    """A new image is made whole beside its place, so that a crash leaves none of another size."""
    flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe would wait
    try:
        if size is not None and not read_only and not os.path.exists(path):
            folder, name = os.path.split(path)
            beside, made = tempfile.mkstemp(".new", f"{name}.", folder or ".")
            try:
                os.truncate(beside, size)
                with suppress(FileExistsError):  # somebody made it meanwhile
                    os.link(made, path)
            finally:
                os.close(beside)
                os.unlink(made)
        return os.open(path, flags)
    except OSError as error:
        hint = "; `size` makes one" if error.errno == errno.ENOENT and size is None else ""
        raise ContractError(f"config.path: {path!r} can't be opened: {error.strerror}{hint}") from None
    except ValueError as error:
        raise ContractError(f"config.path: got {path!r}, wanted the path of a file or a device: {error}") from None


def room(size: int) -> Buffer:
    """Where a request is read to. Where the quota has no room for one, the others of its transfer are not to suffer:
    its reply is what finds room, or is refused."""
    try:
        return shared.room(size)
    except Overloaded:
        return Buffer(bytearray(size))


def rest(pieces: list[memoryview], done: int) -> list[memoryview]:
    """What is left of the pieces after so many bytes."""
    while pieces and done >= len(pieces[0]):
        done -= len(pieces.pop(0))
    if pieces and done:
        pieces[0] = pieces[0][done:]
    return pieces
