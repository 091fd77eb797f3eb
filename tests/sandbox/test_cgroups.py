"""Control groups: one for each sandbox, with limits for all of it, gone when it is; and where there are none."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_plugins import Escapist, Hostile, Neighbour, Quiet
from test_life import KERNEL, all_ended, place_of, watched

from mukernel import Kernel, PluginCrashed, Sandbox
from mukernel.core.status import Status
from mukernel.core.stopped import StoppedPlugins
from mukernel.kernel.process import Limits
from mukernel.sandbox import cgroups
from mukernel.sandbox.cgroups import Cgroup, Cgroups, Parent, own_groups
from mukernel.sandbox.machine import enforced

HERE = Cgroups()
needs_groups = pytest.mark.skipif(len(HERE.parents) < 2, reason=f"this process can make no groups: {HERE.problems}")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the groups that this process makes from now on: others of the machine may make some, too."""
    names: list[str] = []
    begin = Cgroup.__init__

    def note(self: Cgroup, parents: set[str]) -> None:
        begin(self, parents)
        names.append(self.name)

    monkeypatch.setattr(Cgroup, "__init__", note)
    return names


def are_there(names: list[str]) -> list[str]:
    """Those of the groups that have not been removed."""
    return [
        name for name in names if any(os.path.exists(f"{parent.folder}/{name}") for parent in HERE.parents.values())
    ]  # fmt: skip


async def until_removed(names: list[str]) -> None:
    while are_there(names):  # noqa: ASYNC110 - nothing tells when they are gone
        await asyncio.sleep(0)


def group_of(pid: int) -> str:
    """The name of a process's group."""
    with open(f"/proc/{pid}/cgroup") as file:
        (name,) = set(re.findall(rf"{cgroups.PREFIX}\w+", file.read()))
    return str(name)


@needs_groups
async def test_all_of_a_sandbox_is_in_its_group_which_goes_with_it(made: list[str]) -> None:
    async with Kernel() as kernel:
        await kernel.load(Quiet, name="quiet", placement="sandbox")
        await kernel.load(Quiet, name="plain", placement="process")
        enclosed = place_of(kernel, "quiet").enclosed
        assert enclosed is not None and enclosed.cgroup is not None
        folders = enclosed.cgroup.folders
        assert {os.path.basename(each) for each in folders} == set(made) == {group_of(enclosed.pid)}
        for folder in folders:
            with open(f"{folder}/cgroup.procs") as file:
                assert sorted(map(int, file.read().split())) == sorted(enclosed.members())
        listed = {each.name: each.limits for each in await Status(kernel, StoppedPlugins(kernel)).plugins()}
        assert listed == {"quiet": "cgroup", "plain": "rlimits"}
        await kernel.restart("quiet")
        assert await kernel.get(Neighbour, plugin="quiet").ping() > 0
        assert len(made) == 2
        assert are_there(made) == made[1:]
        await kernel.unload("quiet")
        await until_removed(made)
        await kernel.load(Quiet, name="again", placement="sandbox")
        assert are_there(made) == made[2:] != []
    assert are_there(made) == []


@needs_groups
async def test_memory_that_no_limit_of_a_process_counts_is_counted_for_the_sandbox() -> None:
    """Memfds, which its children fill, too: the system ends who has them, and the kernel says why."""
    sandbox = Sandbox(temporary=1 << 20)
    async with Kernel() as kernel:
        await kernel.load(
            Escapist, name="hostile", placement="sandbox", sandbox=sandbox, limits=Limits(memory=96 << 20)
        )  # fmt: skip
        hostile = kernel.get(Hostile)
        assert (await hostile.attempt("share memory", "48")).startswith("ESCAPED")
        with pytest.raises(PluginCrashed, match=r"SIGKILL\); its sandbox had used up its memory"):
            await hostile.attempt("share memory", "400")
        assert (await hostile.attempt("share memory", "8")).startswith("ESCAPED")


@needs_groups
async def test_the_groups_of_a_killed_kernel_are_removed_by_the_next() -> None:
    script = KERNEL.format(folder=os.path.dirname(__file__))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as kernel:
        assert kernel.stdout is not None
        pid = int(kernel.stdout.readline())
        ends, group = watched(pid), group_of(pid)
        Cgroups()  # as another kernel looks for what is left over: this one lives
        assert are_there([group]) == [group]
        kernel.send_signal(signal.SIGKILL)
        await all_ended(ends)
    Cgroups()
    assert are_there([group]) == []


@needs_groups
async def test_a_sandbox_that_could_not_be_set_up_leaves_no_group(
    made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cgroup, "folders", property(lambda self: ("/no/such/group",)))
    async with Kernel() as kernel:
        with pytest.raises(Exception, match=r"sandbox could not be set up: the control group .*: No such file"):
            await kernel.load(Quiet, name="quiet", placement="sandbox")
    assert len(made) == 1
    assert are_there(made) == []


