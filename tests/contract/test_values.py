"""Values of every supported type survive the journey, with their type."""

import datetime as dt
import enum
import sys
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from mukernel.contract import Buffer, Contract, ContractError, MethodCodec


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


@dataclass(frozen=True)
class Tree:
    value: int
    children: "tuple[Tree, ...]" = ()


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    tricks: list[str]


class Options(TypedDict):
    size: int
    name: NotRequired[str]


class Point(NamedTuple):
    x: float
    y: float = 0.0


class Carrier(msgspec.Struct):
    label: str
    data: Buffer | None = None
    array: np.ndarray[Any, Any] | None = None


def test_a_buffer_is_bytes_like() -> None:
    """Without a copy, read-only where it wraps what is, and held as long as it is looked into."""
    pytest.importorskip("mukernel.contract.exported" if sys.version_info < (3, 12) else "sys")
    data = bytearray(b"abc")
    view = memoryview(Buffer(data))
    view[0] = 65
    assert data == b"Abc" and not view.readonly
    with pytest.raises(BufferError):
        data.extend(b"d")
    view.release()
    data.extend(b"d")
    kept = memoryview(Buffer(b"abc"))
    assert kept.readonly and bytes(kept) == b"abc" and b"".join([Buffer(b"x"), Buffer(b"y")]) == b"xy"
    held = sys.getrefcount(None)
    for _ in range(1000):
        memoryview(Buffer(b"abc")).release()
    assert abs(sys.getrefcount(None) - held) < 100


def codec(annotation: Any) -> MethodCodec:
    class Holder:
        def echo(self, value: Any) -> Any: ...

    Holder.echo.__annotations__.update(value=annotation, **{"return": annotation})
    return MethodCodec(Contract.of(Holder).methods["echo"])


