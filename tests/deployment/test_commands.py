"""The command line: install, run, swap, rollback, list, uninstall, gc."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from deployment_wheels import write_project

APPLICATION = """
[app]
name = "shop"
wheels = ["wheels"]
[plugins.catalog]
use = "shop-catalog==1.0"
placement = "process"
[plugins.second]
use = "shop-catalog==2.0"
placement = "process"
"""


def running_module() -> ModuleType:
    """`Running`, as the tests of the command line use it."""
    path = Path(__file__).parents[1] / "cli" / "conftest.py"
    spec = importlib.util.spec_from_file_location("cli_running", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shop(tmp_path: Path, wheels: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an application; nothing of it is installed."""
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "app.toml").write_text(APPLICATION)
    (folder / "wheels").symlink_to(wheels)
    monkeypatch.chdir(folder)
    return folder


def mukernel(*words: str, status: int = 0) -> str:
    """Run a command; returns what it printed, errors last."""
    done = subprocess.run([sys.executable, "-m", "mukernel.cli", *words], capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def as_json(*words: str, status: int = 0) -> Any:
    return json.loads(mukernel(*words, "--json", status=status).splitlines()[0])


@pytest.fixture
def start(shop: Path) -> Iterator[Callable[[], Any]]:
    started: list[Any] = []

    def begin(until: str = " runs;") -> Any:
        started.append(running_module().Running(shop))
        started[-1].until(until)
        return started[-1]

    yield begin
    for each in started:
        each.end()


def test_from_install_to_gc(shop: Path, start: Callable[[], Any]) -> None:
    said = mukernel("check", status=1)
    assert "plugins.catalog.use = 'shop-catalog==1.0' is not installed; `mukernel install` does it" in said
    installed = as_json("install")["installed"]
    assert [(each["plugin"], each["version"]) for each in installed] == [("catalog", "1.0"), ("second", "2.0")]
    assert (shop / "app.lock").exists()
    assert "Catalog" in mukernel("check")
    (shop / "app.toml").write_text(APPLICATION.replace('"process"', '"process:one"'))
    (problem,) = as_json("check", status=1)["problems"]
    assert problem.endswith(
        "plugins.second.use: got 'shop-catalog==2.0', which has another environment than 'catalog', which shares the "
        "process 'one'; wanted the same environment for all of that name, or another name in `placement`"
    )
    (shop / "app.toml").write_text(APPLICATION)
    app = start()
    assert not [line for line in app.lines if "resolving" in line or "installing" in line]
    call = ("call", "Catalog.versions", "--plugin", "catalog")
    assert as_json(*call)[:2] == ["1.0", "1.0"]

    swapped = as_json("swap", "catalog", "shop-catalog==3.0:catalog", "--upgrade")
    assert not swapped["rolled_back"] and swapped["lost"] == 0
    assert as_json(*call)[:2] == ["3.0", "2.0"]
    rows = {each["environment"].rpartition("-")[0]: each for each in as_json("list")["environments"]}
    assert {name: (each["declared_by"], each["used_by"]) for name, each in rows.items()} == {
        "shop-catalog-1.0": (["catalog"], []),
        "shop-catalog-2.0": (["second"], ["second"]),
        "shop-catalog-3.0": ([], ["catalog"]),
    }
    assert "shop-catalog-3.0" in mukernel("list")
    assert as_json("gc")["removed"] == []
    assert "is being used" in mukernel("uninstall", rows["shop-catalog-3.0"]["environment"], status=1)

    assert not as_json("swap", "catalog", "shop-catalog==2.0")["rolled_back"]
    failed = mukernel("swap", "catalog", "shop-catalog==9", status=1)
    assert "the old version serves on" in failed or "was not begun" in failed
    assert as_json(*call)[:2] == ["2.0", "2.0"]
    assert [each["environment"] for each in as_json("gc", "--dry-run")["would_remove"]] == [
        rows["shop-catalog-3.0"]["environment"]
    ]
    mukernel("install")
    mukernel("gc")
    assert 'use = "shop-catalog==3.0"' in (shop / "app.lock").read_text()
    assert as_json("rollback", "catalog")["rolled_back"] is False  # made again from what is locked
    assert as_json(*call)[:2] == ["3.0", "2.0"]
    assert as_json("rollback", "catalog")["what"] == "rollback"
    assert as_json(*call)[:2] == ["1.0", "1.0"]
    assert "there is no version to go back to" in mukernel("rollback", "catalog", status=1)
    assert app.end() == 0
    mukernel("install")
    assert 'use = "shop-catalog==3.0"' not in (shop / "app.lock").read_text()

    damaged = rows["shop-catalog-3.0"]["environment"]
    Path(as_json("list")["folder"], "environments", damaged, "environment.json").write_text("{")
    assert as_json("list")["damaged"] == [damaged]
    assert f"damaged: {damaged}; `mukernel install` makes it anew" in mukernel("list")
    mukernel("uninstall", damaged)
    assert as_json("list")["damaged"] == []
    second = rows["shop-catalog-2.0"]["environment"]
    (module,) = Path(as_json("list")["folder"], "environments", second).glob("lib/*/site-packages/shop_library.py")
    module.unlink()
    assert as_json("list")["damaged"] == [second]
    assert "shop_library.py is missing" in mukernel("list")
    assert [each["environment"] for each in as_json("gc", "--dry-run")["would_remove"]][-1:] == [second]
    assert f"second: {second} is damaged, and is made anew" in mukernel("install")
    assert module.exists() and as_json("list")["damaged"] == []
    mukernel("uninstall", "second")
    assert "second" not in str(as_json("list"))
    assert "neither a plug-in that is installed" in mukernel("uninstall", "second", status=1)
    again = start()
    assert [line for line in again.lines if "installing" in line]  # what is missing is installed, and said


def test_what_failed_is_not_tried_until_asked_for(shop: Path, start: Callable[..., Any]) -> None:
    (shop / "app.toml").write_text(APPLICATION.replace("==2.0", "==9.0"))
    first = mukernel("run", status=1)
    assert "resolving shop-catalog==9.0" in first
    assert "plugins.second.use = 'shop-catalog==9.0'" in first
    second = mukernel("run", status=1)
    assert "resolving shop-catalog==9.0" not in second
    assert "`mukernel install` tries again" in second
    assert "tries again" in mukernel("check", status=1)
    assert as_json("list")["failures"][0]["use"] == "shop-catalog==9.0"
    third = as_json("install", status=1)
    assert [each["plugin"] for each in third["installed"]] == ["catalog"]
    assert len(third["problems"]) == 1
    (shop / "app.toml").write_text(APPLICATION)
    start()


def test_a_lock_file_that_is_not_sound_is_one_problem(shop: Path) -> None:
    wheel = "wheels/shop_catalog-1.0-py3-none-any.whl"
    (shop / "app.toml").write_text(f'{APPLICATION}[plugins.old]\nuse = "{wheel}"\nplacement = "process"\n')
    for installed in (False, True):
        if installed:
            (shop / "app.lock").unlink()
            mukernel("install")
            sound = (shop / "app.lock").read_text()
            kept = [each["environment"] for each in as_json("list")["environments"]]
        (shop / "app.lock").write_text("format = 1\n[[environment]\n")
        checked = as_json("check", status=1)
        (problem,) = [each for each in checked["problems"] if "app.lock" in each]
        assert "app.lock can't be read: " in problem and "(at line 2, column " in problem
        assert "mend it, or remove it to resolve anew" in problem
        for command in ("run", "install", "list", "gc"):
            said = mukernel(command, status=1)
            assert said.count("app.lock can't be read") == 1 and "plugins.old./" not in said
    (shop / "app.lock").write_text(sound)
    assert as_json("check")["ok"]  # it was no failure of theirs
    assert [each["environment"] for each in as_json("list")["environments"]] == kept


def test_only_wheels(shop: Path) -> None:
    write_project(shop / "project", "1.1")
    (shop / "app.toml").write_text(APPLICATION.replace('"shop-catalog==1.0"', '"./project"'))
    refused = "plugins.catalog.use = './project': a directory is a source tree, and only_wheels refuses"
    assert refused in mukernel("install", "--only-wheels", status=1)
    assert "no_wheels is unknown" in mukernel("check", str(written(shop, "no_wheels = true")), status=1)
    assert "app.only_wheels: got 'yes'" in mukernel("check", str(written(shop, 'only_wheels = "yes"')), status=1)
    only = str(written(shop, "only_wheels = true"))
    for command in ("check", "install", "run"):
        assert refused in mukernel(command, only, status=1)
    mukernel("install")
    assert "Catalog" in mukernel("check")


def written(shop: Path, setting: str) -> Path:
    """The application with another setting in [app]."""
    path = shop / "only.toml"
    path.write_text((shop / "app.toml").read_text().replace("[app]\n", f"[app]\n{setting}\n"))
    return path


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (
            'placement = "process"\n[',
            "[",
            "plugins.catalog.placement: 'shop-catalog==1.0' has an environment of its own",
        ),
        ('"shop-catalog==1.0"', '"shop-catalog==1.0"\npython = "2.7x"', "python: got '2.7x', wanted 3.11 or later"),
        ('"shop-catalog==1.0"', '"shop-catalog==1.0"\nentry = "a b"', "plugins.catalog.entry: got 'a b'"),
        ('"shop-catalog==1.0"', '"shop:Thing"\npython = "3.12"', "plugins.catalog.python: 'shop:Thing' runs with"),
        ('"shop-catalog==1.0"', '"git+ext::sh"', "wanted 'git+SCHEME://...'"),
        ('["wheels"]', '["nowhere"]', "app.wheels: got ['nowhere'], wanted a list of folders that exist"),
    ],
)
def test_problems_of_the_application_file(shop: Path, old: str, new: str, why: str) -> None:
    (shop / "app.toml").write_text(APPLICATION.replace(old, new, 1))
    for command in ("check", "install"):
        assert why in mukernel(command, status=1)
    assert not os.path.exists(shop / "app.lock")


