"""Declaring interfaces and plug-ins."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import get_type_hints

import pytest

from mukernel.contract import (
    Blocking,
    Contract,
    ContractError,
    Interface,
    Plugin,
    check_implements,
    idempotent,
    interfaces_of,
    oneway,
    raises,
    unwrap_blocking,
)


class Greeter(Interface, version="1.2"):
    """Greets people."""

    LANGUAGES = ("en",)

    @idempotent
    async def greet(self, name: str) -> str: ...

    @oneway
    async def note(self, text: str) -> None: ...

    def count(self, upto: int) -> AsyncIterator[int]: ...

    def _private(self, anything):
        return anything


class PoliteGreeter(Greeter, version="1.3"):
    async def bow(self, depth: float = 1.0) -> None: ...


class Door(Interface):
    def open(self) -> bool: ...


class Butler(Plugin, PoliteGreeter, Door):
    async def greet(self, name: str) -> str:
        return f"Good day, {name}"


def test_version_and_name() -> None:
    assert (Greeter.__contract__.name, Greeter.__contract__.version) == ("Greeter", "1.2")
    assert Door.__contract__.version == "1.0"

    class Renamed(Interface, name="shop.Door", version="2.10"):
        pass

    assert (Renamed.__contract__.name, Renamed.__contract__.version) == ("shop.Door", "2.10")


@pytest.mark.parametrize("version", ["1", "1.0.0", "a.b", "1.", "", "-1.0", "1.²"])
def test_a_malformed_version_is_refused(version: str) -> None:
    with pytest.raises(ContractError, match=r'Bad: version is .*wanted "major.minor"'):
        type("Bad", (Interface,), {}, version=version)


def test_the_contract_is_computed_once() -> None:
    assert Greeter.__contract__ is Greeter.__contract__
    assert Greeter.__contract__ is not PoliteGreeter.__contract__


def test_inherited_methods_come_first_and_keep_their_index() -> None:
    methods = PoliteGreeter.__contract__.methods
    assert [(name, method.index) for name, method in methods.items()] == [
        ("greet", 0),
        ("note", 1),
        ("count", 2),
        ("bow", 3),
    ]


def test_an_overridden_method_keeps_its_place() -> None:
    class Loud(Greeter):
        async def shout(self) -> str: ...
        async def greet(self, name: str, loud: bool = True) -> str: ...

    assert list(Loud.__contract__.methods) == ["greet", "note", "count", "shout"]
    assert [parameter.name for parameter in Loud.__contract__.methods["greet"].parameters] == ["name", "loud"]


def test_interfaces_of_a_plugin() -> None:
    assert interfaces_of(Butler) == (PoliteGreeter, Greeter, Door)
    assert interfaces_of(Greeter) == (Greeter,)
    assert interfaces_of(int) == ()


def test_a_plugin_has_no_contract_of_its_own() -> None:
    with pytest.raises(ContractError, match="Butler is a plug-in"):
        Butler.__contract__  # noqa: B018


def test_a_plugin_takes_no_interface_keywords() -> None:
    with pytest.raises(ContractError, match="Bad is a plug-in: name=, version= and raises="):
        type("Bad", (Plugin, Greeter), {}, version="2.0")


def test_calling_what_nobody_implements_raises() -> None:
    butler = Butler()
    with pytest.raises(ContractError, match=r"Butler does not implement PoliteGreeter\.bow"):
        butler.bow()
    with pytest.raises(ContractError, match=r"Butler does not implement Greeter\.count"):
        butler.count(3)
    with pytest.raises(ContractError, match=r"Butler does not implement Door\.open"):
        butler.open()
    assert asyncio.run(butler.greet("Ada")) == "Good day, Ada"


def test_every_form_of_an_empty_body_is_empty_and_no_other() -> None:
    class Forms(Interface):
        def dots(self) -> None: ...

        def passed(self) -> None:
            pass

        def text(self) -> None:
            """Documented."""

        def refused(self) -> None:
            raise NotImplementedError

        def refused_with_reason(self) -> None:
            raise NotImplementedError("some day")

        async def coroutine(self) -> None:
            """Documented."""

        def default(self) -> bool:
            return True

        def default_text(self) -> str:
            return "text"

        async def default_coroutine(self, number: int) -> int:
            return number

        async def default_stream(self) -> AsyncIterator[int]:
            yield 1

    class Some(Plugin, Forms):
        pass

    missing = [line.split(":")[0] for line in check_implements(Some, Forms)]
    assert missing == [
        f"Some.{name}" for name in ("dots", "passed", "text", "refused", "refused_with_reason", "coroutine")
    ]
    assert Some().default() is True
    assert Some().default_text() == "text"
    assert asyncio.run(Some().default_coroutine(3)) == 3


def test_a_fake_may_derive_from_the_interface_alone() -> None:
    class FakeGreeter(Greeter):
        async def greet(self, name: str) -> str:
            return name[::-1]

    assert asyncio.run(FakeGreeter().greet("Ada")) == "adA"


def test_signatures_stay_visible() -> None:
    assert list(inspect.signature(Greeter.greet).parameters) == ["self", "name"]
    assert Greeter.greet.__name__ == "greet"


@pytest.mark.parametrize("decorator", [property, staticmethod, classmethod])
def test_only_methods_may_be_declared(decorator: type) -> None:
    with pytest.raises(ContractError, match=rf"Bad\.thing is a {decorator.__name__}: wanted methods only"):
        type("Bad", (Interface,), {"thing": decorator(lambda self: None)})


class Refusal(Exception):
    pass


@pytest.mark.parametrize("name", ["start", "stop", "save", "restore", "health", "checkpoint", "state_version"])
def test_no_method_may_be_named_as_what_the_kernel_asks_of_every_plugin(name: str) -> None:
    async def method(self: object) -> int: ...

    with pytest.raises(ContractError, match=rf"^Engine.{name}: '{name}' is .*plug-in.*; give it another name$"):
        type("Engine", (Interface,), {name: method})
    assert type("English", (Plugin, Interface), {name: method})  # as a hook it is right


def test_raises_by_method_and_by_interface() -> None:
    class Shop(Interface, raises=Refusal):
        @raises(KeyError, LookupError)
        async def buy(self, name: str) -> int: ...
        async def open(self) -> None: ...

    class Bazaar(Shop, raises=(ValueError, Refusal)):
        pass

    methods = Shop.__contract__.methods
    assert methods["buy"].raises == (KeyError, LookupError, Refusal)
    assert methods["open"].raises == (Refusal,)
    assert Bazaar.__contract__.methods["open"].raises == (Refusal, ValueError)


@pytest.mark.parametrize("wrong", [KeyboardInterrupt, "KeyError", int])
def test_raises_takes_exception_classes(wrong: object) -> None:
    with pytest.raises(ContractError, match=r"@raises: got .* wanted exception classes"):
        raises(wrong)
    with pytest.raises(ContractError, match=r"@raises: got .*StopIteration.* declare one of your own"):
        raises(StopIteration)
    with pytest.raises(ContractError, match=r"Bad: raises=: got .* wanted exception classes"):
        type("Bad", (Interface,), {}, raises=wrong)


def test_blocking_is_recognised() -> None:
    class Client(Plugin):
        def __init__(self, greeter: Blocking[Greeter], door: Door, polite: bool = False) -> None: ...

    hints = get_type_hints(Client.__init__, include_extras=True)
    assert unwrap_blocking(hints["greeter"]) == (Greeter, True)
    assert unwrap_blocking(hints["door"]) == (Door, False)
    assert unwrap_blocking(hints["polite"]) == (bool, False)


def test_a_plain_class_has_a_contract_too() -> None:
    class Legacy:
        """Wrote no interface."""

        def add(self, a: int, b: int = 2) -> int:
            return a + b

        def _hidden(self, x):
            return x

    contract = Contract.of(Legacy)
    assert (contract.name, contract.version, list(contract.methods)) == ("Legacy", "1.0", ["add"])
    assert contract.describe().documentation == "Wrote no interface."
