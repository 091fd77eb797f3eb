"""Buffer, numpy arrays and values of pyarrow: values whose bytes are worth more than their structure.

They enter and leave messages only here, through the hooks of the codec, so that another way for them to travel changes
this file alone. On the wire each is a msgpack extension: with its bytes, or, where it is large and the wire goes to
another process of this machine, with a handle to shared memory (see `lending`). What is special to pyarrow is in
`arrow`. numpy is optional and never imported before an array, or the name of one in an annotation, proves that somebody
else imported it.
"""

from __future__ import annotations

import re
import struct
import sys
from typing import TYPE_CHECKING, Any, get_args, get_origin

import msgspec

from .arrow import ARROW_CODE, LENT_ARROW_CODE, arrow_kind, decode_arrow, decode_lent_arrow, encode_arrow
from .lending import LENT_FROM, borrowed, lend

if TYPE_CHECKING:
    import numpy

BUFFER_CODE = 1
ARRAY_CODE = 2
LENT_BUFFER_CODE = 3
LENT_ARRAY_CODE = 4
_HANDLE = struct.Struct("<IQQ")  # the segment's number in the message, where in it, how many bytes
# The forms of dtype.str that are sent. Nothing else is shown to numpy, whose parser takes whole expressions, loads what
# they name, and divides by zero for "M8[s/0]".
_DTYPE = re.compile(
    r"[|<>]([biu]1|[iu][248]|f(2|4|8|12|16)|c(8|16|24|32))"  # numbers
    r"|\|[SV][1-9][0-9]{0,8}|[<>]U[1-9][0-9]{0,8}"  # bytes, texts
    r"|[<>][mM]8(\[([1-9][0-9]{0,8})?(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"  # times
)


try:
    from .exported import Exported
except ImportError:  # Python 3.12 or later, which asks `__buffer__`, or nothing could be compiled

    class Exported:  # type: ignore[no-redef]
        __slots__ = ()


class Buffer(Exported):
    """Bytes that are handed over, not looked into: wraps any contiguous bytes-like object without a copy.

    Equal to another Buffer, or to bytes, of the same content. Received ones are read-only. Whatever takes bytes-like
    objects takes it: memoryview, numpy.frombuffer, file.write. (Where nothing was compiled Python 3.11 does not: give
    it `view` there.)
    """

    __slots__ = ("view",)
    __hash__ = None  # type: ignore[assignment]  # the content may change under a writable view

    def __init__(self, data: bytes | bytearray | memoryview | Buffer) -> None:
        """Raises TypeError if `data` is not bytes-like or not contiguous."""
        source = data.view if isinstance(data, Buffer) else memoryview(data)
        self.view: memoryview = source.cast("B")

    def __len__(self) -> int:
        return self.view.nbytes

    def __bytes__(self) -> bytes:
        return self.view.tobytes()

    def __buffer__(self, flags: int) -> memoryview:
        return self.view

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Buffer):
            return self.view == other.view
        if isinstance(other, (bytes, bytearray, memoryview)):
            return self.view == other
        return NotImplemented

    def __repr__(self) -> str:
        return f"<Buffer of {len(self)} bytes>"


