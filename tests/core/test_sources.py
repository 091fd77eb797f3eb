"""Which files a plug-in is made of, so that it is loaded anew when one of them is saved."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mukernel.core.inspection import inspect_plugins

PLUGIN = """
from mukernel import Interface, Plugin

class Counts(Interface):
    async def count(self) -> int: ...

class Counter(Plugin, Counts):
    async def count(self) -> int:
        return 0
"""
Write = Callable[[dict[str, str]], None]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_all(files: dict[str, str]) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    return write_all


async def sources(folder: Path, use: str, importing: bool = True) -> tuple[set[str], set[str]]:
    """The files of a plug-in: those that are there, and those that are not."""
    found = (await inspect_plugins({"one": (use, {})}, str(folder), importing=importing))["one"]
    assert not found.problems
    files = {os.path.relpath(each, folder) for each in found.files}
    there = {each for each in files if (folder / each).is_file()}
    return there, files - there


async def test_what_import_statements_lead_to_wherever_they_stand(tmp_path: Path, write: Write) -> None:
    write({
        "shop/__init__.py": "",
        "shop/till.py": f"from .prices import tea\n{PLUGIN}\ndef f():\n    from . import late\n    import deep.inner\n",
        "shop/prices/__init__.py": "from ..money import *\ntea = 3\n",
        "shop/prices/old.py": "",
        "shop/money.py": "from shop.coins import euro\n",
        "shop/coins.py": "import shop.money  # in a circle\neuro = 1\n",
        "shop/late.py": "from ....... import nothing\nfrom .missing import nothing\n",
        "shop/other.py": "",
        "deep/__init__.py": "from . import outer  # only the package on the way uses it\n",
        "deep/outer.py": "",
        "deep/inner.py": "this is no Python\n",
        "free.py": "",
    })  # fmt: skip
    there, missing = await sources(tmp_path, "shop.till:Counter")
    assert there == {
        "shop/__init__.py", "shop/till.py", "shop/prices/__init__.py", "shop/money.py", "shop/coins.py", "shop/late.py",
        "deep/__init__.py", "deep/inner.py",
    }  # fmt: skip
    assert {"shop/missing.py", "shop/missing/__init__.py", "shop/prices/tea.py"} <= missing
    assert not any(each.startswith(("..", "mukernel")) for each in missing)


async def test_of_a_package_that_passes_classes_on_only_what_the_class_is_made_of(tmp_path: Path, write: Write) -> None:
    write({
        "shop/__init__.py": "from .front import Counter\nfrom .other import nothing\n",
        "shop/front/__init__.py": "from ..till import Counter\n",
        "shop/till.py": PLUGIN,
        "shop/other.py": "from .till import Counter\nnothing = 0\n",
    })  # fmt: skip
    there, _ = await sources(tmp_path, "shop:Counter")
    assert there == {"shop/__init__.py", "shop/front/__init__.py", "shop/till.py"}


async def test_of_what_can_not_be_imported_all_that_may_be_why(tmp_path: Path, write: Write) -> None:
    write({
        "shop/__init__.py": "from .other import nothing\n",
        "shop/till.py": "raise SystemExit\n",
        "shop/other.py": "import another, absent\n",
        "another.py": "",
    })  # fmt: skip
    there, missing = await sources(tmp_path, "shop.till:Counter", importing=False)
    assert there == {"shop/__init__.py", "shop/till.py", "shop/other.py", "another.py"}
    assert {"absent.py", "absent/__init__.py"} <= missing
    there, missing = await sources(tmp_path, "shop/till.py:Counter", importing=False)
    assert there == {"shop/till.py"}


async def test_neither_python_s_library_nor_what_is_installed(tmp_path: Path, write: Write) -> None:
    write({
        "till.py": "import json, msgspec, venv\n" + PLUGIN,
        "venv/lib/python3/site-packages/msgspec.py": "",
    })  # fmt: skip
    there, missing = await sources(tmp_path, "till.py:Counter")
    assert there == {"till.py"}
    assert not any("site-packages" in each or each.startswith("..") for each in missing)
