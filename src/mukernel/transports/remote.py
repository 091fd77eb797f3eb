"""What a caller knows of a method on the other side."""

from __future__ import annotations

from ..contract import Method, MethodCodec


class RemoteMethod:
    """A method as one caller calls it: its number, and the codec for its values.

    Numbers are those of the caller's own contract; a server whose contract differs, compatibly, translates.
    """

    __slots__ = ("codec", "decode_item", "encode_input", "idempotent", "index", "name", "raises")

    def __init__(self, method: Method, codec: MethodCodec) -> None:
        self.name, self.index = method.qualified, method.index
        self.idempotent, self.raises, self.codec = method.idempotent, method.raises, codec
        self.decode_item, self.encode_input = codec.decode_item, codec.encode_input
