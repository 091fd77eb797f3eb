"""A wheel of somebody whom nobody trusts, in a sandbox: nothing of it is run anywhere else."""

import os
from pathlib import Path

import pytest
from deployment_wheels import write_wheel

from mukernel import ContractError, Interface, Kernel, Sandbox, Unavailable
from mukernel.core.deployments import source_in
from mukernel.core.inspection import inspect_plugins
from mukernel.deployment import Installer, Request, read_request
from mukernel.kernel.process import Limits
from mukernel.sandbox.enclosure import scrubbed_environment

LEAVE = """
try:
    open({mark!r}, "w").close()
except OSError:
    pass
"""
STRANGER = """
import os, sys
import shop_given
from mukernel import Interface, Plugin

class Guest(Interface):
    async def seen(self) -> list[str]: ...

class Stranger(Plugin, Guest):
    async def seen(self) -> list[str]:
        return [sys.prefix, shop_given.VALUE, os.environ.get("SHOP_STARTED", "")]
"""


class Guest(Interface):
    async def seen(self) -> list[str]: ...


def asked(wheel: Path) -> Request:
    found = read_request(str(wheel))
    assert found is not None
    return found


@pytest.mark.parametrize("tool", ["uv", "pip"])
async def test_a_wheel_in_a_sandbox_runs_nothing_outside_of_it(
    tool: str, own_installer: Installer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has what Python runs as it starts, and files in the place of those that the process encloses itself with."""
    monkeypatch.setenv("MUKERNEL_INSTALLER", tool)
    mark = tmp_path / "escaped"
    leave = LEAVE.format(mark=str(mark))
    started = f"import os; os.environ['SHOP_STARTED'] = 'in the sandbox'; exec({leave!r})"
    files = {
        "shop_stranger.py": leave + STRANGER, "shop.pth": f"shop_more\n{started}\n", "sitecustomize.py": leave,
        "shop_more/shop_given.py": "VALUE = 'given'\n", "mukernel/core/sandboxed.py": leave,
        "mukernel/core/inspection.py": leave, "mukernel/core/warm.py": leave, "msgspec/__init__.py": leave,
    }  # fmt: skip
    plugins = {"stranger": "shop_stranger:Stranger"}
    wheel = write_wheel(tmp_path, "shop-stranger", "1.0", files=files, requires=["mukernel"], plugins=plugins)
    own_installer.install(asked(wheel))[1].close()
    source = source_in(own_installer.present(asked(wheel)), None)
    found = await inspect_plugins({"guest": (source, {})}, str(tmp_path), boxes={"guest": (Sandbox(), Limits())})
    assert (found["guest"].problems, [each.name for each in found["guest"].interfaces]) == ([], ["Guest"])
    async with Kernel(installer=own_installer) as kernel:
        await kernel.load(str(wheel), name="guest", placement="sandbox")
        seen = await kernel.get(Guest).seen()
    assert seen == [source.environment, "given", "in the sandbox"]  # there it is as it would be in its environment
    assert not mark.exists()


@pytest.mark.parametrize(
    "path", ["runtime/mukernel/__init__.py", "in-use/one.txt"]  # the second can't be written over
)  # fmt: skip
def test_no_distribution_has_files_where_mukernel_has_its_own(
    path: str, own_installer: Installer, tmp_path: Path
) -> None:  # fmt: skip
    files = {"shop_sly.py": "", f"shop_sly-1.0.data/data/{path}": ""}
    wheel = write_wheel(tmp_path, "shop-sly", "1.0", files=files, plugins={"sly": "shop_sly:Sly"})
    with pytest.raises(ContractError, match=f"has files for '{path.partition('/')[0]}' in the environment") as raised:
        own_installer.install(asked(wheel))
    assert os.listdir(own_installer.store.environments) == []
    assert own_installer.failure(asked(wheel)) == str(raised.value)


def test_a_distribution_has_files_for_another_python(installer: Installer, tmp_path: Path) -> None:
    """They are not taken for what is in the environment."""
    files = {
        f"shop_old-1.0.data/data/lib/python{version}/site-packages/junk-1.dist-info/METADATA": ABOUT
        for version in ("2.7", "3")
    }
    plugins = {"old": "shop_old:Old"}
    wheel = write_wheel(tmp_path, "shop-old", "1.0", files={"shop_old.py": "", **files}, plugins=plugins)
    installed, hold = installer.install(asked(wheel))
    hold.close()
    assert installed.environment.plugins == {"shop-old": plugins}
    assert "shop-junk" not in installed.environment.distributions


ABOUT = "Metadata-Version: 2.1\nName: shop-junk\nVersion: 1\n"


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"RECORD": "x" * 200_000 + ",,\n"}, "junk-1.dist-info, can't be read: Error: field larger than field limit"),
        ({"entry_points.txt": b"\xff\xfe"}, "junk-1.dist-info, can't be read: UnicodeDecodeError"),
    ],
)
def test_metadata_that_cannot_be_read(
    files: dict[str, str | bytes], why: str, installer: Installer, tmp_path: Path
) -> None:
    """It is that plug-in's failure, which is remembered."""
    junk = {
        f"shop_sly-1.0.data/purelib/junk-1.dist-info/{name}": text
        for name, text in {"METADATA": ABOUT, **files}.items()
    }
    wheel = write_wheel(tmp_path, "shop-sly", "1.0", files=junk, plugins={"sly": "shop_sly:Sly"})
    with pytest.raises(ContractError, match=why) as raised:
        installer.install(asked(wheel))
    assert str(raised.value).startswith(f"use = '{wheel}': ")
    assert installer.failure(asked(wheel)) == str(raised.value)


def test_metadata_of_nothing_are_passed_over(installer: Installer, tmp_path: Path) -> None:
    files = {
        "junk.egg-info/x.txt": "x", "shop_sly-1.0.data/purelib/junk-1.dist-info/METADATA": "Metadata-Version: 2.1\n",
    }  # fmt: skip
    wheel = write_wheel(tmp_path, "shop-sly", "1.0", files=files, plugins={"sly": "shop_sly:Sly"})
    installed, hold = installer.install(asked(wheel))
    hold.close()
    assert installed.environment.plugins == {"shop-sly": {"sly": "shop_sly:Sly"}}
    assert "shop-sly" in installed.environment.distributions and len(installed.environment.distributions) == 3


def test_the_interpreter_of_a_sandbox_looks_into_no_folder_that_anybody_may_write_to() -> None:
    """Its home is /tmp: packages of the user would be looked for there, before it encloses itself."""
    assert scrubbed_environment()["PYTHONNOUSERSITE"] == "1"


async def test_a_pth_file_that_ends_its_interpreter(installer: Installer, tmp_path: Path) -> None:
    files = {"shop_sly.py": "", "shop.pth": "import os; os._exit(7)\n"}
    wheel = write_wheel(
        tmp_path, "shop-ended", "1.0", files=files, requires=["mukernel"], plugins={"sly": "shop_sly:Sly"}
    )
    async with Kernel(installer=installer) as kernel:
        why = r"started in its environment .*/shop-ended-1\.0-.* ended with status 7; .* such as a \.pth file"
        with pytest.raises(Unavailable, match=why):
            await kernel.load(str(wheel), name="sly", placement="process")
