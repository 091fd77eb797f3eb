"""A sandbox serves what it served before: it takes no neighbour's calls when it is started again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sandbox_plugins import Neighbour, Quiet

from mukernel import ContractError, Interface, Kernel, PluginCrashed, RestartPolicy, Sandbox, SwapFailed, Unavailable
from mukernel.core.application import read_application
from mukernel.core.instances import check_serves_something
from mukernel.core.messages import Built

FLAG = """
from pathlib import Path
from mukernel import ContractError, Interface, Plugin
from sandbox_plugins import Neighbour

class Changing(Interface, version="1.0"):
    async def change(self) -> None: ...
    async def die(self) -> None: ...

class Changeling(Plugin, Changing, *([Neighbour] if Path({flag!r}).exists() else [])):
    async def change(self) -> None:
        Path({flag!r}).touch()

    async def die(self) -> None:
        import os
        os._exit(1)

    async def ping(self) -> int:
        return -1
"""


class Changing(Interface, version="1.0"):
    async def change(self) -> None: ...
    async def die(self) -> None: ...


async def load_changeling(kernel: Kernel, folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "changeling.py").write_text(FLAG.format(flag=f"{folder}/out/flag"))
    await kernel.load(
        "changeling.py:Changeling", name="changeling", placement="sandbox", folder=str(folder),
        sandbox=Sandbox(read=(str(Path(__file__).parent),), write=(f"{folder}/out",)), grants=[],
        restart=RestartPolicy(intensity=1),
    )  # fmt: skip


async def test_not_after_a_crash_nor_by_a_restart_but_by_a_swap(tmp_path: Path) -> None:
    async with Kernel() as kernel:
        await load_changeling(kernel, tmp_path)
        await kernel.load(Quiet, name="quiet", placement="process")
        await kernel.get(Changing).change()
        with pytest.raises(SwapFailed, match="got Neighbour, which it did not serve before; wanted Changing"):
            await kernel.restart("changeling")
        with pytest.raises(PluginCrashed):
            await kernel.get(Changing).die()
        while kernel.registry.entry("changeling").failure is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert "got Neighbour" in str(kernel.registry.entry("changeling").failure)
        assert await kernel.get(Neighbour).ping() != -1
        await kernel.swap("changeling", "changeling.py:Changeling", folder=str(tmp_path))
        assert await kernel.get(Neighbour, plugin="changeling").ping() == -1


APPLICATION = """
[app]
name = "twofaced"
[plugins.twofaced]
use = "twofaced.py:Twofaced"
placement = "sandbox"
sandbox = { read = ["{tests}"] }
"""
TWOFACED = """
import sys
from mukernel import ContractError, Interface, Plugin
from sandbox_plugins import Neighbour

class Changing(Interface, version="1.0"):
    async def change(self) -> None: ...

LOOKED_AT = sys.modules["__main__"].__spec__ is not None  # by `python -m`

class Twofaced(Plugin, Changing, *([] if LOOKED_AT else [Neighbour])):
    async def change(self) -> None: ...
    async def ping(self) -> int:
        return -1
"""


async def test_not_what_it_did_not_show_when_it_was_looked_at(tmp_path: Path) -> None:
    (tmp_path / "app.toml").write_text(APPLICATION.replace("{tests}", str(Path(__file__).parent)))
    (tmp_path / "twofaced.py").write_text(TWOFACED)
    application = await read_application(str(tmp_path / "app.toml"))
    async with Kernel() as kernel:
        with pytest.raises(Unavailable, match="got Neighbour, which it did not serve before; wanted Changing"):
            await application.start(kernel)


def test_what_serves_nothing_at_first_is_no_plugin() -> None:
    """Else it could serve anything later."""
    with pytest.raises(ContractError, match="plug-in 'sly': got no interface that it serves"):
        check_serves_something("sly", Built([], False))