class ArrayHeader(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What stands before an array's bytes: dtype as numpy's `dtype.str`, and whether they lie in Fortran
    order."""

    dtype: str
    shape: tuple[int, ...]
    fortran: bool = False


_header_decoder = msgspec.msgpack.Decoder(ArrayHeader)


def without_alias(annotation: Any) -> Any:
    """What a `type` alias stands for; newer versions of numpy declare NDArray as one."""
    alias = get_origin(annotation) or annotation
    if type(alias).__name__ != "TypeAliasType":
        return annotation
    value, arguments = alias.__value__, get_args(annotation)
    return without_alias(value[arguments] if arguments else value)


def is_array_type(annotation: Any) -> bool:
    """Is it numpy.ndarray, plain or parametrised?"""
    numpy = sys.modules.get("numpy")
    return numpy is not None and (get_origin(annotation) or annotation) is numpy.ndarray


def encode_large(value: Any) -> object:
    """msgspec's enc_hook: called for whatever msgspec itself cannot encode. Raises TypeError for the rest."""
    if isinstance(value, Buffer):
        lent = lend(value.view, len(value)) if len(value) >= LENT_FROM else None
        if lent is not None:
            return msgspec.msgpack.Ext(LENT_BUFFER_CODE, _HANDLE.pack(*lent, len(value)))
        return msgspec.msgpack.Ext(BUFFER_CODE, value.view)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        header = _header_of(value, numpy)
        lent = lend(value, value.nbytes) if value.nbytes >= LENT_FROM else None
        if lent is not None:
            return msgspec.msgpack.Ext(LENT_ARRAY_CODE, _HANDLE.pack(*lent, value.nbytes) + header)
        return msgspec.msgpack.Ext(ARRAY_CODE, _array_bytes(value, header, numpy))
    kind = arrow_kind(type(value))
    return encode_scalar(value) if kind is None else encode_arrow(value, kind)


def encode_scalar(value: Any) -> object:
    """msgspec's enc_hook where nothing large may travel: numpy's scalars as plain ones. Raises TypeError for the
    rest."""
    numpy = sys.modules.get("numpy")
    plain = value.item() if numpy is not None and isinstance(value, numpy.generic) else None
    if isinstance(plain, (bool, int, float, str, bytes)):
        return plain
    raise TypeError(f"a value of type {type(value).__qualname__} cannot be sent")


def _header_of(array: numpy.ndarray[Any, Any], numpy: Any) -> bytes:
    if type(array) not in (numpy.ndarray, numpy.memmap):
        raise TypeError(f"an array of type {type(array).__qualname__} cannot be sent: wanted a plain numpy.ndarray")
    if array.dtype.names is not None or not _DTYPE.fullmatch(array.dtype.str):
        raise TypeError(f"an array of dtype {array.dtype} cannot be sent: wanted numbers, texts, bytes or times")
    return msgspec.msgpack.encode(ArrayHeader(array.dtype.str, array.shape, in_fortran_order(array)))


def in_fortran_order(array: numpy.ndarray[Any, Any]) -> bool:
    """Do its bytes travel in Fortran order? Otherwise in C order, whatever theirs is."""
    return bool(array.flags.f_contiguous and not array.flags.c_contiguous)


def _array_bytes(array: numpy.ndarray[Any, Any], header: bytes, numpy: Any) -> bytes:
    laid_out = numpy.ascontiguousarray(array.T if in_fortran_order(array) else array)
    return b"".join((struct.pack("<I", len(header)), header, memoryview(laid_out.reshape(-1).view(numpy.uint8))))


def decode_extension(code: int, data: memoryview) -> object:
    """msgspec's ext_hook. What it returns looks into the message. Raises ValueError for anything
    malformed."""
    if code == BUFFER_CODE:
        return Buffer(data.toreadonly())
    if code == ARRAY_CODE:
        return _array_of(data)
    if code == LENT_BUFFER_CODE:
        if data.nbytes != _HANDLE.size:
            raise ValueError(f"a malformed Buffer: its handle has {data.nbytes} bytes, wanted {_HANDLE.size}")
        return Buffer(borrowed(*_HANDLE.unpack(data)))
    if code == LENT_ARRAY_CODE:
        return _lent_array_of(data)
    if code == ARROW_CODE:
        return decode_arrow(data)
    if code == LENT_ARROW_CODE:
        return decode_lent_arrow(data)
    wanted = (
        f"{BUFFER_CODE} or {LENT_BUFFER_CODE} (Buffer), {ARRAY_CODE} or {LENT_ARRAY_CODE} (array), {ARROW_CODE} or "
        f"{LENT_ARROW_CODE} (Arrow)"
    )
    raise ValueError(f"message extension {code} is unknown: wanted {wanted}")


def _array_of(data: memoryview) -> object:
    try:
        (length,) = struct.unpack_from("<I", data)
    except struct.error as error:
        raise ValueError(f"a malformed array: {error}") from None
    return _laid_out(data[4 : 4 + length], data[4 + length :].toreadonly())


def _lent_array_of(data: memoryview) -> object:
    try:
        handle = _HANDLE.unpack_from(data)
        body = borrowed(*handle)
    except (struct.error, ValueError) as error:
        raise ValueError(f"a malformed array: {error}") from None
    return _laid_out(data[_HANDLE.size :], body)


def _laid_out(head: memoryview, body: memoryview) -> object:
    """The array whose bytes are `body`."""
    try:
        import numpy
    except ImportError:
        raise ValueError("a numpy array arrived, and numpy is not installed here: install mukernel[numpy]") from None
    try:
        header = _header_decoder.decode(head)
        if not _DTYPE.fullmatch(header.dtype) or min(header.shape, default=0) < 0:
            raise ValueError(f"dtype {header.dtype[:50]!r}, shape {header.shape[:9]}")
        dtype = numpy.dtype(header.dtype)
        # frombuffer refuses an empty buffer, which is what an array with a zero in its shape has.
        flat = numpy.frombuffer(body, numpy.uint8).view(dtype) if body.nbytes else numpy.empty(0, dtype)
        return flat.reshape(header.shape[::-1]).T if header.fortran else flat.reshape(header.shape)
    except (msgspec.DecodeError, ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"a malformed array: {error}") from None


def decode_large(wanted: Any, value: Any) -> object:
    """msgspec's dec_hook: `value` has come where the annotation says `wanted`. Raises ValueError if it does
    not fit."""
    if wanted is Buffer and isinstance(value, Buffer):
        return value
    if is_array_type(wanted):
        numpy = sys.modules["numpy"]
        if isinstance(value, numpy.ndarray):
            dtype = _declared_dtype(wanted, numpy)
            if dtype is not None and value.dtype != dtype:
                raise ValueError(f"Expected an array of `{dtype}`, got one of `{value.dtype}`")
            return value
    if arrow_kind(wanted) is not None and isinstance(value, wanted):
        return value
    raise ValueError(f"Expected `{getattr(wanted, '__name__', wanted)}`, got `{type(value).__name__}`")


def _declared_dtype(annotation: Any, numpy: Any) -> Any:
    """The dtype that NDArray[T] names, or None when it leaves it open (an abstract T such as floating)."""
    arguments = get_args(annotation)
    scalars = get_args(arguments[1]) if len(arguments) == 2 else ()
    scalar = get_origin(scalars[0]) or scalars[0] if scalars else None
    if not isinstance(scalar, type) or not issubclass(scalar, numpy.generic) or scalar.__subclasses__():
        return None
    dtype = numpy.dtype(scalar)
    # A flexible dtype (str_, bytes_, datetime64) has as many widths and units as values: any of them fits.
    return None if dtype.kind in "USVmM" else dtype
