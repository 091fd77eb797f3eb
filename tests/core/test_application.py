"""The application file and what is made of it: every problem found, with its place, and nothing started."""

from __future__ import annotations

import asyncio
import os
import re
import select
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mukernel import ContractError, Interface, Kernel, NotFound, Unavailable
from mukernel.core.application import read_application
from mukernel.core.application_file import WANTED_USE, check_application, read_application_file
from mukernel.core.registry import RestartPolicy

PARTS = """
from mukernel import Clock, Interface, Plugin

class Files(Interface):
    async def read(self) -> str: ...
class Index(Interface):
    async def size(self) -> int: ...
class Search(Interface):
    async def find(self, word: str) -> str: ...

class Disk(Plugin, Files):
    def __init__(self, clock: Clock, *, path: str = "here", depth: int = 3) -> None: self.path = path
    async def read(self) -> str: return self.path
class OtherDisk(Disk): ...
class Words(Plugin, Index):
    def __init__(self, files: Files) -> None: self.files = files
    async def size(self) -> int: return len(await self.files.read())
class Finder(Plugin, Search):
    def __init__(self, index: Index, files: Files | None = None) -> None: self.index = index
    async def find(self, word: str) -> str: return f"{word} among {await self.index.size()}"
class Circular(Plugin, Files):
    def __init__(self, search: Search) -> None: ...
    async def read(self) -> str: return ""
class Half(Plugin, Files):
    pass
class Failing(Plugin, Files):
    def __init__(self) -> None: raise OSError("no disk")
    async def read(self) -> str: return ""
"""


def checked(plugins: dict[str, Any], **rest: Any) -> list[str]:
    return check_application({"plugins": plugins, **rest}, "app.toml", "/apps/shop")[1]


OTHER = "wanted another name: 'kernel' is that of the kernel's own process and log"


def table(**keys: Any) -> dict[str, Any]:
    return {"a": {"use": "m:A", "placement": "process", **keys}}


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"use": 3}, f"use: got 3, wanted {WANTED_USE}"),
        ({"replicas": "two"}, "replicas: got 'two', wanted a whole number of at least 1 and at most 1,000"),
        ({"replicas": 0}, "replicas: got 0, wanted a whole number of at least 1 and at most 1,000"),
        ({"replicas": True}, "replicas: got True, wanted a whole number of at least 1 and at most 1,000"),
        ({"threads": -1}, "threads: got -1, wanted a whole number of at least 0 and at most 1,000"),
        (
            {"placement": "sandbox", "threads": 8, "sandbox": {"processes": 8}},
            "threads: got 8, wanted fewer than sandbox.processes, 8, which counts the first thread, too",
        ),
        (
            {"memory": "12X"},
            "memory: got '12X', wanted a size in bytes such as 1048576, '512K', '256M' or '2G'",
        ),
        ({"checkpoint": "0s"}, "checkpoint: got '0s', wanted a time of at least 1 ms, such as '5s'"),
        (
            {"drain": "5 parsecs"},
            "drain: got '5 parsecs', wanted a time in seconds such as 5 or 0.5, or '200ms', '5s', '2m', '1h'",
        ),
        (
            {"placement": "moon"},
            "placement: got 'moon', wanted 'inline', 'process', 'process:NAME', 'sandbox' or 'sandbox:NAME'",
        ),
        (
            {"placement": "process:../x"},
            "placement: got 'process:../x', wanted 'inline', 'process', 'process:NAME', 'sandbox' or 'sandbox:NAME'",
        ),
        ({"placement": "process:kernel"}, f"placement: got 'process:kernel', {OTHER}"),
        ({"memory": "1M"}, "memory: got '1M', wanted '32M', which a process needs to start, to '1024T'"),
        ({"cpu": "1ms"}, "cpu: got '1ms', wanted a time of at least 1 s, such as '5s'"),
        ({"cpu": 10**10}, "cpu: got 10000000000, wanted a time of at most 1,000,000,000 seconds"),
        ({"log_size": "4K"}, "log_size: got '4K', wanted '64K' to '1024T'"),
        ({"log_size": 0}, "log_size: got 0, wanted a size in bytes such as 1048576, '512K', '256M' or '2G'"),
        ({"memory": 2**62}, f"memory: got {2**62}, wanted '32M', which a process needs to start, to '1024T'"),
        (
            {"memory": "9" * 400},
            f"memory: got '{'9' * 400}', wanted a size in bytes such as 1048576, '512K', '256M' or '2G'",
        ),
        ({"replicas": 1001}, "replicas: got 1001, wanted a whole number of at least 1 and at most 1,000"),
        ({"checkpoint": "1us"}, "checkpoint: got '1us', wanted a time of at least 1 ms, such as '5s'"),
        (
            {"config": {"sizes": [1, {"most": 2**64}]}},
            f"config.sizes.1.most: got {2**64}, wanted a whole number of at most 64 bits; give a larger one as text",
        ),
        ({"config": 3}, "config: got 3, wanted a table"),
        (
            {"bind": ["a"]},
            "bind: got ['a'], wanted a table of names of plug-ins by interface, such as { Store = 'books' }",
        ),
        (
            {"bind": {"Files": 3}},
            "bind: got {'Files': 3}, wanted a table of names of plug-ins by interface, such as { Store = 'books' }",
        ),
        ({"restart": 3}, "restart: got 3, wanted a table"),
        (
            {"restart": {"strategy": "all"}},
            "restart.strategy: got 'all', wanted 'one-for-one' or 'rest-for-one'",
        ),
        ({"restart": {"intensity": -1}}, "restart.intensity: got -1, wanted a whole number of at least 0"),
        ({"placment": "inline"}, "placment is unknown; did you mean 'placement'?"),
    ],
)
def test_a_bad_value_is_named_with_its_place(keys: dict[str, Any], problem: str) -> None:
    assert checked(table(**keys)) == [f"app.toml: plugins.a.{problem}"]


