"""uv and pip: what they make, and what their users have set for them."""

import json
import os
import subprocess
import sys
from glob import glob
from pathlib import Path

import pytest
from deployment_wheels import request, write_project, write_wheel

from mukernel import Unavailable
from mukernel.deployment import Installer
from mukernel.deployment.lock_file import Locked
from mukernel.deployment.tools import Wanted, read_report
from mukernel.deployment.work import LONGEST_REASON, explained

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


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_why_a_build_failed(
    tool: str, installer: Installer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """By the last that its backend says; the tools show that after, or before, much of their own."""
    monkeypatch.setenv("MUKERNEL_INSTALLER", tool)
    write_project(tmp_path / "project", "1.1")
    with (tmp_path / "project" / "backend.py").open("a") as backend:
        backend.write("print('a line\\n' * 1000)\nraise RuntimeError('needs libfoo-dev')\n")
    monkeypatch.setenv("COLUMNS", "40")
    with pytest.raises(Unavailable) as raised:
        installer.install(request("./project", folder=str(tmp_path)))
    said = str(raised.value)
    assert said.startswith("use = './project': no wheel of it can be built: ...")
    assert said.endswith("RuntimeError: needs libfoo-dev") and len(said) < LONGEST_REASON + 60


def test_why_a_build_failed_that_is_shown_before_what_was_printed() -> None:
    """They come by two pipes."""
    raised = 'Traceback (most recent call last):\n  File "backend.py", line 1\nRuntimeError: needs libfoo-dev\n'
    after = "error: Failed to build `project`\n  cause: The build backend returned an error\n"
    said = explained("uv", "no wheel of it can be built", raised + "a line\n" * 1000 + after, 1)
    assert said == "no wheel of it can be built: ...RuntimeError: needs libfoo-dev"


def test_why_a_build_of_something_of_an_index_failed() -> None:
    of_uv = (
        "   Building shop==9.0\nerror: Failed to build `shop==9.0`\n  cause: The build backend returned an error\n"
        "\n         [stdout]\n"
        + "         a line\n" * 1000
        + "\n         [stderr]\n         OSError: none\n\nhint: No\n"
    )
    assert explained("uv", "it can't be installed", of_uv, 1).endswith("OSError: none")
    before_it = (
        "Building wheel...\nwarning: old\nerror: Failed to build `shop`\n  cause: Failed to resolve requirements\n"
    )
    said = explained("uv", "no wheel of it can be built", before_it, 1)
    assert said == "no wheel of it can be built: Failed to build `shop` Failed to resolve requirements"


def test_a_tool_that_ends_in_a_traceback(installer: Installer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pip does of a pyproject.toml that is none."""
    monkeypatch.setenv("MUKERNEL_INSTALLER", "pip")
    write_project(tmp_path / "project", "1.1")
    (tmp_path / "project" / "pyproject.toml").write_text("this is = = none\n")
    with pytest.raises(Unavailable, match=r"TOMLDecodeError: .*\(at line 1, column 6\)$") as raised:
        installer.install(request("./project", folder=str(tmp_path)))
    assert "Traceback" not in str(raised.value) and "File" not in str(raised.value)


IN_A_TERMINAL = """
import pty, sys
pty.spawn([sys.executable, "-c", '''
from mukernel.deployment.work import Work
print(Work().run(["sh", "-c", "(: </dev/tty) 2>/dev/null && echo it asks || echo nobody is asked"], "no shell"))
'''])
"""


def test_a_tool_finds_no_terminal_to_ask_in() -> None:
    """ssh would ask there, be stopped, as whatever reads there in the background, and hold up all that installs."""
    command = [sys.executable, "-c", IN_A_TERMINAL]
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
    assert "nobody is asked" in said


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("Host key verification failed.", "Host key verification failed.*/known_hosts"),
        ("git@localhost: Permission denied (publickey).", "Permission denied.* ssh-agent"),
        ("x\n" * 1000 + "sh: cannot open /dev/tty: No such device", "cannot open /dev/tty.* ssh-agent"),
    ],
)
def test_what_ssh_would_have_asked(
    said: str, wanted: str, installer: Installer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "ssh"
    (tmp_path / "said").write_text(f"{said}\n")
    script.write_text(
        f'#!/bin/sh\n[ "$SSH_ASKPASS_REQUIRE$SSH_ASKPASS" = never ] && cat {tmp_path}/said >&2\nexit 255\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(script))
    monkeypatch.setenv("SSH_ASKPASS", "a-window")
    with pytest.raises(Unavailable, match=rf"use = 'git\+ssh://git@localhost/shop': .*{wanted}"):
        installer.install(request("git+ssh://git@localhost/shop"))