async def test_without_rights_to_make_groups_the_limits_are_those_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(path: str, mode: int = 0o777) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("mukernel.sandbox.cgroups.os.mkdir", nowhere)
    assert Cgroups().parents == {}
    async with Kernel() as kernel:
        await kernel.load(Quiet, name="quiet", placement="sandbox")
        (quiet,) = await Status(kernel, StoppedPlugins(kernel)).plugins()
        assert quiet.limits == "rlimits"
        assert await kernel.get(Neighbour).ping() > 0
    found = await asyncio.to_thread(enforced)
    assert (found.missing, "Permission denied" in found.text) == ("", True)


@needs_groups
def test_the_check_says_so_and_leaves_nothing(made: list[str]) -> None:
    assert "control groups: memory" in enforced().text
    assert len(made) == 1
    assert are_there(made) == []


FAMILY = """
import os, sys, time
print(flush=True)
sys.stdin.readline()
for _ in range(2):
    os.fork()
print(flush=True)
time.sleep(1000)
"""


@needs_groups
async def test_a_group_ends_with_whoever_is_in_it(made: list[str]) -> None:
    group = HERE.new(1 << 28, 16)
    assert group is not None
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        for folder in group.folders:
            cgroups.write(f"{folder}/cgroup.procs", process.pid)
        print(file=process.stdin, flush=True)
        for _ in range(4):
            process.stdout.readline()
        assert group.end()
    assert are_there(made) == []


def test_who_starts_another_before_it_is_ended_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Cgroup({str(tmp_path)})
    members = Path(group.folders[0], "cgroup.procs")
    waves = iter(["11\n12\n", "13\n", ""])
    monkeypatch.setattr(cgroups, "read", lambda path: next(waves) if path == str(members) else "")
    ended: list[int] = []
    monkeypatch.setattr(cgroups, "end_process", ended.append)
    assert group.end()
    assert ended == [11, 12, 13]


def test_no_descriptor_is_left_of_a_process_that_may_not_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(process: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("mukernel.sandbox.cgroups.signal.pidfd_send_signal", refused)
    before = set(os.listdir("/proc/self/fd"))
    cgroups.end_process(os.getpid())
    assert set(os.listdir("/proc/self/fd")) <= before


MOUNTS = """\
23 1 254:0 / / rw - ext4 /dev/vda rw
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
39 31 0:36 /docker/77 /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cg\\040unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""


def test_the_own_groups_are_found_in_every_hierarchy() -> None:
    groups = "9:name=systemd:/\n8:pids:/docker/77/inner\n4:cpu,memory:/service\n0::/user.slice/a:b.scope\n"
    assert own_groups(MOUNTS, groups) == {
        "memory": Parent("/sys/fs/cgroup/memory/service", 1),
        "pids": Parent("/sys/fs/cgroup/pids/inner", 1),
        "": Parent("/sys/fs/cg unified/user.slice/a:b.scope", 2),
    }
    assert own_groups(MOUNTS, "8:pids:/docker/78\n0::/../other\n") == {}  # outside of what is mounted
    assert own_groups(MOUNTS, f"0::/service/{cgroups.LEAF}\n")[""].folder == "/sys/fs/cg unified/service"
    assert own_groups("", "") == {}


def version_2(folder: Path, available: str, procs: str) -> Cgroups:
    """What is found where `folder` stands for the whole of version 2: files, with none of the system's meaning."""
    for name, text in (("cgroup.controllers", available), ("cgroup.subtree_control", ""), ("cgroup.procs", procs)):
        (folder / name).write_text(text)
    (folder / "mountinfo").write_text("41 31 0:38 / / rw - cgroup2 cgroup2 rw\n")
    (folder / "cgroup").write_text("0::/\n")
    return Cgroups(str(folder), str(folder))


def test_version_2_hands_on_what_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = version_2(tmp_path, "cpu memory", str(os.getpid()))
    assert set(found.parents) == {"memory"}
    assert "was not given that controller" in found.problems["pids"]
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"


@pytest.mark.parametrize("strangers", [False, True])
def test_version_2_moves_its_own_processes_and_no_other(
    strangers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, moved = cgroups.write, list[object]()

    def write(path: str, value: object) -> None:
        if path.endswith("subtree_control") and not moved:
            raise OSError(16, "Device or resource busy")
        if path.endswith(f"{cgroups.LEAF}/cgroup.procs"):
            moved.append(value)
        else:
            real(path, value)

    monkeypatch.setattr(cgroups, "write", write)
    found = version_2(tmp_path, "memory pids", f"{os.getpid()}\n" + ("1\n" if strangers else ""))
    assert (moved == [], found.parents == {}) == (strangers, strangers)
    assert moved in ([], [os.getpid()])
    if strangers:
        assert "processes of others" in found.problems["memory"]
