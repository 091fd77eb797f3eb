"""A kernel whose plug-ins have environments of their own."""

import asyncio
import os
import shutil
import sys
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from deployment_wheels import write_project, write_wheel
from waiting import until

from mukernel import ContractError, Interface, Kernel, NotFound, RestartPolicy, SwapFailed, Unavailable
from mukernel.core.control_server import ControlServer
from mukernel.deployment import Installer
from mukernel.deployment.cleaning import collect_garbage
from mukernel.deployment.pythons import find_python
from mukernel.deployment.work import Work

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def another_python() -> str:
    for minor in (13, 12, 11, 14):
        if (11, minor) != sys.version_info[:2] and f"3.{minor}" != HERE:
            try:
                find_python(f"3.{minor}", None)
            except NotFound:
                continue
            return f"3.{minor}"
    pytest.skip("this machine has no other Python of 3.11 or later")


async def test_two_plugins_need_versions_of_a_library_that_exclude_each_other(kernel: Kernel, catalog: Any) -> None:
    await kernel.load("shop-catalog==1.0", name="old", placement="process")
    await kernel.load("shop-catalog==2.0", name="new", placement="process", config={"extra": "!"})
    assert await kernel.get(catalog, plugin="old").versions() == ["1.0", "1.0", HERE, ""]
    assert await kernel.get(catalog, plugin="new").versions() == ["2.0", "2.0", HERE, "!"]
    assert "shop_module" not in sys.modules  # the kernel's process has imported nothing of it


