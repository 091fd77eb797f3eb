"""Arrays and Buffers that are made in shared memory, so that handing them to another process copies nothing.

    frame = shared.empty((1080, 1920, 3), "uint8")  # fill it in
    await screen.show(frame)                        # it goes as a handle, and is not to be written any more

What is made here is this process's own, and can be written, until it is first sent. Then all of its memory is sealed:
it gets no new writer, and the array that was sent (with the one that it is a part of) is read-only. Don't write by
views that you made before: the receivers would see it. What was never written takes memory from then on, too, here and
not where it is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from operator import index
from typing import TYPE_CHECKING, Any, TypeVar

from .contract import Buffer, ContractError
from .contract.arrow import in_shared_memory
from .contract.lending import LENT_FROM
from .transports.segment import account, new_segment

if TYPE_CHECKING:
    import numpy

T = TypeVar("T")


def empty(shape: int | tuple[int, ...], dtype: Any = "float64") -> numpy.ndarray[Any, Any]:
    """A numpy array of zeros in shared memory of its own, in C order. Raises Overloaded where it is beyond the quota or
    the memory of the machine, ContractError for what is no shape or dtype, ValueError for one that can't be."""
    try:
        import numpy
    except ImportError:
        raise ImportError("shared.empty makes numpy arrays: install mukernel[numpy]") from None
    try:
        kind = numpy.dtype(dtype)
    except (TypeError, ValueError, SyntaxError) as error:
        raise ContractError(f"dtype: got {dtype!r:.60}, wanted one of numpy's, such as 'float64': {error}") from None
    if kind.hasobject:
        raise ValueError(f"dtype: got {kind}, wanted numbers, texts, bytes or times: no objects lie in shared memory")
    try:
        sides = tuple(map(index, shape)) if isinstance(shape, Iterable) else (index(shape),)
    except TypeError:
        raise ContractError(f"shape: got {shape!r:.60}, wanted a whole number, or a tuple of those") from None
    if min(sides, default=0) < 0:
        raise ValueError(f"shape: got {shape!r}, wanted no negative side")
    size = math.prod(sides) * kind.itemsize
    if not size:
        return numpy.empty(sides, kind)
    # Not a view of another array: numpy would let all that is made of it know that other one only, and not this.
    return numpy.ndarray(sides, kind, memoryview(new_segment(size).map(writable=True)))


def buffer(size: int) -> Buffer:
    """A Buffer of `size` zeros in shared memory of its own; write by its `view`, and not once it was sent: who received
    it would see that. Raises Overloaded, ValueError, ContractError for what is no number of bytes."""
    try:
        size = index(size)
    except TypeError:
        raise ContractError(f"size: got {size!r:.60}, wanted a whole number of bytes") from None
    if size <= 0:
        raise ValueError(f"size: got {size!r}, wanted one byte or more")
    return Buffer(memoryview(new_segment(size).map(writable=True)))


def room(size: int) -> Buffer:
    """A Buffer of `size` zeros to read into what is to be sent: in shared memory where it would be lent from there, in
    ordinary memory where it would be copied. Raises Overloaded, MemoryError."""
    return buffer(size) if size >= LENT_FROM else Buffer(bytearray(size))


def arrow(value: T) -> T:
    """A pyarrow Table, RecordBatch, ChunkedArray or Array as it is, in shared memory of its own: copied once, here, so
    that sending it, or some columns or rows of it, copies nothing, however often. Raises TypeError for what is none,
    Overloaded."""
    placed: T = in_shared_memory(value)
    return placed


def held() -> int:
    """Bytes of shared memory that this process holds: what it made, and what it received and still looks into."""
    return account.held


__all__ = ["arrow", "buffer", "empty", "held"]
