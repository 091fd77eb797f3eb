"""A host's hooks, and plug-ins for it, written for pluggy: nothing here knows mukernel."""

import importlib
import os
import signal
import sys
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pluggy

hookspec = pluggy.HookspecMarker("sample")
hookimpl = pluggy.HookimplMarker("sample")


class Specs:
    @hookspec
    def names(self, given: Any) -> Any: ...
    @hookspec(firstresult=True)
    def first(self, number: int) -> Any: ...
    @hookspec(historic=True)
    def configured(self, option: str) -> Any: ...
    @hookspec
    def wrapped(self, items: list[Any]) -> Any: ...
    @hookspec
    def fails(self, why: str) -> Any: ...
    @hookspec
    def where(self) -> Any: ...
    @hookspec
    def changed(self, order: Any) -> Any: ...
    @hookspec
    def made(self, like: Any) -> Any: ...


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Money:
    amount: int


@dataclass
class Order:
    name: str
    colour: Colour
    prices: list[Money] = field(default_factory=list)


class Derived(Order):
    """What it adds is in no field."""


@dataclass
class Counted(dict[str, int]):
    """More than its fields."""

    number: int


class Slot:
    __slots__ = ("beside",)


@dataclass
class Slotted(Slot):
    number: int


@dataclass
class Guarded:
    made: ClassVar[int] = 0
    number: int

    def __post_init__(self) -> None:
        Guarded.made += 1

    def __setattr__(self, name: str, value: Any) -> None:
        assert name == "number" and not hasattr(self, name)
        object.__setattr__(self, name, value)


class Early:
    """A class that is registered as a namespace."""

    @staticmethod
    @hookimpl(tryfirst=True)
    def names(given: Any) -> Any:
        return ("early", given)

    @staticmethod
    @hookimpl
    def made(like: Any) -> Any:
        return Order("made", Colour.RED, [Money(5)])

    @staticmethod
    @hookimpl
    def first(number: int) -> Any:
        return None if number < 10 else f"early {number}"

    @classmethod
    @hookimpl
    def configured(cls, option: str) -> Any:
        return f"{cls.__name__} {option}"

    @staticmethod
    @hookimpl(wrapper=True)
    def wrapped(items: list[Any]) -> Generator[None, Any, Any]:
        items.append("early before")
        try:
            result = yield
        except ValueError as error:
            return [f"early caught {error}"]
        return [*result, "early after"]

    @staticmethod
    @hookimpl
    def where() -> int:
        return os.getpid()


class Late:
    """One that is made with arguments."""

    def __init__(self, label: str, *, extra: Path = Path("/")) -> None:
        self.label, self.extra, self.calls = label, extra, 0

    @hookimpl(trylast=True)
    def names(self, given: Any) -> Any:
        self.calls += 1
        return {"late": {self.label, self.calls}, "extra": self.extra}

    @hookimpl(specname="first", trylast=True)
    def another_name(self, number: int) -> Any:
        return number * 2

    @hookimpl(hookwrapper=True)
    def wrapped(self, items: list[Any]) -> Generator[None, Any, None]:
        items.append("late before")
        outcome = yield
        if outcome.exception is None:
            outcome.force_result([*outcome.get_result(), self.label])

    @hookimpl
    def changed(self, order: Order) -> None:
        order.name, order.colour = f"{self.label} {self.extra.name}", self.extra.colour
        order.prices.append(Money(4))

    @hookimpl
    def fails(self, why: str) -> Any:
        if why == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if why == "object":
            return sys
        raise {"key": KeyError, "own": OwnError, "end": StopIteration}.get(why, ValueError)(why)

    @hookimpl
    def where(self) -> int:
        return os.getpid()


class OwnError(Exception):
    pass


class Inner:
    @staticmethod
    @hookimpl
    def wrapped(items: list[Any]) -> Any:
        if "raise" in items:
            raise ValueError("inner")
        if "other" in items:
            raise LookupError("other")
        return list(items)

    @staticmethod
    @hookimpl
    def names(given: Any) -> Any:
        yield from (1, 2)

    @staticmethod
    @hookimpl
    def configured(option: str) -> Any:
        return f"inner {option}"


@dataclass
class Compared:
    """Equal ones have equal fields."""

    label: str

    def __init_subclass__(cls, *, wanted: str) -> None:
        raise AssertionError(wanted)

    def __hash__(self) -> int:
        return hash(self.label)

    @hookimpl
    def names(self, given: Any) -> Any:
        return self.label


class Delegating:
    """What it has not, another object has."""

    def __init__(self, label: str) -> None:
        self.label = label

    def __getattr__(self, name: str) -> Any:
        return getattr(self.label, name)

    @hookimpl
    def names(self, given: Any) -> Any:
        return self.lower()


class Compact:
    __slots__ = ("label",)

    def __init__(self, label: str) -> None:
        self.label = label

    @property
    def title(self) -> str:
        return self.label.title()

    @hookimpl
    def names(self, given: Any) -> Any:
        return self.label


here = Compared("at the top")


class Raising:
    @staticmethod
    @hookimpl
    def fails(why: str) -> None:
        error = ValueError("noted")
        error.add_note("a note")
        if why == "missing":
            Path("/nowhere/at all").read_text()
        if why == "bytes":
            b"\xff".decode()
        if why == "import":
            importlib.import_module("nowhere_at_all")
        if why == "end":
            raise StopIteration(5)
        if why == "group":
            group = ExceptionGroup("several", [error, ExceptionGroup("inner", [KeyError("a"), OwnError("own")])])
            group.add_note("of all")
            raise group
        raise {
            "key": KeyError("a", ("b",)), "noted": error, "object": ValueError(Path),
            "named as Python's": type("LookupError", (Exception,), {})("own"),
        }[why]  # fmt: skip

    @staticmethod
    @hookimpl
    def wrapped(items: list[Any]) -> None:
        odd = {"unsendable": sys, "unexpected": Colour.RED}
        items.append(odd.get(items[0], "changed"))
        raise LookupError("after that")


class Passing:
    @staticmethod
    @hookimpl(wrapper=True)
    def fails(why: str) -> Generator[None, Any, Any]:
        return (yield)


@dataclass
class Changing:
    label: str

    @hookimpl
    def changed(self, order: Any) -> None:
        _, (notes, held, *_) = order
        notes.append(self.label)
        held.name = self.label


class Endless:
    @staticmethod
    @hookimpl
    def names(given: Any) -> Any:
        """Ends when the pipe at a path does; of a process, which is interrupted, never."""
        if isinstance(given, Path):
            return given.read_text()
        os.kill(given, signal.SIGINT)
        return threading.Event().wait()


class Around(Endless):
    @staticmethod
    @hookimpl(wrapper=True)
    def where() -> Generator[None, Any, Any]:
        """In the process in which `names` does not end."""
        return (yield)


class Asking:
    """For the host's own process."""

    def __init__(self, manager: pluggy.PluginManager) -> None:
        self.manager = manager

    @hookimpl
    def where(self) -> Any:
        return self.manager.hook.names(given=os.getpid())
