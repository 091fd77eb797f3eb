"""Plain classes are plug-ins: the interface is read from their typed public methods."""

import importlib
import os
from datetime import date
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from plain_samples import Document, Empty, Formatter, Mixed, Renders

from mukernel import ContractError, Interface, Kernel, NotFound, Plugin, RemoteError, interface_of
from mukernel.contract import Contract
from mukernel.core.inspection import look_at
from mukernel.core.loader import load_class, source_of
from mukernel.core.plain import plugin_class

PLACEMENTS = ["inline", "process"]


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_plain_class_is_loaded_called_swapped_and_moved(kernel: Kernel, placement: str) -> None:
    await kernel.load(
        "plain_samples:Formatter", name="formatter", placement=placement, config={"indent": 1, "sort": True}
    )
    formatter = kernel.get(interface_of(Formatter))
    document = Document("tale", 2)
    assert formatter.render(document) == " tale"
    assert formatter.render(document, upper=True) == " TALE"
    assert await formatter.count("one two") == Document("one two", 2)
    assert list(formatter.lines(3)) == ["0", "1", "2"]
    assert [number async for number in formatter.ticks(3)] == [0, 1, 2]
    assert formatter.inherited() == 2
    assert (formatter.where() == os.getpid()) is (placement == "inline")
    expected = LookupError if placement == "inline" else RemoteError
    with pytest.raises(expected, match="not there"):
        formatter.fail("not there")
    assert not (await kernel.swap("formatter", Formatter, config={"indent": 3})).rolled_back
    assert kernel.get(Formatter).render(document) == "   tale", "by the class itself, too"
    other = "process" if placement == "inline" else "inline"
    await kernel.move("formatter", other)
    assert (formatter.where() == os.getpid()) is (other == "inline")
    assert kernel.get(interface_of(Renders, name="Formatter")).render(document) == "   tale"  # type: ignore[type-abstract]


def test_the_interface_is_that_of_its_methods() -> None:
    derived = interface_of(Formatter)
    assert interface_of(Formatter) is derived and interface_of(derived) is derived
    assert issubclass(derived, Interface)
    contract = derived.__contract__
    assert isinstance(contract, Contract)
    assert (contract.name, contract.version) == ("Formatter", "1.0")
    assert list(contract.methods) == ["inherited", "render", "count", "lines", "ticks", "where", "fail"]
    assert [each.blocking for each in contract.methods.values()] == [True, True, False, True, False, True, True]
    assert contract.describe().documentation == "Formats documents."
    assert contract.hash == Contract.of(Formatter).hash
    with pytest.raises(ContractError, match="an interface only declares it"):
        derived().where()


def test_what_can_not_be_served_is_listed() -> None:
    with pytest.raises(
        ContractError, match=r"Mixed can't be served as it is.*\"module:Mixed\[one, another\]\""
    ) as raised:
        interface_of(Mixed)
    assert [line.partition(":")[0] for line in raised.value.differences] == [
        "Mixed.untyped", "Mixed.no_result", "Mixed.lock", "Mixed.gathers", "Mixed.stop", "Mixed.start", "Mixed.save",
    ]  # fmt: skip
    assert "a hook that the kernel calls for a plug-in's state" in raised.value.differences[-1]
    with pytest.raises(ContractError, match=r"Mixed.bad: there is no such method"):
        interface_of(Mixed, only=["good", "bad"])
    with pytest.raises(ContractError, match="only: got 'good', wanted a list"):
        interface_of(Mixed, only="good")
    with pytest.raises(ContractError, match="got 3, wanted a class, or a function"):
        interface_of(3)  # type: ignore[call-overload]
    with pytest.raises(ContractError, match="Empty has no typed public method"):
        interface_of(Empty)


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_the_methods_that_are_named_are_served_and_none_is_taken_for_a_hook(
    kernel: Kernel, placement: str
) -> None:
    with pytest.raises(ContractError, match=r"Mixed can't be served as it is"):
        await kernel.load("plain_samples:Mixed", name="mixed", placement=placement)
    await kernel.load("plain_samples:Mixed[good]", name="mixed", placement=placement)
    assert kernel.get(interface_of(Mixed, only=["good"])).good(3) == 3
    await kernel.restart("mixed")
    await kernel.unload("mixed")
    assert not kernel.registry.entries


@pytest.mark.parametrize("only", ["", "good,", "a b", "1"])
def test_names_between_the_brackets_are_checked(only: str) -> None:
    with pytest.raises(ContractError, match=r"wanted names of methods between the brackets"):
        source_of(f"plain_samples:Mixed[{only}]")


async def test_methods_can_be_named_of_plain_classes_only(kernel: Kernel) -> None:
    with pytest.raises(ContractError, match=r"\[total\]: \w+ is no plain class"):
        await kernel.load("core_samples:Sum[total]", name="named")


def test_check_reads_a_plain_class(tmp_path: Path) -> None:
    from mukernel.core.inspection import Subject

    seen = look_at(Subject("formatter", source_of("plain_samples:Formatter"), {"indent": "two"}, str(tmp_path)))
    assert [each.name for each in seen.interfaces] == ["Formatter"]
    assert seen.settings == ["indent: int = 2", "sort: bool = False"]
    assert seen.problems == ["config.indent is 'two': Expected `int`, got `str`"]
    seen = look_at(Subject("mixed", source_of("plain_samples:Mixed"), {}, str(tmp_path)))
    assert "Mixed.untyped" in seen.problems[0]


def test_plugins_stay_as_they_are() -> None:
    class Own(Plugin): ...

    assert plugin_class(Own) is Own
    assert plugin_class(Formatter) is plugin_class(Formatter)


