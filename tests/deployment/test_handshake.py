"""What the kernel and a process of another environment agree on before anything else."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployment_wheels import SLOW_PROJECT
from waiting import is_running, until

from mukernel import ContractError, Interface, Kernel, SwapFailed, Unavailable
from mukernel.core.handshake import PROTOCOLS, introduced
from mukernel.deployment import Installer, read_request
from mukernel.deployment.environment import site_packages
from mukernel.deployment.runtime import MODULES as COMPILED
from mukernel.transports.carriers import available


class Desk(Interface):
    async def ask(self, number: int) -> int: ...
    async def ask_blocking(self, number: int) -> int: ...


def no_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environments that are made from now on have a mukernel that is not compiled."""
    monkeypatch.setattr("mukernel.deployment.runtime.MODULES", ("kernel/nothing",))
    monkeypatch.setenv("MUKERNEL_EXTENSIONS", "skip")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pair[0].setblocking(False)
    yield pair
    for each in pair:
        each.close()


async def agreed(ends: tuple[socket.socket, socket.socket], said: bytes) -> Any:
    ours, theirs = ends
    theirs.send(said) if said else theirs.shutdown(socket.SHUT_RDWR)
    return await introduced(asyncio.get_running_loop(), ours, "catalog", "/srv/environment")


async def test_the_newest_protocol_that_both_speak(ends: Any) -> None:
    hello = {"mukernel": "9.0", "protocols": [PROTOCOLS[-1], 98, 99], "transports": ["quantum", "socket"]}
    agreement = await agreed(ends, json.dumps(hello).encode())
    assert (agreement.protocol, agreement.transports) == (PROTOCOLS[-1], ["socket"])
    assert json.loads(ends[1].recv(1000)) == {"protocol": PROTOCOLS[-1]}


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        ({"mukernel": "9.0", "protocols": [98, 99], "transports": ["ring"]}, "its mukernel 9.0 speaks protocol 98, 99"),
        ({"mukernel": "9.0", "protocols": [1], "transports": ["quantum"]}, "by quantum, this kernel 1 by"),
        ({"mukernel": "9.0"}, "where its process was to say which protocol it speaks"),
        ([1], "where its process was to say which protocol it speaks"),
    ],
)
async def test_one_that_speaks_no_protocol_of_ours_is_refused(ends: Any, hello: object, why: str) -> None:
    with pytest.raises(ContractError, match=why):
        await agreed(ends, json.dumps(hello).encode())
    assert why in json.loads(ends[1].recv(1000))["refused"]


@pytest.mark.parametrize("said", [b"[" * 50_000, b'{"protocols": [1e999], "transports": []}', b"\xff"])
async def test_one_that_says_what_nobody_understands_is_refused(ends: Any, said: bytes) -> None:
    with pytest.raises(ContractError, match="where its process was to say which protocol it speaks"):
        await agreed(ends, said)


async def test_one_that_ends_before_it_says_anything(ends: Any) -> None:
    with pytest.raises(Unavailable, match="ended before it said which protocol it speaks") as raised:
        await agreed(ends, b"")
    assert "`mukernel uninstall` of its plug-in, then `mukernel install`, makes" in str(
        raised.value
    )  # upgrading does not


