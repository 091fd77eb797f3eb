"""What `load`, `swap` and `scale` are given is checked there, and the error names the argument."""

from __future__ import annotations

from datetime import date
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
from core_samples import Counter, Sum, Tally

from mukernel import ContractError, Interface, Kernel, NotFound, Plugin, RestartPolicy, SwapFailed, Unavailable
from mukernel.kernel.process import Limits

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": "../escaped"}, "name"),
    ({"name": ""}, "name"),
    ({"name": "kernel"}, "name"),
    ({"placement": 5}, "placement"),
    ({"placement": "process:kernel"}, "placement"),
    ({"placement": "process:a/b"}, "placement"),
    ({"placement": "node:far"}, "placement"),
    ({"replicas": "2"}, "replicas"),
    ({"replicas": True}, "replicas"),
    ({"placement": "process", "replicas": 1001}, "replicas"),
    ({"concurrency": 0}, "concurrency"),
    ({"concurrency": 10**9}, "concurrency"),
    ({"threads": -1}, "threads"),
    ({"threads": 1001}, "threads"),
    ({"placement": "sandbox", "threads": 64}, "threads"),  # its processes, which threads are among
    ({"placement": "process", "threads": 8, "limits": Limits(processes=8)}, "threads"),
    ({"checkpoint": 0}, "checkpoint"),
    ({"drain": "a"}, "drain"),
    ({"drain": float("inf")}, "drain"),
    ({"memory": "256M"}, "memory"),
    ({"log_size": 1024}, "log_size"),
    ({"memory": 1 << 60}, "memory"),
    ({"config": "x"}, "config"),
    ({"config": {"a": (1, {"b": -(2**63) - 1})}}, r"config\.a\.1\.b"),
    ({"bind": {1: "a"}}, "bind"),
    ({"bind": {"Counter": 5}}, "bind"),
    ({"bind": "Counter"}, "bind"),
    ({"grants": "Counter"}, "grants"),
    ({"grants": {"Counter": "read"}}, "grants"),
    ({"grants": ["Counter", 5]}, r"grants\[1\]"),
    ({"grants": ["Counter:"]}, r"grants\[0\]"),
    ({"folder": 3}, "folder"),
    ({"folder": "/nowhere"}, "folder"),
    ({"limits": 5}, "limits"),
    ({"limits": 0}, "limits"),
    ({"limits": Limits(memory=5)}, "memory"),
    ({"limits": Limits(files=23)}, "limits.files"),
    ({"limits": Limits(cpu_seconds=0.5)}, "limits.cpu_seconds"),  # type: ignore[arg-type]
    ({"restart": "x"}, "restart"),
    ({"restart": RestartPolicy(intensity="many")}, "restart.intensity"),  # type: ignore[arg-type]
    ({"restart": RestartPolicy(strategy="nope")}, "restart.strategy"),
]


@pytest.mark.parametrize(("options", "named"), WRONG)
async def test_a_wrong_option_is_refused_at_load(kernel: Kernel, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ContractError, match=rf"^{named}: got "):
        await kernel.load(Tally, **options)
    assert not kernel.registry.entries


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_a_binding_that_nobody_asks_for_is_refused(kernel: Kernel, placement: str) -> None:
    with pytest.raises(ContractError, match=r"^plug-in 'tally': bind\.Nope: .*it asks for: no interface$"):
        await kernel.load(Tally, placement=placement, bind={"Nope": "x"})
    await kernel.load(Tally, name="one")
    await kernel.load(Tally, name="two")
    with pytest.raises(ContractError, match=r"^plug-in 'sum': bind\.Count: .*it asks for: Counter$"):
        await kernel.load(Sum, placement=placement, bind={"Counter": "two", "Count": "two"})
    with pytest.raises(ContractError, match=r"^plug-in 'sum': bind\.Count: .*it asks for: Counter$"):
        await kernel.load(Sum, placement=placement, bind={"Count": "two"})
    assert list(kernel.registry.entries) == ["one", "two"]


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_what_several_serve_is_asked_for_with_the_parameter_and_the_remedy(
    kernel: Kernel, placement: str
) -> None:
    await kernel.load(Tally, name="one")
    await kernel.load(Tally, name="two")
    where = r"^plug-in 'sum': Sum\.__init__ asks for Counter \(parameter 'counter'\): "
    with pytest.raises(ContractError, match=where + r"several .*: 'one', 'two'; .* bind=\{'Counter': \.\.\.\}\)$"):
        await kernel.load(Sum, placement=placement)
    with pytest.raises(NotFound, match=where + "no plug-in is named 'zz'; Counter is served by: 'one', 'two'$"):
        await kernel.load(Sum, placement=placement, bind={"Counter": "zz"})
    assert list(kernel.registry.entries) == ["one", "two"]


