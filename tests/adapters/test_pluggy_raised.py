"""What a hook raises in another process arrives as it is, and so does what it changes, before that, too."""

from collections.abc import Iterator

import pytest
from hook_samples import Changing, Colour, Order, Raising, Specs

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


@pytest.mark.parametrize(("why", "kind"), [("group", "ExceptionGroup"), ("named as Python's", "LookupError")])
def test_every_other_one_is_a_remote_error(manager: PluginManager, why: str, kind: str) -> None:
    with pytest.raises(RemoteError) as raised:
        manager.hook.fails(why=why)
    assert raised.value.type_name == kind


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
