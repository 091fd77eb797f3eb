"""uv and pip: what they make, and what their users have set for them."""

import json
import os
import subprocess
from glob import glob
from pathlib import Path

import pytest
from deployment_wheels import request, write_wheel

from mukernel.deployment import Installer
from mukernel.deployment.lock_file import Locked
from mukernel.deployment.tools import Wanted, read_report

SET = {
    "uv": {
        "UV_COMPILE_BYTECODE": "1",
        "UV_VENV_SEED": "1",
        "UV_OVERRIDE": "more.txt",
        "UV_EXCLUDE": "more.txt",
        "UV_LINK_MODE": "copy",
    },
    "pip": {"PIP_NO_DEPS": "1", "PIP_REQUIRE_HASHES": "1", "PIP_DRY_RUN": "1", "PIP_REQUIREMENT": "more.txt"},
}


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_an_environment_is_as_ever_whatever_is_set_for_its_tool_and_its_scripts_run(
    tool: str, shared_folder: Path, wheels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUKERNEL_INSTALLER", tool)
    monkeypatch.chdir(tmp_path)
    Path("more.txt").write_text("shop-library==1.0\n")
    for name, value in SET[tool].items():
        monkeypatch.setenv(name, value)
    write_wheel(
        tmp_path, f"shop-{tool}", "1.0", files={"shop_tool.py": "def main(): print('it runs')\n"},
        requires=["shop-library>=2"], plugins={"tool": "shop_tool:Tool"},
        scripts="[console_scripts]\nshop-tool = shop_tool:main\n",
    )  # fmt: skip
    installed, hold = Installer(shared_folder, wheels=[wheels, str(tmp_path)]).install(request(f"shop-{tool}==1.0"))
    hold.close()
    assert installed.environment.distributions["shop-library"] == "2.0"
    module = glob(f"{installed.folder}/lib/python*/site-packages/shop_tool.py")
    assert [os.stat(each).st_nlink for each in module] == [1]  # copied, as is set
    script = os.path.join(installed.folder, "bin", "shop-tool")
    assert subprocess.run([script], check=True, capture_output=True, text=True).stdout == "it runs\n"


@pytest.mark.parametrize("archive", [{"hash": "sha256=abc"}, {"hash": "sha256=abc", "hashes": {"sha256": "abc"}}])
def test_the_hash_of_a_file_by_an_older_pip_and_by_a_newer_one(archive: dict[str, object]) -> None:
    """Before 23.1, such as under Debian 12's Python, pip had no "hashes"."""
    about = {"name": "Shop_Library", "version": "2.0"}
    found = {"metadata": about, "is_direct": False, "download_info": {"url": "", "archive_info": archive}}
    report = json.dumps({"install": [found]})
    assert read_report(report, Wanted([], [], None)) == [Locked("shop-library", "2.0", ["sha256:abc"])]