def test_names_that_no_plugin_may_have() -> None:
    sound = table()["a"]
    assert checked({"kernel": sound}) == [f"app.toml: plugins.kernel: got 'kernel', {OTHER}"]
    assert checked({"a" * 63: sound}) == []
    assert "wanted 1 to 63 letters" in checked({"a" * 64: sound})[0]  # run refuses it, too


def test_problems_of_the_file_itself() -> None:
    assert checked({}) == ["app.toml: there is no [plugins.NAME] table, wanted at least one"]
    assert checked({"a": 3}) == ["app.toml: plugins.a: got 3, wanted a table"]
    assert checked({"a": {}})[0].startswith("app.toml: plugins.a.use is missing, wanted 'module:Class'")
    assert checked(table(), app={"name": "a/b"})[0].startswith("app.toml: app.name: got 'a/b', wanted 1 to 63 letters")
    assert checked(table(), pluggins={}) == ["app.toml: pluggins is unknown; did you mean 'plugins'?"]
    assert checked({"a b": {"use": "m:A"}})[0].startswith("app.toml: plugins.a b: got 'a b', wanted 1 to 63")
    for key, value in {"timeout": "200ms", "retries": 2, "split": {}}.items():
        assert checked(table(), routes={"Files": {key: value}}) == [
            f"app.toml: routes.Files.{key} is not available in this version; leave it out"
        ]


def test_what_is_no_file_of_an_application_is_not_read(tmp_path: Path) -> None:
    pipe, huge = tmp_path / "pipe.toml", tmp_path / "huge.toml"
    os.mkfifo(pipe)
    huge.touch()
    os.truncate(huge, 1 << 40)
    for endless in ("/dev/zero", str(pipe)):
        with pytest.raises(
            NotFound, match=f"^{endless} can't be read: it is no regular file, wanted an application file"
        ):
            read_application_file(endless)
    with pytest.raises(ContractError, match=r"huge.toml has more than 4 MiB, wanted an application file in TOML"):
        read_application_file(str(huge))