# -- functions, and entry points of any group -------------------------------------------------------------------------


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution that is installed, with entry points of a group that has nothing to do with mukernel."""
    (tmp_path / "shipped_tools.py").write_text(
        "import asyncio\n"
        "from collections.abc import AsyncIterator\n"
        "def slug(text: str, *, dash: str = '-') -> str:\n"
        "    'A slug.'\n"
        "    return dash.join(text.lower().split())\n"
        "async def later(number: int) -> int:\n    await asyncio.sleep(0)\n    return number + 1\n"
        "async def count(upto: int) -> AsyncIterator[int]:\n    for number in range(upto):\n        yield number\n"
        "def untyped(text):\n    return text\n"
        "class Tool:\n    def use(self, text: str) -> str:\n        return text.upper()\n"
    )
    for name in ("shipped", "twin"):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        both = "both = shipped_tools:slug" if name == "shipped" else "both = shipped_tools:later"
        points = "slug = shipped_tools:slug\ntool = shipped_tools:Tool\nwhole = shipped_tools\n"
        (folder / "entry_points.txt").write_text(f"[some.tools]\n{points}{both}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_entry_points_of_any_group_are_plugins(kernel: Kernel, shipped: Path, placement: str) -> None:
    import shipped_tools  # type: ignore[import-not-found]

    await kernel.load("entry-point:some.tools/slug", placement=placement)
    await kernel.load("entry-point:some.tools/tool[use]", placement=placement)
    await kernel.load("shipped_tools:later", placement=placement)
    await kernel.load("shipped_tools:count", placement=placement)
    assert list(kernel.registry.entries) == ["slug", "tool", "later", "count"]
    slug = kernel.get(interface_of(shipped_tools.slug))
    assert slug.slug("Two Words") == "two-words"
    assert slug.slug("Two Words", dash="_") == "two_words"
    assert slug.__class__.__contract__.describe().documentation == "A slug."
    assert kernel.get(shipped_tools.Tool).use("a") == "A"
    assert await kernel.get(interface_of(shipped_tools.later)).later(1) == 2
    assert [each async for each in kernel.get(interface_of(shipped_tools.count)).count(3)] == [0, 1, 2]
    await kernel.swap("slug", "entry-point:some.tools/slug")
    assert slug.slug("A B") == "a-b"


@pytest.mark.parametrize(
    ("use", "problem"),
    [
        (
            "entry-point:some.tools/slag",
            r"no entry point of group 'some.tools' has that name \(known: both, slug, tool, whole",
        ),
        ("entry-point:no.such/slug", r"no entry point of group 'no.such' has that name \(known: none are installed"),
        ("entry-point:slug", "wanted 'entry-point:group/name'"),
        ("entry-point:some.tools/whole", "it is the module shipped_tools; wanted a class or a function"),
        (
            "entry-point:some.tools/both",
            "several packages have it: shipped_tools:later, shipped_tools:slug; name the one",
        ),
        ("shipped_tools:untyped", "untyped.untyped: parameter 'text'"),
    ],
)
async def test_what_is_wrong_with_an_entry_point_is_said(kernel: Kernel, shipped: Path, use: str, problem: str) -> None:
    with pytest.raises((ContractError, NotFound), match=problem):
        await kernel.load(use, name="plugin")


FOR_CHECKERS = """
from __future__ import annotations
TYPE_CHECKING = False
if TYPE_CHECKING:
    import sys
    from collections.abc import Sequence
    if sys.version_info < (3, 0):
        from nowhere_at_all import Number
    else:
        from decimal import Decimal as Number
    import datetime, email.charset
    import uuid as numbers
    from . import kinds
    from .kinds import Kind as Same
    Made = int
def other(kind: kinds.Kind, same: list[Same], when: datetime.date, number: numbers.UUID) -> None: ...
class Sums:
    def __init__(self, *, first: Sequence[int]) -> None:
        self.first = first
    def total(self, numbers: Sequence[int], factor: Number | None = None) -> Number:
        return (sum(self.first) + sum(numbers)) * factor
def made(number: Made) -> None: ...
"""


async def test_what_is_imported_for_type_checkers_only_is_a_type_all_the_same(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "sums_for_checkers").mkdir()
    (tmp_path / "sums_for_checkers" / "__init__.py").write_text(FOR_CHECKERS)
    (tmp_path / "sums_for_checkers" / "kinds.py").write_text("import enum\nclass Kind(enum.Enum):\n    A = 1")
    await kernel.load("sums_for_checkers:Sums", name="sums", placement="process", config={"first": [1, 2]})
    sums = importlib.import_module("sums_for_checkers")
    assert kernel.get(interface_of(sums.Sums)).total([3], Decimal("0.5")) == Decimal("3.0")
    kinds = importlib.import_module("sums_for_checkers.kinds")
    parameters = interface_of(sums.other).__contract__.methods["other"].parameters
    assert [each.annotation for each in parameters] == [kinds.Kind, list[kinds.Kind], date, UUID]
    with pytest.raises(ContractError, match=r"annotation 'Made' cannot be resolved .* imports"):
        interface_of(sums.made)


def test_methods_that_were_named_are_not_asked_for_again() -> None:
    with pytest.raises(ContractError, match=r"Mixed can't be served by all methods that were named") as refused:
        interface_of(Mixed, only=["untyped"])
    assert "name the methods" not in str(refused.value)


def test_a_function_that_is_not_written_in_python_is_refused_with_what_is_wanted() -> None:
    with pytest.raises(NotFound, match=r"zlib:crc32 is a builtin.*; wanted a class, or a function written in Python"):
        load_class(source_of("zlib:crc32"))
