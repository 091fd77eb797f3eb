"""What a constructor asks for: interfaces are injected, the rest is configuration, checked and converted."""

from __future__ import annotations

import datetime
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from core_samples import Arithmetic, BlockingUser, Counter, Plain, Sum, Summing, Tally, Through

from mukernel import Blocking, Clock, ContractError, Interface, Kernel, Plugin
from mukernel.core.injection import Need, Setting, checked_configuration, read_constructor


class Limits(msgspec.Struct):
    depth: int
    names: list[str] = []


class Wide(Plugin):
    def __init__(
        self, counter: Counter, plain: Blocking[Plain], spare: Summing | None = None, *,
        limits: Limits, since: datetime.date = datetime.date(2020, 1, 1), **rest: Any,
    ) -> None: ...  # fmt: skip


def test_parameters_are_told_apart() -> None:
    needs, settings = read_constructor(Wide)
    assert needs[:2] == [Need("counter", Counter, False, True), Need("plain", Plain, True, True)]
    assert [setting.name for setting in settings][-2:] == ["limits", "since"]
    assert settings[-2] == Setting("limits", Limits, True, settings[-2].default)
    assert read_constructor(type("Bare", (Plugin,), {})) == ([], [])


def test_an_optional_interface_is_a_need_that_may_be_missing() -> None:
    needs, _ = read_constructor(Wide)
    assert needs[2:] == [Need("spare", Summing, False, False)]


def test_what_can_not_be_given_by_name_is_refused_where_it_is_required() -> None:
    class Positional(Plugin):
        def __init__(self, depth: int, /) -> None: ...

    class Defaults(Plugin):
        def __init__(self, depth: int = 3, /, *, named: int = 3) -> None: ...

    with pytest.raises(
        ContractError, match=r"Positional.__init__: parameter 'depth' can be given by position only, and"
    ):
        read_constructor(Positional)
    assert [each.name for each in read_constructor(Defaults)[1]] == ["named"]


def test_configuration_is_converted_and_checked() -> None:
    _, settings = read_constructor(Wide)
    made = checked_configuration(Wide, "wide", settings, {"limits": {"depth": 3}, "since": "2024-05-06"})
    assert made == {"limits": Limits(3), "since": datetime.date(2024, 5, 6)}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "plug-in 'wide': config.limits is missing; Wide wants Limits"),
        ({"limits": {}}, r"config.limits is {}: .*`depth`"),
        ({"limits": {"depth": 1, "names": [1]}}, r"Expected `str`, got `int` - at `\$.names\[0\]`"),
        ({"limits": {"depth": 1}, "sinse": 1}, "config.sinse is unknown to Wide; it takes: .*limits, since"),
    ]
    for given, message in wrong:
        with pytest.raises(ContractError, match=message):
            checked_configuration(Wide, "wide", settings, given)


@pytest.mark.parametrize("annotation", [Path, Path | None])
def test_who_gives_a_str_for_a_path_is_told_what_to_write(annotation: Any) -> None:
    settings = [Setting("path", annotation, True, None)]
    with pytest.raises(
        ContractError, match=r"config\.path is '/x': Expected `Path.*`, got `str`; annotate it as str, and"
    ):
        checked_configuration(Wide, "wide", settings, {"path": "/x"})
    with pytest.raises(ContractError, match=r"got `int`$"):
        checked_configuration(Wide, "wide", settings, {"path": 5})


def test_keys_of_configuration_are_converted_as_toml_has_only_text() -> None:
    class Ports(Plugin):
        def __init__(self, *, ports: dict[int, str], sites: dict[uuid.UUID, dict[float, int]]) -> None: ...

    _, settings = read_constructor(Ports)
    site = uuid.UUID(int=1)
    for given in ({"ports": {"80": "http"}, "sites": {str(site): {"1.5": 1}}}, {"ports": {80: "http"}, "sites": {}}):
        made = checked_configuration(Ports, "ports", settings, given)
        assert made["ports"] == {80: "http"}
        assert made["sites"] in ({}, {site: {1.5: 1}})
    with pytest.raises(ContractError, match=r"config\.ports is .*Expected `int`, got `str` - at `key`"):
        checked_configuration(Ports, "ports", settings, {"ports": {"http": "80"}, "sites": {}})


def test_an_annotation_that_does_not_resolve_is_named() -> None:
    class Lost(Plugin):
        def __init__(self, thing: NoSuchType) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ContractError, match=r"Lost.__init__: an annotation can't be resolved: .*NoSuchType"):
        read_constructor(Lost)


class Ticking(Interface):
    async def later(self, seconds: float) -> float: ...
    async def today(self) -> datetime.datetime: ...


class Ticker(Plugin, Ticking):
    """Needs nothing but the kernel's clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    async def later(self, seconds: float) -> float:
        began = self.clock.now()
        await self.clock.sleep(seconds)
        return self.clock.now() - began

    async def today(self) -> datetime.datetime:
        return self.clock.wall()


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_the_clock_is_there_without_a_plugin(kernel: Kernel, placement: str) -> None:
    await kernel.load(Ticker, placement=placement)
    ticking = kernel.get(Ticking)
    assert await ticking.later(0.001) >= 0.001
    assert (await ticking.today()).tzinfo is not None
    assert kernel.get(Clock).now() > 0


@pytest.mark.parametrize("placement", ["process", "process:other"])
async def test_blocking_proxies_are_injected(kernel: Kernel, placement: str) -> None:
    await kernel.load(Arithmetic, placement="process")
    await kernel.load(Tally, name="counter", placement="process")
    await kernel.load(BlockingUser, placement=placement)
    through = kernel.get(Through)
    assert through.plus_two(5) == 7
    await kernel.swap("counter", Tally)
    await kernel.restart("arithmetic")
    assert through.plus_two(6) == 8


async def test_an_optional_need_stays_none_until_somebody_serves_it(kernel: Kernel) -> None:
    await kernel.load(Modest, name="modest")
    assert await kernel.get(Having).has() is False
    await kernel.load(Tally, name="counter")
    await kernel.load(Sum, name="sum")
    await kernel.restart("modest")
    assert await kernel.get(Having).has() is True


class Having(Interface):
    async def has(self) -> bool: ...


class Modest(Plugin, Having):
    def __init__(self, summing: Summing | None = None) -> None:
        self.summing = summing

    async def has(self) -> bool:
        return self.summing is not None
