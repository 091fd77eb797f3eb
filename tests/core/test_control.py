"""The control interface: by itself, over its socket, and against clients that are none."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from core_samples import Counter, Sum, Summing, Tally

from mukernel import (
    ContractError,
    Interface,
    Kernel,
    MukernelError,
    NotFound,
    Plugin,
    RemoteError,
    RestartPolicy,
    Unavailable,
)
from mukernel.core.control import Control
from mukernel.core.control_server import ControlServer, ControlSocket
from mukernel.core.registry import Options
from mukernel.core.stopped import StoppedPlugins
from mukernel.kernel.clock import Clock
from mukernel.mesh.route import Route
from mukernel.transports.calling import Caller
from mukernel.transports.listening import connect


class Greeter(Interface):
    async def greet(self, name: str, *, times: int = 1) -> str: ...  # type: ignore[empty-body]
    def count(self, upto: int) -> AsyncIterator[int]: ...
    def double(self, words: AsyncIterator[str]) -> AsyncIterator[str]: ...
    async def fail(self) -> None: ...
    def plain(self, number: int) -> int: ...  # type: ignore[empty-body]


class English(Plugin, Greeter):
    """Greets."""

    async def greet(self, name: str, *, times: int = 1) -> str:
        return f"Hello {name}" + "!" * times

    async def count(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number

    async def double(self, words: AsyncIterator[str]) -> AsyncIterator[str]:
        async for word in words:
            yield word * 2

    async def fail(self) -> None:
        raise LookupError("nothing there")

    def plain(self, number: int) -> int:
        return number + 1


class Broken(English):
    async def start(self) -> None:
        raise OSError("no")


class Liar(English):
    async def greet(self, name: str, *, times: int = 1) -> str:
        return 3  # type: ignore[return-value]

    async def count(self, upto: int) -> AsyncIterator[int]:
        yield "one"  # type: ignore[misc]


@dataclasses.dataclass
class Limits:
    key: bytes = b"q"
    ports: dict[int, str] = dataclasses.field(default_factory=lambda: {1: "a"})


class Store(Interface):
    async def put(self, data: bytes = b"abc", n: int = 0) -> str: ...  # type: ignore[empty-body]
    async def wait(self, limit: float = math.inf, n: int = 0, *, more: int = 1) -> str: ...  # type: ignore[empty-body]
    async def any(self, o: Any = b"abc", *, n: int) -> str: ...  # type: ignore[empty-body]
    def limit(self, limits: Limits = Limits(), n: int = 0) -> str: ...  # type: ignore[empty-body] # noqa: B008
    def count(self, data: bytes = b"abc", n: int = 0) -> AsyncIterator[bytes]: ...
    def join(self, items: AsyncIterator[str], data: bytes = b"abc", n: int = 0) -> AsyncIterator[str]: ...


class Shown(Plugin, Store):
    """Says what has arrived."""

    async def put(self, data: bytes = b"abc", n: int = 0) -> str:
        return f"{data!r} {n}"

    async def wait(self, limit: float = math.inf, n: int = 0, *, more: int = 1) -> str:
        return f"{limit} {n} {more}"

    async def any(self, o: Any = b"abc", *, n: int) -> str:
        return f"{o!r} {n}"

    def limit(self, limits: Limits = Limits(), n: int = 0) -> str:  # noqa: B008
        return f"{limits.key!r} {limits.ports} {n}"

    async def count(self, data: bytes = b"abc", n: int = 0) -> AsyncIterator[bytes]:
        for _ in range(n):
            yield data

    async def join(self, items: AsyncIterator[str], data: bytes = b"abc", n: int = 0) -> AsyncIterator[str]:
        async for item in items:
            yield f"{item} {data!r} {n}"


class Surroundings:
    def __init__(self) -> None:
        self.loop, self.now_ns = asyncio.get_running_loop(), Clock().now_ns

    def connect_thread(self, route: Route, turn: int) -> Any:
        raise AssertionError


@asynccontextmanager
async def client(path: str, greeting: bytes | None = None) -> AsyncIterator[Control]:
    wire = await connect(
        f"unix:{path}", greeting=greeting or msgspec.msgpack.encode(Control.__contract__.describe())
    )  # fmt: skip
    route = Route("control", Control, Surroundings())
    route.use_remote([Caller(wire, asyncio.get_running_loop(), Clock().now_ns)])
    wire.listen()
    try:
        yield route.proxy()
    finally:
        wire.close()


class Where(Interface):
    async def pid(self) -> int: ...  # type: ignore[empty-body]


class Here(Plugin, Where):
    async def pid(self) -> int:
        return os.getpid()


@pytest.fixture(params=["inline", "process"])
async def kernel(request: Any) -> AsyncIterator[Kernel]:
    async with Kernel("app") as made:
        await made.load(English, name="greeter", placement=request.param)
        yield made


@pytest.fixture
async def control(kernel: Kernel, tmp_path: Path) -> AsyncIterator[Control]:
    """As a command has it, over the socket."""
    socket = ControlSocket(ControlServer(kernel), str(tmp_path / "control"))
    await socket.open()
    async with client(socket.path) as proxy:
        yield proxy
    socket.close()


async def test_a_parameter_that_is_left_out_is_what_the_plugin_says(kernel: Kernel, control: Control) -> None:
    await kernel.load(Shown, name="shown", placement=kernel.registry.entry("greeter").options.placement)
    assert await control.call("Store", "put", {"n": 3}) == "b'abc' 3"
    assert await control.call("Store", "put", {"data": b"x"}) == "b'x' 0"
    assert await control.call("Store", "put", {}) == "b'abc' 0"
    assert await control.call("Store", "wait", {"n": 3}) == "inf 3 1"
    assert await control.call("Store", "wait", {"more": 3}) == "inf 0 3"
    assert await control.call("Store", "any", {"n": 3}) == "b'abc' 3"
    assert await control.call("Store", "limit", {"n": 3}) == "b'q' {1: 'a'} 3"
    assert [item async for item in control.stream("Store", "count", {"n": 2})] == [b"abc", b"abc"]

    async def items() -> AsyncIterator[str]:
        yield "one"

    assert [item async for item in control.channel(items(), "Store", "join", {"n": 2})] == ["one b'abc' 2"]
    for method in ("put", "wait", "any", "limit"):
        report = await control.bench("Store", method, {"n": 3}, callers=1, seconds=0.01)
        assert (report.errors, report.error) == (0, "")
        assert report.calls > 0


async def test_methods_are_called_by_name(control: Control) -> None:
    assert await control.call("Greeter", "greet", {"name": "Ada", "times": 2}) == "Hello Ada!!"
    assert await control.call("Greeter", "greet", {"name": "Ada"}, "greeter") == "Hello Ada!"
    assert await control.call("Greeter", "plain", {"number": 1}) == 2
    assert [item async for item in control.stream("Greeter", "count", {"upto": 200})] == list(range(200))

    async def words() -> AsyncIterator[str]:
        for word in ("a", "b"):
            yield word

    assert [item async for item in control.channel(words(), "Greeter", "double", {})] == ["aa", "bb"]


async def test_a_call_that_does_not_fit_is_refused(control: Control) -> None:
    for interface, method, arguments, kind, problem in [
        ("Gr", "greet", {}, NotFound, "no plug-in serves Gr"),
        (
            "Greeter",
            "gret",
            {},
            NotFound,
            "Greeter has no method 'gret'; it has: greet, count, double, fail, plain",
        ),
        ("Greeter", "greet", {}, ContractError, "Greeter.greet: parameter 'name' is missing: wanted str"),
        ("Greeter", "greet", {"nam": 1}, ContractError, "parameter 'nam' is unknown: wanted name, times"),
        ("Greeter", "greet", {"name": 1}, ContractError, "parameter 'name': expected str, got int"),
        (
            "Greeter",
            "count",
            {"upto": 1},
            ContractError,
            "Greeter.count is a stream method, wanted one with one reply",
        ),
    ]:
        with pytest.raises(kind, match=problem):
            await control.call(interface, method, arguments)
    with pytest.raises(ContractError, match=r"Greeter\.greet is a call method, wanted one that streams"):
        [item async for item in control.stream("Greeter", "greet", {"name": "x"})]


async def test_an_answer_that_the_interface_does_not_declare_is_refused(kernel: Kernel, control: Control) -> None:
    await kernel.swap("greeter", Liar)
    with pytest.raises(ContractError, match="the result: expected str, got int: the plug-in returned what its"):
        await control.call("Greeter", "greet", {"name": "Ada"})
    with pytest.raises(ContractError, match="an item: expected int, got str: the plug-in returned what its"):
        [item async for item in control.stream("Greeter", "count", {"upto": 1})]


async def test_errors_arrive_with_the_traceback_of_the_plugin(control: Control) -> None:
    with pytest.raises(RemoteError) as caught:
        await control.call("Greeter", "fail", {})
    assert (caught.value.type_name, caught.value.message) == ("LookupError", "nothing there")
    assert "raise LookupError" in caught.value.traceback


async def test_calls_leave_no_channel_behind(kernel: Kernel, control: Control) -> None:
    for _ in range(5):
        await control.call("Greeter", "greet", {"name": "Ada"})
    items = control.stream("Greeter", "count", {"upto": 1_000_000})
    assert await anext(items) == 0
    await items.aclose()  # type: ignore[attr-defined]
    assert await control.call("Greeter", "plain", {"number": 1}) == 2
    while kernel.registry.entry("greeter").replicas[0].port.channels:  # the stream's end is on its way
        await control.ps()
    assert all(not space.startswith("visitor") for space in kernel.switchboard.space_plugins)
    assert (await kernel.ledger("greeter")).lost == 0


async def test_ps_tree_and_describe(kernel: Kernel, control: Control) -> None:
    (status,) = await control.ps()
    placement = kernel.registry.entry("greeter").options.placement
    assert (status.name, status.state, status.placement, status.replicas) == (
        "greeter",
        "serving",
        placement,
        1,
    )
    tree = await control.tree()
    assert [plugin.name for process in tree for plugin in process.plugins] == ["greeter"]
    described = await control.describe("greeter")
    assert described.documentation == "Greets."
    assert described.interfaces[0] == Greeter.__contract__.describe()
    assert (await control.serving("Greeter")).plugin == "greeter"
    with pytest.raises(NotFound, match="no plug-in is named 'other'; there are: greeter"):
        await control.describe("other")


async def test_ps_while_a_plugin_is_scaled(kernel: Kernel, control: Control) -> None:
    """One of its processes does not answer, so that there is time for that."""
    await kernel.load(Here, name="other", placement="process", replicas=2)
    instance = kernel.registry.entry("other").replicas[0].instance
    assert instance is not None
    os.kill(instance.place.pid, signal.SIGSTOP)
    asked = asyncio.create_task(control.ps())
    await control.about()  # which was asked after that, so that is under way
    scale = asyncio.create_task(kernel.scale("other", 4))
    (other,) = [each for each in await asked if each.name == "other"]
    assert (other.state, other.replicas) == ("not answering", 2)
    os.kill(instance.place.pid, signal.SIGCONT)
    await scale


async def test_each_call_begins_with_another_replica(kernel: Kernel, control: Control) -> None:
    await kernel.load(Here, name="here", placement="process", replicas=3)
    for _ in range(2):
        assert len({await control.call("Where", "pid", {}) for _ in range(3)}) == 3


async def test_a_failed_swap_is_a_report_and_the_old_version_serves(control: Control) -> None:
    report = await control.swap("greeter", f"{__file__}:Broken")
    assert report.rolled_back
    assert report.reason is not None
    assert await control.call("Greeter", "plain", {"number": 1}) == 2
    report = await control.swap("greeter")  # the same source again
    assert not report.rolled_back


async def test_stopped_plugins_are_listed_and_start_as_they_were(kernel: Kernel, control: Control) -> None:
    proxy = kernel.get(Greeter)
    assert await proxy.greet("Ada") == "Hello Ada!"
    await control.stop_plugin("greeter")
    (status,) = await control.ps()
    assert (status.state, status.interfaces) == ("stopped", ["Greeter 1.0"])
    with pytest.raises(Unavailable, match="plug-in 'greeter' is stopped; `mukernel start greeter` starts it again"):
        await proxy.greet("Ada")
    with pytest.raises(NotFound, match="is stopped"):
        await control.call("Greeter", "plain", {"number": 1})
    await control.start_plugin("greeter")
    assert await proxy.greet("Ada") == "Hello Ada!"  # the very proxy that was held all along
    (status,) = await control.ps()
    assert status.state == "serving"


async def test_a_stopped_plugin_starts_with_every_option_that_it_had(kernel: Kernel) -> None:
    await kernel.load(
        Tally, name="tally", placement="process:shared", replicas=2, concurrency=3, threads=1, checkpoint=5.0,
        drain=1.0, restart=RestartPolicy(intensity=1), memory=1 << 34, grants=["Counter"], shared_memory=1 << 20,
        log_size=1 << 20,
    )  # fmt: skip
    before = kernel.registry.entry("tally").options
    plain = Options()
    same = [each.name for each in fields(before) if getattr(before, each.name) == getattr(plain, each.name)]
    assert same == ["config", "bind", "sandbox"]  # these are in tests of their own
    stopped = StoppedPlugins(kernel)
    await stopped.stop("tally")
    await stopped.start("tally")
    entry = kernel.registry.entry("tally")
    assert replace(entry.options, grants=entry.grants) == replace(before, grants=entry.grants)


async def test_a_stopped_plugin_starts_with_the_others_that_it_was_bound_to(kernel: Kernel) -> None:
    for name in ("one", "two"):
        await kernel.load(Tally, name=name)
    await kernel.load(Sum, name="sum", bind={"Counter": "two"})
    stopped = StoppedPlugins(kernel)
    await stopped.stop("sum")
    await stopped.start("sum")
    await kernel.get(Summing).add_twice(1)
    assert await kernel.get(Counter, plugin="two").value() == 2


async def test_a_plugin_that_was_stopped_comes_before_its_callers_still(kernel: Kernel) -> None:
    await kernel.load(Tally, name="tally")
    await kernel.load(Sum, name="sum")
    stopped = StoppedPlugins(kernel)
    await stopped.stop("tally")
    await stopped.start("tally")
    assert kernel.registry.entry("tally").order < kernel.registry.entry("sum").order


async def test_a_plugin_that_can_not_be_started_stays_stopped(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = StoppedPlugins(kernel)
    await stopped.stop("greeter")

    async def refuse(*given: Any, **options: Any) -> None:
        raise Unavailable("not now")

    with monkeypatch.context() as patch:
        patch.setattr(kernel, "start", refuse)
        with pytest.raises(Unavailable, match="not now"):
            await stopped.start("greeter")
    await stopped.start("greeter")
    assert stopped.declarations == {}


async def test_events_come_as_they_happen(control: Control) -> None:
    events = control.events()
    first = await anext(events)
    assert (first.number, first.what, first.plugin) == (1, "load", "greeter")
    waiting = asyncio.ensure_future(anext(events))
    await control.stop_plugin("greeter")
    event = await waiting
    assert (event.number, event.what) == (2, "unload")
    await events.aclose()  # type: ignore[attr-defined]
    later = control.events(since=1)
    assert (await anext(later)).what == "unload"
    await later.aclose()  # type: ignore[attr-defined]


async def test_bench_counts_what_it_called(kernel: Kernel, control: Control) -> None:
    report = await control.bench("Greeter", "greet", {"name": "Ada"}, None, 4, 0.02)
    assert report.calls > 0
    assert (report.errors, report.placement) == (0, kernel.registry.entry("greeter").options.placement)
    assert 0 < report.p50 <= report.p99
    assert (await control.bench("Greeter", "fail", {}, None, 1, 0.01)).errors > 0
    with pytest.raises(ContractError, match="callers: got 0, wanted 1 to 10000"):
        await control.bench("Greeter", "greet", {"name": "Ada"}, None, 0, 1.0)
    with pytest.raises(ContractError, match="seconds: got 100, wanted more than 0 and at most 60"):
        await control.bench("Greeter", "greet", {"name": "Ada"}, None, 1, 100.0)


async def test_a_kernel_that_is_embedded_is_not_shut_down(control: Control) -> None:
    with pytest.raises(NotFound, match="did not say how to end it"):
        await control.shutdown()


async def test_the_socket_is_for_clients_of_a_contract_that_fits(kernel: Kernel, tmp_path: Path) -> None:
    socket = ControlSocket(ControlServer(kernel), str(tmp_path / "control"))
    await socket.open()

    class Other(Interface, name="mukernel.Control"):
        async def ps(self, more: int) -> int: ...  # type: ignore[empty-body]

    for greeting, problem in [
        (b"hello", "begins with a description of its contract"),
        (b"\x91" * 50_000 + b"\xc0", "begins with a description of its contract"),  # nested too deep
        (msgspec.msgpack.encode(Other.__contract__.describe()), "the command of another version"),
    ]:
        async with client(socket.path, greeting) as proxy:
            with pytest.raises(MukernelError, match=problem):
                await proxy.ps()
    async with client(socket.path) as proxy:
        assert len(await proxy.ps()) == 1
    with pytest.raises(Unavailable, match="somebody listens"):
        await ControlSocket(ControlServer(kernel), socket.path).open()
    socket.close()
