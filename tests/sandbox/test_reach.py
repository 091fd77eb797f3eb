"""What a sandbox may write to leads nowhere that the kernel, or who is in no sandbox, opens by a name: else it could
put a link to anything in that place. And the folder of the control socket is out of its sight."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from sandbox_plugins import Escapist, Hostile, Neighbour, Quiet

from mukernel import ContractError, Kernel, Sandbox
from mukernel.cli.main import main
from mukernel.contract import SwapFailed
from mukernel.core.inspection import inspect_plugins
from mukernel.core.messages import Source
from mukernel.core.reach import Reach, paths_of
from mukernel.core.registry import Options
from mukernel.drivers.block import BlockDriver
from mukernel.kernel.process import Limits
from mukernel.sandbox.policy import folders_on_the_way, replaceable
from mukernel.servers.files import Files, FileServer


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """A folder that a sandbox writes to, with a folder in it."""
    (tmp_path / "share" / "x").mkdir(parents=True)
    (tmp_path / "share" / "x" / "file").write_text("shared")
    return tmp_path / "share"


async def load_writer(kernel: Kernel, share: Path) -> None:
    await kernel.load(Escapist, name="writer", placement="sandbox", sandbox=Sandbox(write=(str(share),)))


@pytest.mark.parametrize("grant", ["read", "write"])
async def test_no_sandbox_redirects_what_another_is_given(share: Path, grant: str) -> None:
    problem = rf"plug-in 'writer': sandbox.write.*sandbox.{grant} of plug-in 'other'"
    other: Any = {"name": "other", "placement": "sandbox", "sandbox": Sandbox(**{grant: (str(share / "x"),)})}
    async with Kernel() as kernel:
        await load_writer(kernel, share)
        with pytest.raises(ContractError, match=problem):
            await kernel.load(Quiet, **other)
        assert list(kernel.registry.entries) == ["writer"]
        await kernel.unload("writer")
        await kernel.load(Quiet, **other)
        with pytest.raises(ContractError, match=problem):
            await load_writer(kernel, share)
        assert await kernel.get(Neighbour).ping() > 0


async def test_nor_by_a_link_on_the_way(share: Path, tmp_path: Path) -> None:
    """Neither the name that was given nor where it leads at present lies in the folder, but what lies between does."""
    (tmp_path / "elsewhere" / "data").mkdir(parents=True)
    (share / "hop").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "first").symlink_to("share/hop")
    sandbox = Sandbox(read=(str(tmp_path / "first" / "data"),))
    async with Kernel() as kernel:
        await load_writer(kernel, share)
        with pytest.raises(ContractError, match=r"sandbox.read of plug-in 'other'"):
            await kernel.load(Quiet, name="other", placement="sandbox", sandbox=sandbox)
        own = Sandbox(read=sandbox.read, write=(str(share),))
        with pytest.raises(ContractError, match="beside each other"):
            await kernel.load(Quiet, name="own", placement="sandbox", sandbox=own)


async def test_relative_paths_mean_what_they_mean_outside(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(share.parent)
    async with Kernel() as kernel:
        await load_writer(kernel, share)
        assert (await kernel.get(Hostile).attempt("write to a file of the operator", "share/new"))[:7] == "ESCAPED"
    assert (share / "new").exists()


async def test_where_nothing_of_the_working_folder_is_given_the_root_folder_is_it(
    share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "private").mkdir()
    monkeypatch.chdir(tmp_path / "private")
    async with Kernel() as kernel:
        await load_writer(kernel, share)
        relative = str(share / "new").lstrip("/")
        assert (await kernel.get(Hostile).attempt("write to a file of the operator", relative))[:7] == "ESCAPED"


async def test_what_is_shared_as_a_whole_is_given(share: Path) -> None:
    """It can't be replaced: its place lies outside. And the file server leads nobody out of its mount."""
    async with Kernel() as kernel:
        await load_writer(kernel, share)
        await kernel.load(Quiet, name="reader", placement="sandbox", sandbox=Sandbox(read=(str(share),)))
        await kernel.load(FileServer, name="files", placement="process", config={"mounts": {"/": str(share)}})
        assert bytes((await kernel.get(Files).read("/x/file")).view) == b"shared"
        assert (await kernel.get(Hostile).attempt("write to a file of the operator", str(share / "new")))[
            :7
        ] == "ESCAPED"
        assert "/new" in [each.path for each in await kernel.get(Files).list("/")]


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_no_server_is_led_away(share: Path, placement: str) -> None:
    async with Kernel() as kernel:
        await load_writer(kernel, share)
        for url in (f"{share}/x", f"file://{share}/x", f"dir::{share}/x"):
            with pytest.raises(ContractError, match=r"\(config.mounts./data of plug-in 'files'\)"):
                await kernel.load(FileServer, name="files", placement=placement, config={"mounts": {"/data": url}})
        with pytest.raises(ContractError, match=r"\(config.path of plug-in 'disk'\)"):
            config = {"path": f"{share}/disk", "size": 1 << 20}
            await kernel.load(BlockDriver, name="disk", placement=placement, config=config)
        assert not (share / "disk").exists()
        await kernel.load(FileServer, name="files", placement=placement, config={"mounts": {"/data": str(share)}})
        with pytest.raises(SwapFailed, match=r"config.mounts./data of plug-in 'files'"):
            await kernel.swap("files", FileServer, config={"mounts": {"/data": f"{share}/x"}})
        assert bytes((await kernel.get(Files).read("/data/x/file")).view) == b"shared"


