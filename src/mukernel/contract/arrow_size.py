"""How large values of pyarrow are, as far as it matters for the way that they travel; and how much there is to look at
in them, which whoever made them chooses: many parts, or texts, may lie in the same memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def size_of(columns: list[list[Any]], pyarrow: Any) -> int:
    """About how many bytes the rows of these chunks take.

    pyarrow's own `nbytes` reads the arrays to tell it, and crashes the process for an empty union; here only the sizes
    of buffers count, whatever is in them.
    """
    return sum(size_of_array(chunk, pyarrow) for column in columns for chunk in column)


def size_of_array(array: Any, pyarrow: Any) -> int:
    """Of a slice its share, where the type tells how many rows the buffers have room for; else all of them."""
    types, of = pyarrow.types, array.type
    if types.is_dictionary(of):
        return bytes_of(array, of) + int(array.dictionary.get_total_buffer_size())
    total = int(array.get_total_buffer_size())
    if types.is_primitive(of) or types.is_boolean(of) or types.is_decimal(of) or types.is_fixed_size_binary(of):
        return min(total, bytes_of(array, of))
    offset = 4 if types.is_string(of) or types.is_binary(of) or types.is_list(of) or types.is_map(of) else 8
    if offset == 4 or types.is_large_string(of) or types.is_large_binary(of) or types.is_large_list(of):
        places = array.buffers()[1]
        rows = places.size // offset if places is not None else 0
        return total * len(array) // max(rows, len(array), 1)
    return total


def bytes_of(array: Any, of: Any) -> int:
    """Those of its values, where each has the same width."""
    return len(array) * int(of.bit_width) // 8


VIEWS = ("is_string_view", "is_binary_view", "is_list_view", "is_large_list_view")
SMALL = 1 << 20  # bytes that may be looked at, however small a message is


def check_types(schema: Any, pyarrow: Any) -> None:
    """Raises TypeError for a column of a type whose values may all lie in one place: to check them takes as long as
    they say that they are."""
    for field in schema:
        if (found := view_in(field.type, pyarrow)) is not None:
            raise TypeError(
                f"column {field.name!r} is of type {field.type}, and {found} is not taken; "
                "cast it to string, binary or list"
            )


def view_in(of: Any, pyarrow: Any) -> Any:
    """The first type of views in a type, itself included. None: there is none."""
    types = pyarrow.types
    if any(hasattr(types, each) and getattr(types, each)(of) for each in VIEWS):
        return of
    inner = [of.field(number).type for number in range(of.num_fields)]
    if types.is_dictionary(of) or types.is_run_end_encoded(of):
        inner.append(of.value_type)
    if isinstance(of, pyarrow.BaseExtensionType):
        inner.append(of.storage_type)
    return next((found for each in inner if (found := view_in(each, pyarrow)) is not None), None)


def check_work(arrays: list[Any], came: int, pyarrow: Any) -> None:
    """Raises ValueError where these arrays have more to look at than `came` bytes, those that the message brought,
    account for: their buffers lie in one another, or the same is named as many parts."""
    left = 2 * came + SMALL
    for array in arrays:
        left -= work_of(array, pyarrow)
        if left < 0:
            raise ValueError(f"it names the same memory over and over: far more than the {came:,} bytes that came")


def work_of(array: Any, pyarrow: Any) -> int:
    """Bytes that are looked at to check an array: all its buffers, as often as it names them, and its dictionaries."""
    size: int = sum(each.size for each in array.buffers() if each is not None)
    return size + sum(work_of(each, pyarrow) for each in dictionaries_in(array, pyarrow))


def dictionaries_in(array: Any, pyarrow: Any) -> Iterator[Any]:
    """Those of an array, and of what lies in it."""
    if isinstance(array, pyarrow.ExtensionArray):
        yield from dictionaries_in(array.storage, pyarrow)
    elif isinstance(array, pyarrow.DictionaryArray):
        yield array.dictionary
    elif isinstance(array, (pyarrow.StructArray, pyarrow.UnionArray)):
        for number in range(array.type.num_fields):
            yield from dictionaries_in(array.field(number), pyarrow)
    elif array.type.num_fields:
        yield from dictionaries_in(array.values, pyarrow)


__all__ = ["check_types", "check_work", "size_of"]