async def test_one_that_is_silent(ends: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mukernel.core.handshake.PATIENCE", 0.001)
    with pytest.raises(Unavailable, match=r"was silent for 0\.001 s before it said which protocol it speaks"):
        await introduced(asyncio.get_running_loop(), ends[0], "catalog", "/srv/environment")


@pytest.mark.parametrize(
    ("protocols", "wrong", "why"),
    [(PROTOCOLS, Unavailable, "ended before it was answered"), ([99], ContractError, "speaks protocol 99")],
)
async def test_one_that_ends_before_it_is_answered(ends: Any, protocols: Any, wrong: type[Exception], why: str) -> None:
    ends[1].send(json.dumps({"mukernel": "9.0", "protocols": protocols, "transports": ["socket"]}).encode())
    ends[1].close()
    with pytest.raises(wrong, match=why):
        await introduced(asyncio.get_running_loop(), ends[0], "catalog", "/srv/environment")


async def test_an_environment_of_a_mukernel_to_come(own_installer: Installer, catalog: Any) -> None:
    """It is refused, and nothing is left behind; the running version is not touched."""
    async with Kernel(installer=own_installer) as kernel:
        await kernel.load("shop-catalog==1.0", name="catalog", placement="process")
        request = read_request("shop-catalog==2.0")
        assert request is not None
        installed, hold = own_installer.install(request)
        hold.close()
        packages = site_packages(installed.folder, installed.environment.python.library)
        file = Path(packages, "mukernel", "core", "handshake.py")
        file.write_text(
            file.read_text().replace(
                "PROTOCOLS = (1,)", "PROTOCOLS = (2,)  # of another size: its bytecode is compiled"
            )
        )
        with pytest.raises(SwapFailed, match=r"speaks protocol 2 by .*, this kernel 1 by"):
            await kernel.swap("catalog", "shop-catalog==2.0")
        file.unlink()
        with pytest.raises(SwapFailed, match=r"ended before it said .*, mukernel can't be imported there"):
            await kernel.swap("catalog", "shop-catalog==2.0")  # its end is seen: nobody waits for what it might say
        assert (await kernel.get(catalog).versions())[0] == "1.0"
        assert len(kernel.places) == 1


async def test_processes_without_the_ring_and_with_it_call_each_other(
    installer: Installer, catalog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if available() != ["ring", "socket"]:
        pytest.skip("nothing is compiled here")
    async with Kernel(installer=installer) as kernel:
        await kernel.load("shop-catalog==1.0", name="catalog", placement="process")
        no_ring(monkeypatch)
        await kernel.load("shop-clerk==1.0", name="clerk", placement="process")
        desk = kernel.get(Desk)
        assert [await desk.ask(1), await desk.ask_blocking(2), await kernel.get(catalog).add(4)] == [1, 3, 7]
        transports = {
            name: {each.transport for each in kernel.registry.entry(name).replicas[0].port.channels.values()}
            for name in ("catalog", "clerk")
        }
        assert transports == {"catalog": {"ring", "socket"}, "clerk": {"socket"}}
        monkeypatch.setattr("mukernel.deployment.runtime.MODULES", COMPILED)
        await kernel.swap("catalog", "shop-catalog==2.0")  # with channels of both kinds
        assert [await desk.ask(1), await desk.ask_blocking(2), await kernel.get(catalog).add(4)] == [8, 10, 14]


async def test_a_swap_to_one_without_the_ring_is_refused_while_rings_are_held(
    installer: Installer, catalog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if available() != ["ring", "socket"]:
        pytest.skip("nothing is compiled here")
    async with Kernel(installer=installer) as kernel:
        await kernel.load("shop-catalog==1.0", name="catalog", placement="process")
        await kernel.get(catalog).add(1)
        no_ring(monkeypatch)
        with pytest.raises(SwapFailed, match="can be reached by socket only"):
            await kernel.swap("catalog", "shop-catalog==2.0")
        assert await kernel.get(catalog).add(1) == 2
        assert len(kernel.places) == 1


KERNEL = """
import asyncio, sys
from mukernel import Kernel
from mukernel.deployment import Installer

async def main():
    async with Kernel(installer=Installer(sys.argv[1])) as kernel:
        kernel.listeners.append(lambda happening: print(happening.detail, flush=True))
        await kernel.load(sys.argv[2], name="catalog", placement="process")

asyncio.run(main())
"""
BACKEND = """
import os, signal
def build_wheel(*_):
    with open(os.environ["SHOP_PIPE"], "w") as pipe:
        pipe.write(str(os.getpid()))
    signal.pause()
"""


@pytest.mark.parametrize("signal", ["kill", "interrupt"])
async def test_nothing_goes_on_when_the_kernel_is_gone(tmp_path: Path, signal: str, wheels: str) -> None:
    """A tool that runs for an installation ends with the kernel that asked for it, and so does what it has started."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(SLOW_PROJECT)
    (project / "backend.py").write_text(BACKEND)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    environment = {**os.environ, "SHOP_PIPE": str(pipe)}
    process = subprocess.Popen(
        [sys.executable, "-c", KERNEL, str(tmp_path / "store"), str(project)], env=environment, stderr=subprocess.PIPE
    )
    with open(pipe) as file:
        builder = int(file.read())
    if signal == "kill":
        process.kill()
    else:
        process.send_signal(2)
    process.communicate()
    await until(lambda: not is_running(builder))
    store = Installer(tmp_path / "store", wheels=[wheels])
    request = read_request("shop-catalog==1.0")
    assert request is not None
    store.install(request)[1].close()
    assert not [name for name in os.listdir(store.store.wheels) if name.startswith(".")]
