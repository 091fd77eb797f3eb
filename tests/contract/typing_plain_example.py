"""Callers of a plain class, as their author types them. test_typing.py runs strict type checkers over this file;
nothing runs it."""

from typing import assert_type

from mukernel import Kernel, interface_of


class Formatter:
    def render(self, text: str, *, upper: bool = False) -> str:
        return text.upper() if upper else text


async def application() -> None:
    async with Kernel() as kernel:
        await kernel.load(Formatter, placement="process")
        formatter = kernel.get(interface_of(Formatter))
        assert_type(formatter, Formatter)
        assert_type(formatter.render("a", upper=True), str)
        assert_type(kernel.get(Formatter).render("a"), str)