def test_what_does_not_go_with_inline() -> None:
    problems = checked({"a": {"use": "m:A", "replicas": 2, "memory": "64M", "cpu": "1s", "log_size": "1M"}})
    assert [problem.partition(":")[2].split(":")[0] for problem in problems] == [
        " plugins.a.replicas",
        " plugins.a.memory",
        " plugins.a.log_size",
        " plugins.a.cpu",
    ]


def test_values_are_converted() -> None:
    keys = {
        "memory": "256M",
        "cpu": "1.5s",
        "placement": "process",
        "log_size": "1M",
        "checkpoint": "5s",
        "drain": 2,
        "restart": {"period": "1m", "hang": "500ms"},
    }
    file, problems = check_application({"plugins": table(**keys)}, "app.toml", "/apps/shop")
    assert problems == []
    plugin = file.plugins["a"]
    assert (plugin.memory, plugin.cpu, plugin.checkpoint, plugin.drain) == (256 * 1024**2, 2, 5.0, 2.0)
    assert plugin.log_size == 1024**2
    assert plugin.restart == RestartPolicy(period=60.0, hang=0.5)
    assert file.name == "shop"  # its folder's


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "app.toml"
    path.write_text('[app]\nname = "shop"\n[plugins.a]\nuse = "parts:Disk"\n', encoding="utf-8-sig")
    file, problems = read_application_file(str(path))
    assert (file.name, problems) == ("shop", [])


def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "app.toml").write_text("[plugins\n")
    with pytest.raises(ContractError, match=r"app.toml is not TOML: Expected '\]'.*at line 1, column 9"):
        read_application_file(str(tmp_path / "app.toml"))
    with pytest.raises(NotFound, match="there is no file"):
        read_application_file(str(tmp_path / "other.toml"))


@pytest.mark.parametrize(
    "key", [".".join(["a"] * 1_000) + " = 1", "a = " + "[" * 150 + "]" * 150, "a = " + "[" * 2_000 + "]" * 2_000]
)
def test_a_value_that_lies_too_deep(tmp_path: Path, key: str) -> None:
    """It was RecursionError, wherever the value was looked at next."""
    (tmp_path / "app.toml").write_text(f'[plugins.a]\nuse = "parts:Disk"\n[plugins.a.config]\n{key}\n')
    with pytest.raises(
        ContractError, match=r"app\.toml: .* lies more than 100 tables and lists deep, wanted at most 100"
    ):
        read_application_file(str(tmp_path / "app.toml"))


# -- with classes, in files ----------------------------------------------------------------------------------


@pytest.fixture
def application(tmp_path: Path) -> Any:
    """Write an application of PARTS; return the path of its file."""
    (tmp_path / "parts.py").write_text(PARTS)

    def write(*lines: str, **files: str) -> str:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        (tmp_path / "app.toml").write_text("\n".join(lines))
        return str(tmp_path / "app.toml")

    return write


def plugin(name: str, use: str, *lines: str) -> str:
    return "\n".join([f"[plugins.{name}]", f'use = "{use}"', *lines])


async def problems_of(path: str) -> list[str]:
    with pytest.raises(ContractError) as caught:
        await read_application(path)
    return caught.value.differences


async def test_classes_are_inspected_without_being_imported_here(application: Any) -> None:
    import sys

    path = application(
        plugin("search", "parts:Finder"),
        plugin("index", "parts:Words"),
        plugin("files", "parts:Disk", "config.path = 'x'"),
    )
    found = await read_application(path)
    assert found.order == ["files", "index", "search"]
    assert found.inspected["files"].settings == ["path: str = 'here'", "depth: int = 3"]
    there = filter(os.path.exists, found.inspected["index"].files)
    assert [os.path.basename(file) for file in there] == ["parts.py"]
    assert "parts" not in sys.modules