async def test_a_wrong_configuration_is_refused_at_a_swap(kernel: Kernel) -> None:
    await kernel.load(Tally, name="tally")
    for config, named in (
        (5, "config: got 5"),
        ({1: 2}, "config: got "),
        ({"start_at": 2**70}, "config.start_at: got"),
    ):
        with pytest.raises(ContractError, match=f"^{named}"):
            await kernel.swap("tally", Tally, config=config)  # type: ignore[arg-type]
    with pytest.raises(SwapFailed, match="folder: got 3"):
        await kernel.swap("tally", "tally.py:Tally", folder=3)  # type: ignore[arg-type]
    assert await kernel.get(Counter).add(1) == 1


class Lines(Interface):
    async def last(self) -> str: ...


class Logger(Plugin, Lines):
    def __init__(self, *, files: Any, since: date | None = None) -> None:
        self.files, self.since = files, since

    async def last(self) -> str:
        return f"{self.files!r} {self.since!r}"


async def test_a_configuration_that_can_not_travel_is_refused_where_it_has_to(kernel: Kernel) -> None:
    wanted = r"^plug-in 'logger': config\.files\.1\.log is PosixPath\('/tmp'\), of type PosixPath, .* wanted a str$"
    config = {"files": ["a", {"log": Path("/tmp")}]}
    with pytest.raises(ContractError, match=wanted):
        await kernel.load(Logger, placement="process", config=config)
    await kernel.load(Logger, config=config)
    with pytest.raises(SwapFailed, match=wanted.removeprefix("^")):
        await kernel.move("logger", "process")
    with pytest.raises(ContractError, match=r"config\.files is <object .*, of type object, .* wanted text, numbers"):
        await kernel.load(Logger, name="other", placement="process", config={"files": object()})


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_a_configuration_is_the_same_wherever_a_plugin_runs(kernel: Kernel, placement: str) -> None:
    day = date(2026, 11, 26)
    await kernel.load(Logger, placement=placement, config={"files": (1, {"on": day}), "since": day})
    assert await kernel.get(Lines).last() == f"[1, {{'on': '2026-11-26'}}] {day!r}"


class Level(IntEnum):
    HIGH = 2


class Levelled(Logger):
    def __init__(self, *, files: Level) -> None:
        self.files, self.since = files, None


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_a_configuration_may_have_an_int_enum(kernel: Kernel, placement: str) -> None:
    await kernel.load(Levelled, placement=placement, config={"files": Level.HIGH})
    assert await kernel.get(Lines).last() == "<Level.HIGH: 2> None"
    with pytest.raises(SwapFailed, match="Invalid enum value 3"):
        await kernel.swap("levelled", Levelled, config={"files": IntEnum("Other", {"MORE": 3}).MORE})


async def test_a_configuration_that_is_too_deep_is_refused(kernel: Kernel) -> None:
    deep: dict[str, Any] = {}
    for _ in range(3_000):
        deep = {"files": deep}
    with pytest.raises(ContractError, match=r"^config\.files\.files.* lies more than 100 tables and lists deep"):
        await kernel.load(Logger, config=deep)


async def test_what_is_no_plugin_is_refused(kernel: Kernel) -> None:
    with pytest.raises(ContractError, match=r"^use: got 5, wanted"):
        await kernel.load(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_an_interface_is_no_plugin(kernel: Kernel, placement: str) -> None:
    wanted = r"^Counter is an interface itself: wanted a class that derives.*`class MyCounter\(Plugin, Counter\)`"
    with pytest.raises(ContractError, match=wanted):
        await kernel.load(Counter, placement=placement)


async def test_a_kernel_outside_its_context_says_so() -> None:
    kernel = Kernel()
    with pytest.raises(Unavailable, match="not open yet"):
        await kernel.load(Tally)
    async with kernel:
        await kernel.load(Tally)
    with pytest.raises(Unavailable, match="has been closed"):
        await kernel.load(Tally)
