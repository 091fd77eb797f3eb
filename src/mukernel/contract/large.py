"""Buffer and numpy arrays: values whose bytes are worth more than their structure.

They enter and leave messages only here, through the hooks of the codec, so that another way for them to
travel changes this file alone. On the wire each is a msgpack extension. numpy is optional and never
imported before an array, or the name of one in an annotation, proves that somebody else imported it.
"""

from __future__ import annotations

import re
import struct
import sys
from typing import TYPE_CHECKING, Any, get_args, get_origin

import msgspec

if TYPE_CHECKING:
    import numpy

BUFFER_CODE = 1
ARRAY_CODE = 2
# The forms of dtype.str that are sent. Nothing else is shown to numpy, whose parser takes whole expressions, loads what
# they name, and divides by zero for "M8[s/0]".
_DTYPE = re.compile(
    r"[|<>]([biu]1|[iu][248]|f(2|4|8|12|16)|c(8|16|24|32))"  # numbers
    r"|\|[SV][1-9][0-9]{0,8}|[<>]U[1-9][0-9]{0,8}"  # bytes, texts
    r"|[<>][mM]8(\[([1-9][0-9]{0,8})?(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"  # times
)


class Buffer:
    """Bytes that are handed over, not looked into: wraps any contiguous bytes-like object without a copy.

    Equal to another Buffer, or to bytes, of the same content. Received ones are read-only.
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
        return msgspec.msgpack.Ext(BUFFER_CODE, value.view)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return msgspec.msgpack.Ext(ARRAY_CODE, _array_bytes(value, numpy))
    return encode_scalar(value)


def encode_scalar(value: Any) -> object:
    """msgspec's enc_hook where nothing large may travel: numpy's scalars as plain ones. Raises TypeError for the
    rest."""
    numpy = sys.modules.get("numpy")
    plain = value.item() if numpy is not None and isinstance(value, numpy.generic) else None
    if isinstance(plain, (bool, int, float, str, bytes)):
        return plain
    raise TypeError(f"a value of type {type(value).__qualname__} cannot be sent")


def _array_bytes(array: numpy.ndarray[Any, Any], numpy: Any) -> bytes:
    if type(array) not in (numpy.ndarray, numpy.memmap):
        raise TypeError(f"an array of type {type(array).__qualname__} cannot be sent: wanted a plain numpy.ndarray")
    if array.dtype.names is not None or not _DTYPE.fullmatch(array.dtype.str):
        raise TypeError(f"an array of dtype {array.dtype} cannot be sent: wanted numbers, texts, bytes or times")
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    laid_out = numpy.ascontiguousarray(array.T if fortran else array)
    header = msgspec.msgpack.encode(ArrayHeader(array.dtype.str, array.shape, bool(fortran)))
    return b"".join((struct.pack("<I", len(header)), header, memoryview(laid_out.reshape(-1).view(numpy.uint8))))


def decode_extension(code: int, data: memoryview) -> object:
    """msgspec's ext_hook. What it returns looks into the message. Raises ValueError for anything
    malformed."""
    if code == BUFFER_CODE:
        return Buffer(data.toreadonly())
    if code == ARRAY_CODE:
        return _array_of(data)
    raise ValueError(f"message extension {code} is unknown: wanted {BUFFER_CODE} (Buffer) or {ARRAY_CODE} (array)")


def _array_of(data: memoryview) -> object:
    try:
        import numpy
    except ImportError:
        raise ValueError("a numpy array arrived, and numpy is not installed here: install mukernel[numpy]") from None
    try:
        (length,) = struct.unpack_from("<I", data)
        header = _header_decoder.decode(data[4 : 4 + length])
        if not _DTYPE.fullmatch(header.dtype) or min(header.shape, default=0) < 0:
            raise ValueError(f"dtype {header.dtype[:50]!r}, shape {header.shape[:9]}")
        dtype = numpy.dtype(header.dtype)
        body = data[4 + length :].toreadonly()
        # frombuffer refuses an empty buffer, which is what an array with a zero in its shape has.
        flat = numpy.frombuffer(body, numpy.uint8).view(dtype) if body.nbytes else numpy.empty(0, dtype)
        return flat.reshape(header.shape[::-1]).T if header.fortran else flat.reshape(header.shape)
    except (struct.error, msgspec.DecodeError, ValueError, TypeError, OverflowError) as error:
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