async def test_what_is_bound_for_a_plugin_that_is_not_installed_is_not_judged(
    application: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = application(
        plugin("index", "shop-words==1.0", "placement = 'process'", "bind = { Files = 'files' }"),
        plugin("files", "parts:Disk"),
    )
    (problem,) = await problems_of(path)
    assert problem.startswith("app.toml: plugins.index.use = 'shop-words==1.0' is not installed; ")


async def test_configuration_that_does_not_fit_the_constructor(application: Any) -> None:
    path = application(plugin("files", "parts:Disk", "config = { path = 3, dept = 4 }"))
    assert await problems_of(path) == [
        "app.toml: plugins.files.config.path is 3: Expected `str`, got `int`",
        "app.toml: plugins.files.config.dept is unknown to Disk; it takes: path, depth",
    ]


async def test_a_key_that_is_wrong_does_not_hide_what_is_wrong_with_classes(application: Any) -> None:
    path = application(
        plugin("files", ""),
        plugin("index", "parts:Words"),
        plugin("half", "parts:Half", "placement = 'moon'"),
        plugin("search", "nowhere:Finder", "replicas = 3"),
        plugin("disk", "parts:Nobody", "config = 3"),
        plugin("other", "parts:Nobody", f"config.depth = {1 << 64}"),
        "[route]",
    )
    problems = [problem.removeprefix("app.toml: ").partition(", wanted")[0] for problem in await problems_of(path)]
    assert [re.split(r" \(|\n", problem)[0] for problem in problems] == [
        "route is unknown; did you mean 'routes'?",
        "plugins.files.use: got ''",  # and it may well serve what `index` needs
        "plugins.half.placement: got 'moon'",
        "plugins.search.replicas: got 3",
        "plugins.disk.config: got 3",
        f"plugins.other.config.depth: got {1 << 64}",
        "plugins.half.use: Half does not implement Files",
        "plugins.search.use: there is no module 'nowhere'",
    ]


async def test_more_replicas_than_a_class_can_have_are_told(application: Any) -> None:
    events = "mukernel.servers.events:EventServer"
    path = application(plugin("events", events, "placement = 'process'", "replicas = 2"))
    [problem] = await problems_of(path)
    assert problem.startswith("app.toml: plugins.events.replicas: got 2, wanted 1 for 'events'")


async def test_what_is_needed_and_not_served_is_told_beside_a_wrong_key(application: Any) -> None:
    path = application(plugin("index", "parts:Words", "drain = 'soon'"))
    assert (await problems_of(path))[1:] == [
        "app.toml: index needs Files (parameter 'files'); no plug-in of app.toml serves it"
    ]


async def test_classes_that_can_not_be_used(application: Any) -> None:
    path = application(
        plugin("a", "nowhere:A"),
        plugin("b", "parts:Nobody"),
        plugin("c", "parts:Half"),
        plugin("d", "broken:D"),
        plugin("e", "leaves:E"),
        plugin("f", "dies:F"),
        plugin("g", "no-such-entry-point"),
        plugin("h", "none.py:H"),
        broken="import what_is_not_there\n",
        leaves="raise SystemExit(3)\n",
        dies="import os\nos._exit(4)\n",
    )
    problems = await problems_of(path)
    assert len(problems) == 8
    found = "\n".join(problems)
    for expected in (
        "plugins.a.use: there is no module 'nowhere' (looked for nowhere:A)",
        "plugins.b.use: parts:Nobody is not there; wanted a class, or a function written in Python (the module "
        "defines: Files,",
        "plugins.c.use: Half does not implement Files\n    - Half.read: is not implemented, and Files.read",
        "plugins.d.use: importing broken raised ModuleNotFoundError: No module named 'what_is_not_there'\n"
        "    broken.py:1: import what_is_not_there",
        "plugins.e.use: importing leaves raised SystemExit: 3",
        "plugins.f.use: importing dies ended the process that did it (exit status 4)",
        "plugins.g.use = 'no-such-entry-point': no entry point of group 'mukernel.plugins' has that name",
        "plugins.h.use = 'none.py:H': there is no file",
    ):
        assert f"app.toml: {expected}" in found


async def test_a_declaration_that_nobody_foresaw_is_a_problem_of_its_plugin(application: Any) -> None:
    path = application(
        plugin("a", "odd:A"),
        plugin("files", "odd:Disk"),
        plugin("c", "odd:C"),
        odd="""
from mukernel import Interface, Plugin
from parts import Disk
class Odd:
    def __repr__(self): raise OSError("it can't be shown")
class Shown(Interface):
    async def show(self, thing: int = Odd()) -> None: ...
class A(Plugin, Shown):
    async def show(self, thing: int = Odd()) -> None: ...
class C(Plugin):
    def __init__(self, *, kind: Odd = None, thing: "[" = 1) -> None: ...
""",
    )
    problems = await problems_of(path)
    found = "\n".join(problems)
    assert "app.toml: plugins.a.use: reading its interfaces raised OSError: it can't be shown" in found
    assert "app.toml: plugins.c.use: reading its constructor raised SyntaxError" in found
    assert "plugins.files" not in found


async def test_an_import_that_never_returns_is_named_and_ended(
    application: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mukernel.core.inspection.LIMIT", 3.0)
    path = application(
        plugin("a", "endless:A", "restart.hang = 0.1"),
        plugin("b", "parts:Nobody"),
        endless="import os, subprocess\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        "open(__file__ + '.pids', 'w').write(f'{os.getpid()} {child.pid}')\n"
        "while True: pass\n",
    )
    async with asyncio.timeout(20):
        problems = await problems_of(path)
    assert problems[0] == (
        "app.toml: plugins.a.use: importing endless did not return within 3 s; "
        "one that has to take longer wants a longer restart.hang"
    )
    assert "plugins.b.use: parts:Nobody is not there" in problems[1]
    for pid in Path(path).with_name("endless.py.pids").read_text().split():
        wait_for_end(int(pid))


def wait_for_end(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:  # it has ended, and been reaped
        return
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    assert poll.poll(10_000), f"process {pid} still runs"
    os.close(handle)


async def test_a_cycle_of_real_classes(application: Any) -> None:
    path = application(
        plugin("files", "parts:Circular"), plugin("index", "parts:Words"), plugin("search", "parts:Finder")
    )
    problems = await problems_of(path)
    assert len(problems) == 1
    assert "plug-ins that need each other can't be started" in problems[0]


@pytest.fixture
async def kernel() -> AsyncIterator[Kernel]:
    async with Kernel("app") as made:
        yield made


async def test_a_sound_application_runs(application: Any, kernel: Kernel) -> None:
    path = application(
        plugin("search", "parts:Finder"),
        plugin("index", "parts:Words", "placement = 'process'"),
        plugin("files", "parts:Disk", "placement = 'process'", "replicas = 2", "config.path = 'abc'"),
    )
    loaded: list[str] = []
    await (await read_application(path)).start(kernel, lambda table: loaded.append(table.name))
    assert loaded == ["files", "index", "search"]

    class Search(Interface):
        async def find(self, word: str) -> str: ...  # type: ignore[empty-body]

    assert await kernel.get(Search).find("x") == "x among 3"
    assert len(kernel.registry.entry("files").replicas) == 2


async def test_of_two_that_serve_an_interface_each_is_given_the_one_that_is_bound(
    application: Any, kernel: Kernel
) -> None:
    path = application(
        plugin("index", "parts:Words", "bind = { Files = 'long' }"),
        plugin("short", "parts:Disk", "config.path = 'x'"),
        plugin("long", "parts:OtherDisk", "config.path = 'xyz'"),
    )
    await (await read_application(path)).start(kernel)

    class Index(Interface):
        async def size(self) -> int: ...  # type: ignore[empty-body]

    assert await kernel.get(Index).size() == 3


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_a_plugin_that_can_not_start_is_named(application: Any, kernel: Kernel, placement: str) -> None:
    path = application(plugin("files", "parts:Failing", f"placement = '{placement}'"))
    found = await read_application(path)  # that it fails shows only when it is built
    with pytest.raises(Unavailable, match=r"plugins.files can't be started: OSError: no disk\n  .*parts\.py:\d+: "):
        await found.start(kernel)
    assert kernel.registry.entries == {}


def test_this_module_needs_no_kernel_to_check(application: Any) -> None:
    """`check` runs on a loop of its own and leaves nothing behind."""
    path = application(plugin("files", "parts:Disk"))
    assert asyncio.run(read_application(path)).order == ["files"]