def test_a_use_that_can_not_be_read(shop: Path) -> None:
    """It is one problem among the others, wherever the file is read; a script reads it, too."""
    direct = '"shop-catalog @ https://example.org/x.whl"'
    (shop / "app.toml").write_text(APPLICATION.replace('"shop-catalog==1.0"', f"{direct}\nnokey = 1"))
    for command in ("check", "install"):
        said = mukernel(command, status=1)
        assert "app.toml: plugins.catalog.use = 'shop-catalog @ https" in said and "plugins.catalog.nokey is" in said
    told = as_json("install", status=1)
    assert not told["ok"] and told["installed"] == [] and len(told["problems"]) == 2
    (shop / "app.toml").write_text(APPLICATION)
    assert "--state: got 'nowhere', where no folder is" in mukernel("list", "--state", "nowhere", status=1)
    told = as_json("install", "--plugin", "third", status=1)
    assert told["problems"] == ["--plugin: got 'third', wanted one that has an environment of its own: catalog, second"]


@pytest.mark.parametrize("use", ["shop-catalog", "shop-catalog=2.0"])
def test_a_requirement_without_a_version(shop: Path, use: str) -> None:
    (shop / "app.toml").write_text(f'[plugins.catalog]\nuse = "{use}"\n')
    wanted = (
        "a requirement with a version, such as 'shop-catalog==2.0', a wheel, a directory such as './shop-catalog', or"
    )
    assert f"an environment of its own: no `use` is {wanted}" in mukernel("install")
    assert f"for what is to have an environment of its own, {wanted}" in mukernel("check", status=1)


def test_a_python_that_is_not_there(shop: Path) -> None:
    (shop / "app.toml").write_text(APPLICATION.replace('==1.0"', "==1.0\"\npython = '3.99'"))
    assert "found: 3.1" in mukernel("install", "--plugin", "catalog", status=1)
    assert "wanted one that has an environment of its own: catalog, second" in mukernel(
        "install", "--plugin", "third", status=1
    )