UTC = dt.UTC


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (None, None),
        (bool, True),
        (int, -(2**63)),
        (int, 2**64 - 1),
        (float, 1.5),
        (float, float("inf")),
        (str, "Grüße, 世界 \0"),
        (bytes, b"\x00\xff"),
        (bytearray, bytearray(b"ab")),
        (memoryview, memoryview(b"ab")),
        (list[int], [1, 2]),
        (list[list[str]], [[], ["a"]]),
        (tuple[int, str], (1, "a")),
        (tuple[int, ...], (1, 2, 3)),
        (set[int], {1, 2}),
        (frozenset[str], frozenset("ab")),
        (dict[str, list[int]], {"a": [1]}),
        (dict[int, str], {1: "a"}),
        (dict[tuple[int, int], str], {(1, 2): "a"}),
        (Tree, Tree(1, (Tree(2), Tree(3, (Tree(4),))))),
        (Cat | Dog, Dog(["sit"])),
        (list[Cat | Dog], [Cat(9), Dog([])]),
        (Options, {"size": 1}),
        (Options, {"size": 1, "name": "x"}),
        (Point, Point(1.0, 2.0)),
        (dt.datetime, dt.datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=UTC)),
        (dt.datetime, dt.datetime(2024, 2, 29, 12, 30)),
        (dt.date, dt.date(2024, 2, 29)),
        (dt.time, dt.time(23, 59, 59, 999)),
        (dt.timedelta, dt.timedelta(days=-1, microseconds=7)),
        (uuid.UUID, uuid.UUID(int=7)),
        (Decimal, Decimal("1.10")),
        (Colour, Colour.BLUE),
        (Level, Level.LOW),
        (Literal["a", 1, None], "a"),
        (int | str | None, None),
        (int | str | None, "x"),
        (str | list[int], [1]),
        (Any, {"a": [1, None, b"x"]}),
        (Buffer, Buffer(b"abc")),
        (Buffer | None, None),
        (list[Buffer], [Buffer(b""), Buffer(bytes(100_000))]),
        (Any, Buffer(b"abc")),
        (Carrier, Carrier("x", Buffer(b"abc"))),
    ],
)
def test_round_trip(annotation: Any, value: Any) -> None:
    echo = codec(annotation)
    by_name = echo.encode_value({"value": value})
    for named, data in ((False, echo.encode_arguments((value,), {})), (True, by_name)):
        (back,) = echo.decode_arguments(data, named=named)
        assert back == value
        assert type(back) is type(value)
    back = echo.decode_result(echo.encode_result(value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (Buffer, b"abc", "expected Buffer, got bytes"),
        (bytes, Buffer(b"abc"), "expected bytes, got ext"),
        (np.ndarray, Buffer(b"abc"), "expected ndarray, got Buffer"),
        (np.ndarray, [1, 2], "expected ndarray, got list"),
        (Buffer, np.zeros(3), "expected Buffer, got ndarray"),
        (npt.NDArray[np.float64], np.zeros(3, np.int32), "expected an array of float64, got one of int32"),
        (Colour, "green", "invalid enum value 'green'"),
        (Literal["a"], "b", "invalid enum value 'b'"),
        (str, b"abc", "expected str, got bytes"),
        (bool, 1, "expected bool, got int"),
        (int, True, "expected int, got bool"),
        (int, 1.5, "expected int, got float"),
        (tuple[int, str], (1,), "expected array of length 2, got 1"),
        (Carrier, {"label": "x", "data": b"abc"}, "expected Buffer, got bytes at data"),
    ],
)
def test_a_value_of_another_type_is_refused(annotation: Any, value: Any, message: str) -> None:
    echo = codec(annotation)
    with pytest.raises(ContractError) as caught:
        echo.decode_arguments(echo.encode_arguments((value,), {}))
    assert str(caught.value) == f"Holder.echo: parameter 'value': {message}"


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.int64).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[:, ::2, ::-1],
        np.zeros((0, 3), np.float32),
        np.array(7.5),
        np.array([True, False]),
        np.array(["a", "größer"]),
        np.array([b"a", b"bc"]),
        np.array(["2024-01-01", "NaT"], dtype="datetime64[D]"),
        np.array([1 + 2j]),
        np.arange(3, dtype=">i4"),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_arrays(array: np.ndarray[Any, Any]) -> None:
    for annotation, unpack in ((np.ndarray, lambda back: back), (Any, lambda back: back)):
        echo = codec(annotation)
        back = unpack(echo.decode_result(echo.encode_result(array)))
        assert type(back) is np.ndarray
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        np.testing.assert_array_equal(back, array)
    carried = codec(Carrier)
    np.testing.assert_array_equal(carried.decode_result(carried.encode_result(Carrier("x", None, array))).array, array)


UNITS = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as")
NUMBERS = ["?", *"bBhHiIlLqQefdgFDG"]
TIMES = [f"{kind}8{unit}" for kind in "mM" for unit in ("", "[25s]", *(f"[{each}]" for each in UNITS))]


@pytest.mark.parametrize("dtype", [*NUMBERS, *(f">{each}" for each in NUMBERS), "S7", "U7", ">U7", "V3", *TIMES])
def test_arrays_of_every_plain_dtype(dtype: str) -> None:
    array = np.zeros(3, dtype)
    echo = codec(np.ndarray)
    back = echo.decode_result(echo.encode_result(array))
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


def test_the_order_of_a_fortran_array_is_kept() -> None:
    echo = codec(np.ndarray)
    back = echo.decode_result(echo.encode_result(np.asfortranarray(np.arange(12.0).reshape(3, 4))))
    assert back.flags.f_contiguous
    assert not back.flags.c_contiguous


def test_numpy_scalars_travel_as_plain_numbers() -> None:
    assert codec(int).decode_result(codec(int).encode_result(np.int64(3))) == 3
    assert codec(float).decode_result(codec(float).encode_result(np.float32(0.5))) == 0.5