async def test_nor_when_the_writer_comes_last(share: Path) -> None:
    async with Kernel() as kernel:
        await kernel.load(FileServer, name="files", config={"mounts": {"/data": f"{share}/x"}})
        await kernel.load(Escapist, name="writer", placement="process", sandbox=Sandbox(write=(str(share),)))
        with pytest.raises(SwapFailed, match=r"config.mounts./data of plug-in 'files'"):
            await kernel.move("writer", "sandbox")


async def test_no_code_of_others_is_written(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (share / "guest.py").write_text(
        "import sandbox_plugins\nclass Guest(sandbox_plugins.Quiet): ...\n"
    )  # fmt: skip
    async with Kernel() as kernel:
        await load_writer(kernel, share)
        with pytest.raises(ContractError, match=r"\(where plug-in 'guest' is imported from\)"):
            await kernel.load("guest.py:Guest", name="guest", placement="process", folder=str(share))
        await kernel.unload("writer")
        monkeypatch.syspath_prepend(str(share))
        with pytest.raises(ContractError, match=r"\(where the kernel imports from\)"):
            await load_writer(kernel, share)


@pytest.mark.parametrize(
    ("use", "python", "wanted"),
    [
        ("./share", "", 1),
        ("./share/guest-1.0-py3-none-any.whl", "", 1),
        ("git+file://{share}/repository", "", 1),
        ("guest==1.0", "{share}/bin/python", 1),
        ("guest==1.0", "3.13", 0),
        ("./beside", "", 0),
    ],
)
@pytest.mark.parametrize("whose", ["own", "other"])
def test_nothing_is_installed_from_there(share: Path, use: str, python: str, wanted: int, whose: str) -> None:
    """Its own source neither: what builds it is in no sandbox."""
    (share.parent / "beside").mkdir()
    use, python = use.format(share=share), python.format(share=share)
    source = Source("", "", use=use, python=python, folder=str(share.parent), environment="/no/such/environment")
    plugins = {
        "own": (source, Options("sandbox", sandbox=Sandbox(write=(str(share),)))),
        "other": (source, Options("process")),
    }
    if whose == "own":
        del plugins["other"]
    else:
        plugins["own"] = (Source("guest", "Guest"), plugins["own"][1])
    problems = Reach().problems(plugins)
    assert [name for name, text in problems] == ["own"] * wanted
    assert all(f"(what plug-in {whose!r} is installed from)" in text for _, text in problems)


async def test_the_kernels_logs_are_out_of_sight(tmp_path: Path) -> None:
    (tmp_path / "state" / "logs").mkdir(parents=True)
    async with Kernel(log_folder=str(tmp_path / "state" / "logs")) as kernel:
        for path in (tmp_path, tmp_path / "state", tmp_path / "state" / "logs"):
            for sandbox in (Sandbox(read=(str(path),)), Sandbox(write=(str(path),))):
                with pytest.raises(ContractError, match="in which are the kernel's socket and logs"):
                    await kernel.load(Quiet, name="quiet", placement="sandbox", sandbox=sandbox)
        assert os.listdir(tmp_path / "state" / "logs") == []


async def test_nor_does_a_sandbox_lead_them_elsewhere(share: Path, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (share / "logs").symlink_to(tmp_path / "logs")
    async with Kernel(log_folder=str(share / "logs")) as kernel:
        with pytest.raises(ContractError, match=r"\(the kernel's socket and logs\)"):
            await load_writer(kernel, share)


APPLICATION = """
[plugins.writer]
use = "one/writer.py:Writer"
placement = "sandbox"
[plugins.writer.sandbox]
write = ["share"]
[plugins.reader]
use = "two/reader.py:Reader"
placement = "{placement}"
{more}
"""
PLUGIN = """
import pathlib
from mukernel import Interface, Plugin
class {name}Interface(Interface): ...
class {name}(Plugin, {name}Interface):
    def __init__(self, *, paths: list[str] = []) -> None: ...
"""


@pytest.fixture
def application(share: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = share.parent
    for name, place in (("Writer", "one"), ("Reader", "two")):
        (folder / place).mkdir()
        (folder / place / f"{name.lower()}.py").write_text(PLUGIN.format(name=name))
    monkeypatch.chdir(folder)
    return folder / "app.toml"


@pytest.mark.parametrize(
    ("placement", "more", "what"),
    [
        ("sandbox", '[plugins.reader.sandbox]\nread = ["share/x"]', "sandbox.read of plug-in 'reader'"),
        ("sandbox", 'config = { paths = ["share/x"] }', ""),  # it sees what it was given, wherever a link leads
        ("inline", 'config = { paths = ["data", "share/x"] }', "config.paths[1] of plug-in 'reader'"),
        ("inline", 'config = { paths = ["data", "share"] }', ""),
    ],
)
def test_check_says_so_before_anything_is_set_up(
    application: Path, capsys: pytest.CaptureFixture[str], placement: str, more: str, what: str
) -> None:
    application.write_text(APPLICATION.format(placement=placement, more=more))
    status = main(["check", str(application), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (status, told["ok"]) == ((1, False) if what else (0, True)), told["problems"]
    assert len(told["problems"]) == bool(what)
    if what:
        assert told["problems"][0].startswith("app.toml: plugins.writer.sandbox.write: got")
        assert what in told["problems"][0]


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_state_folder_that_a_sandbox_would_see_is_refused(
    application: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    application.write_text(APPLICATION.format(placement="sandbox", more=""))
    assert main([command, str(application), "--state", "state"]) == 1
    told = capsys.readouterr().err
    assert "plugins.writer.sandbox: got" in told
    assert f"where {str(application.parent / 'state')!r} is" in told
    assert not (application.parent / "state").exists()


def test_a_sandbox_that_writes_where_the_kernel_imports_from(
    application: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = APPLICATION.format(placement="sandbox", more="").replace('"share"', '"."')
    application.write_text(text)
    assert main(["check", str(application)]) == 1
    assert "(where the kernel imports from)" in capsys.readouterr().err


async def test_a_source_that_its_sandbox_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole home is never given, so a plug-in that lies there is not found: it is there, and the error says why."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "guest.py").write_text(PLUGIN.format(name="Guest"))
    uses: dict[str, Any] = {"guest": ("guest.py:Guest", {}), "named": ("guest.py:Guest", {})}
    boxes = {"guest": (Sandbox(), Limits()), "named": (Sandbox(read=(str(tmp_path / "guest.py"),)), Limits())}
    found = await inspect_plugins(uses, str(tmp_path), boxes=boxes)
    assert f"its sandbox does not see {tmp_path}/guest.py" in found["guest"].problems[0]
    assert found["named"].problems == []
    async with Kernel() as kernel:
        with pytest.raises(ContractError, match="its sandbox does not see"):
            await kernel.load("guest.py:Guest", name="guest", placement="sandbox", folder=str(tmp_path))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/data/x", ["/data/x"]),
        ("data/x", ["data/x"]),
        ("hello", []),
        ("", []),
        ("\0/x", []),
        ("file:///data/x", ["/data/x"]),
        ("zip://inner/file::/data/all.zip", ["inner/file", "/data/all.zip"]),
        ("simplecache::file:///data/x", ["/data/x"]),
        ("sqlite:////data/shop.db", ["/data/shop.db"]),
        ("sqlite+pysqlite:///data/shop.db", ["data/shop.db"]),
        ("sqlite:///file:/data/shop.db?uri=true", ["/data/shop.db?uri=true", "/data/shop.db"]),
        ("~/x", [os.path.expanduser("~/x")]),
    ],
)
def test_the_paths_that_a_text_may_mean(text: str, wanted: list[str]) -> None:
    assert list(paths_of(text)) == wanted


def test_the_way_to_a_path(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "loop").symlink_to("loop")
    (tmp_path / "to_b").symlink_to("a/b")
    real = os.path.realpath(tmp_path)
    assert folders_on_the_way(f"{tmp_path}/to_b/../c")[-2:] == [f"{real}/a", f"{real}/a"]  # as the system reads it
    assert f"{real}/a" in folders_on_the_way(f"{tmp_path}/a/loop/x")  # and it ends
    assert folders_on_the_way(f"{tmp_path}/not/there")[-1] == f"{real}/not"
    assert replaceable([f"{tmp_path}/a"], [f"{tmp_path}/a"]) is None
    assert replaceable([f"{tmp_path}/to_b"], [f"{tmp_path}/a"]) == (f"{tmp_path}/to_b", f"{tmp_path}/a")
    assert replaceable(sys.path, []) is None
