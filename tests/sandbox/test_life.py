"""The life of a sandbox: it begins wholly or not at all, reaches what it was given, and ends with whoever it belongs
to."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_plugins import Escapist, Hostile, Neighbour, Quiet
from sandbox_printing import Printer, Printing

from mukernel import ContractError, Kernel, PluginCrashed, Sandbox, Unavailable
from mukernel.core import sandboxed
from mukernel.core.application_file import check_application
from mukernel.core.place import RemotePlace
from mukernel.sandbox import enclosure
from mukernel.sandbox.family import children, descendants

KERNEL = """
import asyncio, sys
sys.path.insert(0, {folder!r})
from sandbox_plugins import Quiet, Neighbour
from mukernel import Kernel

async def main():
    async with Kernel() as kernel:
        await kernel.load(Quiet, name="quiet", placement="sandbox")
        await kernel.get(Neighbour).ping()
        print(kernel.registry.entry("quiet").replicas[0].instance.place.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def watched(pid: int) -> list[int]:
    """Descriptors that become readable when each process of a sandbox has ended. `pid`: that of its plug-ins."""
    return [os.pidfd_open(each) for each in family(pid)]


def family(pid: int) -> list[int]:
    """The outer, the first and the inner, and all that this has started."""
    with open(f"/proc/{pid}/status") as file:
        first = int(file.read().partition("PPid:")[2].split()[0])
    with open(f"/proc/{first}/status") as file:
        outer = int(file.read().partition("PPid:")[2].split()[0])
    assert (children(outer), children(first)) == ([first], [pid])
    return [outer, *descendants(outer)]


def place_of(kernel: Kernel, plugin: str) -> RemotePlace:
    """Where the first instance of a plug-in is."""
    instance = kernel.registry.entry(plugin).replicas[0].instance
    assert instance is not None and isinstance(instance.place, RemotePlace)
    return instance.place


async def all_ended(descriptors: list[int]) -> None:
    loop = asyncio.get_running_loop()
    for each in descriptors:
        ended = loop.create_future()
        loop.add_reader(each, ended.set_result, None)
        await ended
        loop.remove_reader(each)
        os.close(each)


async def test_nothing_outlives_a_kernel_that_is_killed() -> None:
    script = KERNEL.format(folder=os.path.dirname(__file__))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as kernel:
        assert kernel.stdout is not None
        ends = watched(int(kernel.stdout.readline()))
        assert len(ends) == 3  # the outer, the first, the inner
        kernel.kill()
        await all_ended(ends)


async def test_all_of_it_ends_when_any_of_it_is_killed_and_it_starts_again() -> None:
    async with Kernel() as kernel:
        await kernel.load(Quiet, name="quiet", placement="sandbox")
        quiet = kernel.get(Neighbour)
        for which in range(3):
            pid = place_of(kernel, "quiet").pid
            members, ends = family(pid), watched(pid)
            restarted = kernel.loop.create_future()
            kernel.listeners.append(
                lambda happening, done=restarted: (  # type: ignore[misc]
                    done.set_result(None) if happening.what == "restart" and not done.done() else None
                )
            )
            os.kill(members[which], signal.SIGKILL)
            await all_ended(ends)
            await restarted
            assert await quiet.ping() > 0


@pytest.mark.parametrize("by", [0, signal.SIGSEGV, signal.SIGTERM])
async def test_how_it_ends_and_what_it_has_printed_last_is_told(tmp_path: Path, by: int) -> None:
    async with Kernel(log_folder=str(tmp_path)) as kernel:
        await kernel.load(Printer, name="printer", placement="sandbox")
        how = f"signal {by:d} " if by else "status 7"
        with pytest.raises(PluginCrashed, match=how):
            await kernel.get(Printing).die(1000, by)
        (log,) = tmp_path.glob("printer*")
        assert log.read_text().count("a line\n") == 1000


async def test_folders_that_are_granted(tmp_path: Path) -> None:
    for name in ("in", "out", "secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    async with Kernel() as kernel:
        sandbox = Sandbox(read=(str(tmp_path / "in"),), write=(str(tmp_path / "out"),))
        await kernel.load(Escapist, name="plugin", placement="sandbox", sandbox=sandbox)
        plugin = kernel.get(Hostile)

        async def attempt(way: str, path: Path) -> str:
            return await plugin.attempt(f"{way} a file of the operator", str(path))

        assert await attempt("read", tmp_path / "in" / "file") == "ESCAPED b'in'"
        assert "Read-only" in await attempt("write to", tmp_path / "in" / "file")
        assert (await attempt("write to", tmp_path / "out" / "new")).startswith("ESCAPED")
        assert "Error" in await attempt("read", tmp_path / "secret" / "file")
    new = tmp_path / "out" / "new"
    assert new.exists()
    assert new.stat().st_uid == os.geteuid()


async def test_it_moves_in_and_out_while_it_is_called() -> None:
    async with Kernel() as kernel:
        await kernel.load(Quiet, name="quiet")
        quiet = kernel.get(Neighbour)
        assert await quiet.ping() == os.getpid()
        await kernel.move("quiet", "sandbox")
        assert await quiet.ping() != os.getpid()
        await kernel.swap("quiet", Quiet)
        await kernel.move("quiet", "process")
        assert await quiet.ping() > 2


async def test_what_cannot_be_set_up_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says which part: here a path that is gone when the process looks for it."""
    whole = sandboxed.policy_for

    def broken(*arguments: object) -> object:
        from dataclasses import replace

        policy = whole(*arguments)  # type: ignore[arg-type]
        return replace(policy, read=(*policy.read, "/no/such/folder"))

    monkeypatch.setattr("mukernel.core.processes.policy_for", broken)
    async with Kernel() as kernel:
        with pytest.raises(Unavailable, match=r"sandbox could not be set up: files.*no/such/folder"):
            await kernel.load(Quiet, name="quiet", placement="sandbox")
        assert kernel.places == {}


def test_why_there_is_no_user_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(enclosure, "unshare", refused)
    with pytest.raises(enclosure.NotEnclosed, match=r"^namespaces of its own \(user\): No space left on device$"):
        enclosure.mapped_users(61_184)


async def test_those_that_share_a_sandbox_have_the_same(tmp_path: Path) -> None:
    async with Kernel() as kernel:
        await kernel.load(Quiet, name="one", placement="sandbox:both")
        await kernel.load(Quiet, name="two", placement="sandbox:both")
        with pytest.raises(ContractError, match=r"\('one', 'two'\) has sandbox: .*'three' has .*the same sandbox"):
            await kernel.load(Quiet, name="three", placement="sandbox:both", sandbox=Sandbox(read=(str(tmp_path),)))
        with pytest.raises(ContractError, match="'four' has none; wanted the same sandbox"):
            await kernel.load(Quiet, name="four", placement="process:both")


async def test_what_it_may_replace_is_not_followed(tmp_path: Path) -> None:
    """A link in a folder that it writes to would lead the next sandbox anywhere."""
    (tmp_path / "out" / "inner").mkdir(parents=True)
    (tmp_path / "out" / "link").symlink_to("/etc")
    async with Kernel() as kernel:
        for inner in ("inner", "link"):
            sandbox = Sandbox(read=(str(tmp_path / "out" / inner),), write=(str(tmp_path / "out"),))
            with pytest.raises(ContractError, match=r"beside each other|are refused"):
                await kernel.load(Quiet, name="quiet", placement="sandbox", sandbox=sandbox)


@pytest.mark.parametrize(
    ("sandbox", "wanted"),
    [
        (Sandbox(read=("data",)), "absolute path"),
        (Sandbox(read=("/no/such/folder",)), "that exists"),
        (Sandbox(write=("/",)), "are refused"),
        (Sandbox(write=(os.path.expanduser("~"),)), "are refused"),
        (Sandbox(write=("/usr/lib",)), r"/usr/lib.*could put something else there"),
        (Sandbox(temporary=1), "temporary"),
        (Sandbox(processes=0), "processes"),
    ],
)
async def test_a_sandbox_that_is_not_sound_is_refused(sandbox: Sandbox, wanted: str) -> None:
    async with Kernel() as kernel:
        with pytest.raises(ContractError, match=wanted):
            await kernel.load(Quiet, placement="sandbox", sandbox=sandbox)


def test_the_table_of_an_application_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    table = {"use": "a:B", "placement": "sandbox", "sandbox": {"read": ["data"], "temporary": "1M"}}
    file, problems = check_application({"plugins": {"a": table}}, "app.toml", str(tmp_path))
    assert problems == []
    assert file.plugins["a"].sandbox == Sandbox(read=(str(tmp_path / "data"),), temporary=1 << 20)
    bad = {"read": ["gone"], "write": "data", "wirte": []}
    _, problems = check_application({"plugins": {"a": {**table, "sandbox": bad}}}, "app.toml", str(tmp_path))
    assert ["read" in problems[1], "write" in problems[2], "did you mean 'write'" in problems[0]] == [True] * 3
    _, problems = check_application({"plugins": {"a": {**table, "placement": "process"}}}, "app.toml", str(tmp_path))
    assert problems == [
        "app.toml: plugins.a.sandbox: a plug-in of placement 'process' has none; wanted placement = 'sandbox'"
    ]
