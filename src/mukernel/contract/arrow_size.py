"""How large values of pyarrow are, as far as it matters for the way that they travel."""

from __future__ import annotations

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


__all__ = ["size_of"]