async def test_one_runs_on_another_python(kernel: Kernel, catalog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only test that may need an index: msgspec for that Python."""
    wanted = another_python()
    for name in ("UV_OFFLINE", "UV_NO_INDEX", "PIP_NO_INDEX", "UV_CACHE_DIR"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("MUKERNEL_EXTENSIONS", "skip")  # the next one compiles
    try:
        await kernel.load("shop-catalog==1.0", name="other", placement="process", python=wanted)
    except Unavailable as error:
        if "no package index could be reached" not in str(error):
            raise
        pytest.skip(f"msgspec for Python {wanted} can't be had here")
    await kernel.load("shop-catalog==2.0", name="own", placement="process")
    other, own = kernel.get(catalog, plugin="other"), kernel.get(catalog, plugin="own")
    assert [(await each.versions())[2] for each in (other, own)] == [wanted, HERE]
    place: Any = kernel.registry.entry("other").replicas[0].instance.place  # type: ignore[union-attr]
    assert place.transports == ["socket"]  # there mukernel is not compiled, so packets serve; nobody notices
    assert await other.add(2) == 2
    os.kill(await other.process(), SIGKILL)
    assert (await other.versions())[2] == wanted  # it is started again, with the Python that it had


IMPORTED = """
import sys
from mukernel import Interface, Plugin

class Imported(Interface):
    async def here(self) -> list[str]: ...

class Bare(Plugin, Imported):
    async def here(self) -> list[str]:
        modules = list(sys.modules)
        return modules[modules.index("mukernel.core.warm") + 1:]
"""


class Imported(Interface):
    async def here(self) -> list[str]: ...


@pytest.mark.parametrize("placement", ["process", "sandbox"])
async def test_a_process_imports_its_plugin_alone(kernel: Kernel, tmp_path: Path, placement: str) -> None:
    """All else is in its fork server: callers wait for the processor that a new version needs."""
    points = {"bare": "shop_bare:Bare"}
    wheel = write_wheel(tmp_path, "shop-bare", "1.0", files={"shop_bare.py": IMPORTED}, plugins=points)
    await kernel.load(str(wheel), name="bare", placement=placement)
    imported = await kernel.get(Imported).here()
    assert [each for each in imported if not each.startswith("encodings.")] == ["shop_bare"]


async def test_a_swap_to_other_dependencies_loses_nothing(kernel: Kernel, catalog: Any) -> None:
    await kernel.load("shop-catalog==1.0", name="catalog", placement="process")
    proxy = kernel.get(catalog)
    ended, sums, libraries = asyncio.Event(), list[int](), set[str]()

    async def call() -> None:
        while not ended.is_set():
            sums.append(await proxy.add(1))
            libraries.add((await proxy.versions())[1])

    callers = [asyncio.create_task(call()) for _ in range(8)]
    await until(lambda: len(sums) >= 100)
    report = await kernel.swap("catalog", "shop-catalog==2.0")
    seen = len(sums)
    await until(lambda: len(sums) >= seen + 100)
    ended.set()
    await asyncio.gather(*callers)
    assert sorted(sums) == list(range(1, len(sums) + 1))  # each once, and the state went on
    assert libraries == {"1.0", "2.0"}
    assert report.ledger.lost == 0
    assert (report.before, report.after) == (
        "Shelf of shop-catalog==1.0 process",
        "Shelf of shop-catalog==2.0 process",
    )


async def test_rollbacks_go_back_one_swap_each(kernel: Kernel, catalog: Any) -> None:
    await kernel.load("shop-catalog==1.0", name="catalog", placement="process", config={"extra": "a"})
    with pytest.raises(ContractError, match="was not swapped since it was loaded"):
        await kernel.rollback("catalog")
    await kernel.swap("catalog", "shop-catalog==2.0", config={"extra": "b"})
    await kernel.swap("catalog", "shop-catalog==1.0", config={"extra": "c"})
    await kernel.get(catalog).add(5)
    with pytest.raises(SwapFailed):
        await kernel.swap("catalog", "shop-catalog==9")
    report = await kernel.rollback("catalog")
    assert report.what == "rollback"
    assert await kernel.get(catalog).versions() == ["2.0", "2.0", HERE, "b"]
    assert await kernel.get(catalog).add(1) == 6
    await kernel.rollback("catalog")
    assert await kernel.get(catalog).versions() == ["1.0", "1.0", HERE, "a"]
    with pytest.raises(ContractError, match="or all swaps were taken back"):
        await kernel.rollback("catalog")


async def test_a_swap_of_the_same_version_leaves_the_one_to_go_back_to(kernel: Kernel, catalog: Any) -> None:
    await kernel.load("shop-catalog==1.0", name="catalog", placement="process")
    await kernel.swap("catalog", "shop-catalog==2.0")
    await kernel.swap("catalog", "shop-catalog==2.0")
    await kernel.move("catalog", "process:shop")
    await kernel.restart("catalog")
    with pytest.raises(SwapFailed, match="wanted the same environment for all of that name"):
        await kernel.rollback("catalog")  # its process would be shared, and has the other environment
    assert (await kernel.get(catalog).versions())[0] == "2.0"
    await kernel.move("catalog", "process")
    await kernel.rollback("catalog")
    assert (await kernel.get(catalog).versions())[0] == "1.0"


async def test_an_environment_that_was_removed_is_made_again(own_installer: Installer, catalog: Any) -> None:
    """By a rollback, and by a start of what was stopped."""
    async with Kernel(installer=own_installer) as kernel:
        control = ControlServer(kernel)
        await kernel.load("shop-catalog==1.0", name="catalog", placement="process")
        await kernel.swap("catalog", "shop-catalog==2.0")
        (used,) = kernel.deployments.holds
        assert len(collect_garbage(own_installer.store, set, Work())) == 1
        await kernel.rollback("catalog")
        assert (await kernel.get(catalog).versions())[0] == "1.0"
        await control.stop_plugin("catalog")
        assert list(kernel.deployments.holds) == []
        assert len(collect_garbage(own_installer.store, set, Work())) == 2
        assert not os.path.exists(used)
        await control.start_plugin("catalog")
        assert (await kernel.get(catalog).versions())[0] == "1.0"


@pytest.mark.parametrize("placement", ["process", "sandbox"])
async def test_one_that_is_gone_at_a_restart_is_named(own_installer: Installer, catalog: Any, placement: str) -> None:
    gone = r"there is no environment in .*shop-catalog-1\.0.*`mukernel install` makes it anew"
    async with Kernel(installer=own_installer) as kernel:
        await kernel.load(
            "shop-catalog==1.0", name="catalog", placement=placement, restart=RestartPolicy(intensity=1, backoff=0.001)
        )
        ((environment, _),) = kernel.processes.fork_servers.running
        os.rename(environment, f"{environment}.away")
        with pytest.raises(SwapFailed, match=gone):
            await kernel.restart("catalog")
        place: Any = kernel.registry.entry("catalog").replicas[0].instance.place  # type: ignore[union-attr]
        place.process.kill()
        with pytest.raises(Unavailable, match=gone):
            while True:
                await kernel.get(catalog).versions()
        os.rename(f"{environment}.away", environment)
        await kernel.restart("catalog")
        assert (await kernel.get(catalog).versions())[0] == "1.0"


async def test_one_that_is_gone_and_was_only_swapped_to_is_made_anew_by_a_swap(
    own_installer: Installer, catalog: Any
) -> None:
    async with Kernel(installer=own_installer) as kernel:
        control = ControlServer(kernel)
        await kernel.load("shop-catalog==1.0", name="catalog", placement="process")
        await kernel.swap("catalog", "shop-catalog==2.0")
        environment = kernel.registry.entry("catalog").source.environment
        shutil.rmtree(environment)
        failed = await control.restart("catalog")
        assert (failed.reason or "").endswith("or, where it was only swapped to, `mukernel swap NAME`")
        assert not (await control.swap("catalog")).rolled_back
        assert (await kernel.get(catalog).versions())[0] == "2.0"
        assert own_installer.store.is_held(os.path.basename(environment))


async def test_a_failed_install_leaves_the_running_version(kernel: Kernel, catalog: Any) -> None:
    await kernel.load("shop-catalog==1.0", name="catalog", placement="process")
    process = await kernel.get(catalog).process()
    for use, why in (
        ("shop-catalog==9", "no version of shop-catalog==9"),
        ("shop-torn==1.0", "shop-library<2"),
        ("shop-empty==1.0", "offers no plug-in"),
        ("./nowhere/", "there is no folder"),
    ):
        with pytest.raises(SwapFailed, match=why) as failed:
            await kernel.swap("catalog", use)
        assert failed.value.report.rolled_back
    with pytest.raises(SwapFailed, match="it does not start"):
        await kernel.swap("catalog", "shop-catalog==3.0:broken")
    assert await kernel.get(catalog).process() == process
    assert await kernel.get(catalog).versions() == ["1.0", "1.0", HERE, ""]


async def test_fork_servers_are_there_for_the_environments_in_use_and_the_one_before(
    kernel: Kernel, catalog: Any
) -> None:
    running = kernel.processes.fork_servers.running
    for name in ("one", "two"):
        await kernel.load("shop-catalog==1.0", name=name, placement="process")
    ((first, _),) = running
    server = running[first, False]
    assert server.pid is not None
    os.kill(await kernel.get(catalog, plugin="one").process(), SIGKILL)
    assert (await kernel.get(catalog, plugin="one").versions())[0] == "1.0"
    await kernel.swap("one", "shop-catalog==2.0")
    ((second, _),) = running.keys() - {(first, False)}
    await kernel.unload("two")
    await kernel.swap("one", "shop-catalog==1.0")
    assert running[first, False] is server  # to go back starts nothing
    await kernel.swap("one", "shop-catalog==3.0:catalog")
    assert first in [each for each, _ in running]
    assert second not in [each for each, _ in running]
    await kernel.swap("one", "shop-catalog==2.0")
    assert first not in [each for each, _ in running]
    assert server.pid is None


async def test_a_spare_fork_server_is_not_that_of_an_environment_made_anew(
    own_installer: Installer, catalog: Any
) -> None:
    async with Kernel(installer=own_installer) as kernel:
        await kernel.load("shop-catalog==1.0", name="catalog", placement="process")
        servers = kernel.processes.fork_servers
        ((environment, _),) = servers.running
        before = servers.running[environment, False]
        await kernel.swap("catalog", "shop-catalog==2.0")
        assert servers.spare is not None and servers.spare[0] == environment
        shutil.copytree(environment, f"{environment}.new", symlinks=True)
        shutil.rmtree(environment)
        os.rename(f"{environment}.new", environment)
        await kernel.swap("catalog", "shop-catalog==1.0")
        assert servers.running[environment, False] is not before
        assert before.pid is None


async def test_it_can_be_sandboxed(kernel: Kernel, catalog: Any) -> None:
    await kernel.load("shop-catalog==1.0", name="catalog", placement="sandbox")
    assert await kernel.get(catalog).versions() == ["1.0", "1.0", HERE, ""]
    await kernel.swap("catalog", "shop-catalog==2.0")
    assert await kernel.get(catalog).versions() == ["2.0", "2.0", HERE, ""]


async def test_plugins_of_one_environment_may_share_a_process(kernel: Kernel, catalog: Any) -> None:
    await kernel.load("shop-catalog==1.0", name="one", placement="process:shop")
    await kernel.load("shop-catalog==1.0", name="two", placement="process:shop")
    assert len({await kernel.get(catalog, plugin=name).process() for name in ("one", "two")}) == 1
    with pytest.raises(ContractError, match="wanted the same environment for all of that name"):
        await kernel.load("shop-catalog==2.0", name="three", placement="process:shop")
    assert "three" not in kernel.registry.entries


async def test_inline_is_refused(kernel: Kernel) -> None:
    with pytest.raises(ContractError, match=r"placement: got 'inline' for 'shop-catalog==1\.0'"):
        await kernel.load("shop-catalog==1.0", name="catalog")
    await kernel.load("shop-catalog==1.0", name="catalog", placement="process")
    with pytest.raises(ContractError, match="placement: got 'inline'"):
        await kernel.move("catalog", "inline")
    for more in ({"python": "3.13"}, {"entry": "catalog"}):
        with pytest.raises(ContractError, match=f"{next(iter(more))}: got .* which runs with the Python of the kernel"):
            await kernel.load("somewhere:Thing", name="thing", placement="process", **more)


async def test_a_directory_is_built_anew_when_it_has_changed(kernel: Kernel, catalog: Any, tmp_path: Path) -> None:
    write_project(tmp_path / "project", "1.1")
    before = sorted(os.listdir(tmp_path / "project"))
    await kernel.load("./project", name="catalog", placement="process", folder=str(tmp_path))
    assert (await kernel.get(catalog).versions())[0] == "1.1"
    write_project(tmp_path / "project", "1.2")
    await kernel.swap("catalog", "./project", folder=str(tmp_path))
    assert (await kernel.get(catalog).versions())[0] == "1.2"
    assert sorted(os.listdir(tmp_path / "project")) == before  # it is built in a copy
    await kernel.rollback("catalog")
    assert (await kernel.get(catalog).versions())[0] == "1.1"
