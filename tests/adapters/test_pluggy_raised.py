"""What a hook raises in another process arrives as it is, and so does what it changes, before that, too."""

from collections.abc import Iterator

import pytest
from hook_samples import Changing, Colour, Order, Passing, Raising, Specs

from mukernel import RemoteError
from mukernel.adapters.pluggy import PluginManager, isolated
from mukernel.adapters.pluggy_process import Raised, exception_of
from mukernel.adapters.records import nothing
from mukernel.adapters.values import pack


@pytest.fixture
def manager() -> Iterator[PluginManager]:
    with PluginManager("sample") as made:
        made.add_hookspecs(Specs)
        made.register(Raising)
        yield made


@pytest.mark.parametrize("why", ["key", "missing", "bytes", "import", "noted"])
def test_an_exception_of_pythons_own_arrives_with_all_that_it_holds(manager: PluginManager, why: str) -> None:
    with pytest.raises(Exception) as here:
        Raising.fails(why)
    with pytest.raises(type(here.value)) as there:
        manager.hook.fails(why=why)
    assert (there.value.__reduce__(), str(there.value)) == (here.value.__reduce__(), str(here.value))
    assert isinstance(there.value.__cause__, RemoteError)
    assert "hook_samples.py" in there.value.__cause__.traceback


def test_one_that_holds_what_can_not_travel_arrives_with_its_text(manager: PluginManager) -> None:
    with pytest.raises(ValueError, match=r"^<class 'pathlib.Path'>$"):
        manager.hook.fails(why="object")


def test_a_group_arrives_with_what_it_has(manager: PluginManager) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        manager.hook.fails(why="group")
    noted, inner = raised.value.exceptions
    assert (raised.value.message, raised.value.__notes__) == ("several", ["of all"])
    assert (type(noted), str(noted), noted.__notes__) == (ValueError, "noted", ["a note"])
    assert isinstance(inner, ExceptionGroup) and inner.message == "inner"
    key, own = inner.exceptions
    assert key.args == ("a",) and isinstance(own, RemoteError) and own.type_name == "OwnError"


def test_the_end_of_an_iteration_is_an_exception_as_others(manager: PluginManager) -> None:
    with pytest.raises(StopIteration) as raised:
        manager.hook.fails(why="end")
    assert raised.value.value == 5
    manager.register(Passing)
    with pytest.raises(StopIteration):  # through a wrapper
        manager.hook.fails(why="end")


def test_every_other_one_is_a_remote_error(manager: PluginManager) -> None:
    with pytest.raises(RemoteError) as raised:
        manager.hook.fails(why="named as Python's")
    assert raised.value.type_name == "LookupError"


def test_what_can_not_travel_back_hides_no_exception(manager: PluginManager) -> None:
    items = ["unsendable"]
    with pytest.raises(LookupError, match="after that") as raised:
        manager.hook.wrapped(items=items)
    assert "argument '0'[1]: got builtins.module, which can't travel" in raised.value.__notes__[0]
    assert items == ["unsendable"]
    with pytest.raises(LookupError, match="after that"):
        manager.hook.wrapped(items=["unexpected"])  # a record of a class that the call has not brought


@pytest.mark.parametrize(
    ("kind", "made_of"),
    [
        ("ValueError", b"\xc1"), ("ValueError", pack(1, "")), ("UnicodeDecodeError", pack(((1,),), "")),
        ("ValueError", pack(((), 1), "")), ("print", pack(((),), "")), ("SystemExit", pack(((1,),), "")),
    ],
)  # fmt: skip
def test_what_a_process_says_of_an_exception_is_not_trusted(kind: str, made_of: bytes) -> None:
    made = exception_of(Raised(kind, "text", "", made_of), nothing)
    assert isinstance(made, RemoteError)
    assert (made.type_name, made.message) == (kind, "text")


def test_what_a_hook_had_changed_before_it_raised_is_changed(manager: PluginManager) -> None:
    items = ["before"]
    with pytest.raises(LookupError, match="after that"):
        manager.hook.wrapped(items=items)
    assert items == ["before", "changed"]


def test_what_is_changed_in_a_tuple_is_changed(manager: PluginManager) -> None:
    notes: list[str] = []
    order = Order("tea", Colour.RED)
    manager.register(isolated(Changing, "more"), "changing")
    manager.hook.changed(order=(1, (notes, order)))
    assert (notes, order) == (["more"], Order("more", Colour.RED))
    manager.hook.changed(order=(1, (notes, order, notes)))
    assert notes == ["more", "more"]