@pytest.mark.parametrize("scalar", [np.float64, np.int8, np.int64, np.uint32, np.complex128, np.bool_])
def test_a_declared_dtype_is_checked(scalar: type[np.generic]) -> None:
    echo = codec(npt.NDArray[scalar])
    assert echo.decode_result(echo.encode_result(np.zeros(2, scalar))).dtype == scalar
    with pytest.raises(ContractError, match="expected an array of"):
        echo.decode_result(echo.encode_result(np.zeros(2, np.int16)))


def test_a_declared_kind_of_dtype_takes_any_of_that_kind() -> None:
    echo = codec(npt.NDArray[np.str_])
    assert list(echo.decode_result(echo.encode_result(np.array(["abc"])))) == ["abc"]
    echo = codec(npt.NDArray[np.floating[Any]])
    assert echo.decode_result(echo.encode_result(np.zeros(1, np.float32))).dtype == np.float32


@pytest.mark.parametrize(
    "array",
    [
        np.array([object()]),
        np.array([("a", 1)], dtype=[("name", "U1"), ("age", int)]),
        np.ma.masked_array([1, 2], mask=[True, False]),
    ],
    ids=["object", "structured", "masked"],
)
def test_arrays_that_are_not_plain_are_refused(array: Any) -> None:
    with pytest.raises(ContractError, match=r"Holder.echo: the result: an array of .* cannot be sent: wanted"):
        codec(np.ndarray).encode_result(array)


def extension(code: int, data: bytes) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, data))


def header(*parts: Any) -> bytes:
    packed = msgspec.msgpack.encode(parts)
    return len(packed).to_bytes(4, "little") + packed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xff\xff\xff",
        header("<f8", [2]) + bytes(8),
        header("<f8", [1]) + bytes(7),
        header("<f8", [-1]) + bytes(8),
        header("<f8", [2**62, 4]),
        header("|O", [1]) + bytes(8),
        header("O,O", [1]) + bytes(16),
        header("nonsense", [1]) + bytes(8),
        header("<f8,(", [1]) + bytes(8),
        header("V0", [1]) + bytes(8),
        # What numpy would take, and no encoder of ours writes:
        header("i4", [2]) + bytes(8),
        header("=i4", [2]) + bytes(8),
        header("<i4,<i4", [1]) + bytes(8),
        header("(2,)<i4", [1]) + bytes(8),
        header("<i4\n", [2]) + bytes(8),
        header("<M8[s/1]", [1]) + bytes(8),
        header("M8[s/0]", [1]) + bytes(8),  # shown to numpy, it ends the process: SIGFPE
        header(3, [1]) + bytes(8),
        header("<f8"),
    ],
)
def test_a_forged_array_is_refused(data: bytes) -> None:
    with pytest.raises(ContractError, match="the result: a malformed array"):
        codec(np.ndarray).decode_result(extension(2, data))


def test_an_unknown_extension_is_refused() -> None:
    with pytest.raises(ContractError, match="message extension 77 is unknown"):
        codec(Any).decode_result(extension(77, b"x"))


def test_what_arrives_in_a_buffer_is_read_only() -> None:
    echo = codec(Buffer)
    assert echo.decode_result(echo.encode_result(Buffer(bytearray(b"abc")))).view.readonly
    array = codec(np.ndarray)
    assert not array.decode_result(array.encode_result(np.zeros(3))).flags.writeable


def test_a_buffer_wraps_without_a_copy() -> None:
    data = bytearray(b"abc")
    buffer = Buffer(data)
    data[0] = ord("x")
    assert bytes(buffer) == b"xbc"
    assert (len(buffer), buffer == b"xbc", buffer == Buffer(b"xbc"), buffer == "xbc") == (
        3,
        True,
        True,
        False,
    )
    assert len(Buffer(np.zeros(4, np.int32).data)) == 16
    assert Buffer(buffer) == buffer
    with pytest.raises(TypeError):
        hash(buffer)
    with pytest.raises(TypeError):
        Buffer("text")
    with pytest.raises(TypeError):
        Buffer(memoryview(b"abcd")[::2])
