"""`mukernel call`: call a method of a running plug-in."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from ..contract import DeadlineExceeded, Description, MethodDescription, Model, MukernelError, type_text
from ..core.control import Control
from ..core.described import served_method
from ..core.quantity import duration_text
from ..transports.context import LONGEST, CallContext, current
from . import standard_input
from .arguments import Unsendable, converted, read_arguments, sendable, with_keys
from .client import clock, patience, split_method, with_control
from .options import add_options
from .terminal import Terminal, UsageError, as_json

DESCRIPTION = """\
Call a method of a running plug-in, and print its result: text as it is, all else as JSON.

Arguments are NAME=VALUE, converted to what the method declares; NAME:=JSON says exactly what is meant; what
has no NAME goes by position. A method that streams prints one line for each item, as it comes; one that takes
a stream reads its items from standard input, one a line."""

EXAMPLES = """\
examples:
  mukernel call Greeter.greet name=Ada
  mukernel call Greeter.greet Ada --plugin greeter --timeout 500ms
  mukernel call Catalog.add book:='{"title": "Emma", "year": 1815}'
  mukernel call Greeter.count upto=3
  printf 'one\\ntwo\\n' | mukernel call Greeter.echo"""


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("method", metavar="INTERFACE.METHOD")
    parser.add_argument("arguments", metavar="NAME=VALUE", nargs="*", default=[])
    parser.add_argument("--plugin", metavar="NAME", help="which plug-in, where several serve the interface")
    parser.add_argument(
        "--timeout", metavar="TIME",
        help="end the call after this time, such as 500ms (default: never, once the kernel has answered within 5s)",
    )  # fmt: skip
    add_options(parser, timeout=False)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    limit = None if arguments.timeout is None else patience(arguments)
    interface, name = split_method(arguments.method)

    async def call(control: Control) -> int:
        served = await control.serving(interface, arguments.plugin)
        method = served_method(served.interface, name)
        values = read_arguments(arguments.arguments, served.interface, method)
        if limit is not None:  # travels with the call, through every hop
            current.set(CallContext(clock.now_ns() + int(min(limit, LONGEST) * 1e9)))
        try:
            await perform(control, served.plugin, served.interface, method, values, arguments.json)
        except DeadlineExceeded:
            if limit is None:  # some callee's own
                raise
            raise DeadlineExceeded(f"{arguments.method}: no reply within {duration_text(limit)}") from None
        return 0

    return with_control(call, arguments)


async def perform(
    control: Control,
    plugin: str,
    interface: Description,
    method: MethodDescription,
    values: dict[str, Any],
    json: bool,
) -> None:
    """Make the call and print what it gives."""
    where = (interface.name, method.name, values, plugin)
    model = Model(method.model)
    if model is Model.STREAM:
        await show_items(control.stream(*where), json)
    elif model is Model.CHANNEL:
        given = Items(method, interface)
        try:
            await show_items(control.channel(given.read(), *where), json)
        except MukernelError:  # it may well be the early end of its input that the method did not expect
            if given.problem is None:
                raise
        if given.problem is not None:
            raise given.problem
    else:
        result = await control.call(*where)
        if model is Model.CALL:
            show(result, json)


async def show_items(items: AsyncIterator[Any], json: bool) -> None:
    async for item in items:
        show(item, json, even_none=True)


def show(value: Any, json: bool, even_none: bool = False) -> None:
    if isinstance(value, str) and not json:
        Terminal().say(value)
    elif value is not None or json or even_none:
        Terminal().say(as_json(value))


class Items:
    """The lines of standard input as items of a method's input. `problem`: which line is none, and why: what came
    before it is sent, and nothing after it."""

    def __init__(self, method: MethodDescription, interface: Description) -> None:
        assert method.input is not None
        self.kind, self.name, self.types = method.input, method.input_name, interface.types
        self.problem: UsageError | None = None

    async def read(self) -> AsyncIterator[Any]:
        """Each line, converted, up to the first that can't be. Raises UsageError where there is no standard input."""
        number = 0
        async for line in standard_input.lines():
            number += 1
            try:
                item = self.item(line)
            except ValueError as wanted:
                self.problem = UsageError(f"standard input, line {number}: got {shown(line)}, wanted {wanted}")
                return
            yield item

    def item(self, line: bytes) -> Any:
        """Raises ValueError with what was wanted."""
        try:
            return sendable(with_keys(converted(line.decode(), self.kind), self.kind, self.types))
        except Unsendable:
            raise
        except UnicodeDecodeError:
            raise ValueError("text in UTF-8") from None
        except (ValueError, msgspec.DecodeError, RecursionError):
            raise ValueError(f"an item of parameter {self.name!r}: {type_text(self.kind)}") from None


def shown(line: bytes) -> str:
    """A line as a person knows it; what is no text as Python writes bytes."""
    try:
        return repr(line.decode())
    except UnicodeDecodeError:
        return repr(line)
