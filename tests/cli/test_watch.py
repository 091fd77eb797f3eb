"""`mukernel run --watch`: each saved source of a plug-in is a swap."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def save(file: Path, text: str) -> None:
    """As an editor does: a new file in the place of the old."""
    new = file.with_suffix(".new")
    new.write_text(text)
    os.replace(new, file)


def rewrite(file: Path, change: Callable[[str], str]) -> None:
    save(file, change(file.read_text()))


@pytest.mark.parametrize("placement", ["process", "inline"])
def test_watch_swaps_what_changes_and_keeps_the_old_version_when_that_fails(
    home: Path, tmp_path: Path, start: Any, mukernel: Any, placement: str
) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    mukernel("new", str(tmp_path / "hello")).good()
    shutil.copytree(tmp_path / "hello", folder, dirs_exist_ok=True)
    rewrite(folder / "app.toml", lambda text: text.replace('placement = "inline"', f'placement = "{placement}"'))
    app = start(folder, "--watch")
    plugin = folder / "hello" / "plugin.py"
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Hello, Ada!"
    rewrite(plugin, lambda text: text.replace('"Hello"', '"Howdy"'))
    app.until("greeter   swap")
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Howdy, Ada!"
    rewrite(plugin, lambda text: text.replace("class English", "clas English"))
    said = app.until("greeter: not swapped, the old version serves on:")
    assert said.endswith(f'serves on: File "{plugin}", line 10')
    told = [app.until("clas English"), app.until("SyntaxError")]
    assert told[0].strip() == "clas English(Plugin, Greeter):"
    assert told[1] == "SyntaxError: invalid syntax"
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Howdy, Ada!"
    rewrite(plugin, lambda text: text.replace("clas English", "class English").replace('"Howdy"', '"Salut"'))
    app.until("greeter   swap")
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Salut, Ada!"
    assert mukernel("call", "Greeter.greeted").good() == "4"  # its state went along
    rewrite(plugin, lambda text: text + "\n\ndef count(to):\n    return to / 0\n\n\ncount(1)\n")
    app.until("greeter: not swapped, the old version serves on: ZeroDivisionError: division by zero")
    assert app.until("hello/plugin.py:").strip().endswith(": count(1)")
    assert app.until("hello/plugin.py:").strip().endswith(": return to / 0")
    rewrite(plugin, lambda text: text.partition("\n\ndef count")[0] + "\n")
    app.until("greeter   swap")
    # What only the interface's module says is the plug-in's, too.
    rewrite(folder / "hello" / "interface.py", lambda text: text.replace("Greets people.", "Greets everybody."))
    app.until("greeter   swap")
    assert "Greets everybody." in mukernel("describe", "greeter").good()


def answer_of(word: str) -> str:
    """The source of a plug-in that greets with `word`."""
    return (
        "from hello.plugin import English\n\n\nclass Other(English):\n"
        f"    async def greet(self, name: str) -> str:\n        return f'{word} {{name}}'\n"
    )


def test_watch_follows_a_swap_by_the_command_line_to_another_file(
    home: Path, tmp_path: Path, start: Any, mukernel: Any
) -> None:
    folder = tmp_path / "shop"
    mukernel("new", str(folder)).good()
    shutil.move(folder / "shop", folder / "hello")
    rewrite(folder / "app.toml", lambda text: text.replace("shop.plugin", "hello.plugin"))
    other = folder / "hello" / "other.py"
    other.write_text(answer_of("Ciao"))
    app = start(folder, "--watch")
    mukernel("swap", "greeter", "hello.other:Other").good()
    app.until("greeter   swap")
    rewrite(other, lambda text: text.replace("Ciao", "Salve"))  # at once: not even its name was looked at yet
    app.until("greeter   swap")
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Salve Ada"
    rewrite(other, lambda text: text.replace("Salve", "Ave"))
    app.until("greeter   swap")
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Ave Ada"


def test_watch_swaps_what_changed_while_the_application_started(
    home: Path, tmp_path: Path, start: Any, mukernel: Any
) -> None:
    folder = tmp_path / "shop"
    mukernel("new", str(folder)).good()
    (folder / "late.py").write_text(
        "from pathlib import Path\n\nfrom shop.plugin import English\n\n\nclass Late(English):\n"
        "    async def start(self):\n        file = Path(__file__).parent / 'shop' / 'plugin.py'\n"
        "        file.write_text(file.read_text().replace('Hello', 'Howdy'))\n"
    )
    rewrite(folder / "app.toml", lambda text: text + '[plugins.late]\nuse = "late:Late"\n')
    app = start(folder, "--watch")
    app.until("greeter   swap")
    assert mukernel("call", "Greeter.greet", "Ada", "--plugin", "greeter").good() == "Howdy, Ada!"


def test_watch_loads_what_changed_while_the_plugin_was_stopped(
    home: Path, tmp_path: Path, start: Any, mukernel: Any
) -> None:
    folder = tmp_path / "shop"
    mukernel("new", str(folder)).good()
    rewrite(folder / "app.toml", lambda text: text + '[plugins.twin]\nuse = "shop.plugin:English"\n')
    app = start(folder, "--watch")
    mukernel("stop", "greeter").good()
    plugin = folder / "shop" / "plugin.py"
    rewrite(plugin, lambda text: text.replace('"Hello"', '"Howdy"'))
    app.until("twin   swap")  # so it has looked
    mukernel("start", "greeter").good()
    app.until("greeter   swap")
    assert mukernel("call", "Greeter.greet", "Ada", "--plugin", "greeter").good() == "Howdy, Ada!"


def test_watch_starts_what_was_given_up_again_when_it_is_mended(
    home: Path, tmp_path: Path, start: Any, mukernel: Any
) -> None:
    mukernel("new", str(tmp_path / "hello")).good()
    folder = tmp_path / "hello"
    plugin = folder / "hello" / "plugin.py"
    rewrite(folder / "app.toml", lambda text: text.replace('placement = "inline"', 'placement = "process"'))
    rewrite(folder / "app.toml", lambda text: text + "\n[plugins.greeter.restart]\nintensity = 0\n")
    app = start(folder, "--watch")
    sound = plugin.read_text()
    method = re.search(r"\n( +)async def greet\(.*?\n", sound)
    assert method is not None
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Hello, Ada!"
    rewrite(plugin, lambda text: text.replace(method[0], f"{method[0]}{method[1] * 2}import os; os._exit(3)\n"))
    app.until("greeter   swap")
    assert mukernel("call", "Greeter.greet", "Ada").status == 1
    app.until("greeter   given up")
    rewrite(plugin, lambda text: sound)
    app.until("greeter   restart")
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Hello, Ada!"


def test_watch_swaps_what_crashed_meanwhile_when_it_serves_again(
    home: Path, tmp_path: Path, start: Any, mukernel: Any
) -> None:
    """One of two replicas: it is started again from what was saved, and the other is not left behind."""
    folder, gate = tmp_path / "shop", tmp_path / "gate"
    mukernel("new", str(folder)).good()
    rewrite(
        folder / "app.toml", lambda text: text.replace('placement = "inline"', 'placement = "process"\nreplicas = 2')
    )
    app = start(folder, "--watch")
    (greeter,) = json.loads(mukernel("ps", "--json").good())
    hook = (
        "    async def start(self) -> None:\n        import asyncio, os\n        print('begun', flush=True)\n"
        f"        while not os.path.exists({str(gate)!r}): await asyncio.sleep(0.01)\n\n"
    )
    method = "    async def greet(self, name: str) -> str:\n"
    plugin = folder / "shop" / "plugin.py"
    rewrite(plugin, lambda text: text.replace('"Hello"', '"Howdy"').replace(method, hook + method))
    while "begun" not in mukernel("logs", "greeter").good():
        pass
    os.kill(greeter["pids"][0], signal.SIGKILL)
    app.until("greeter: not swapped, what crashed is started again as before: it crashed")
    gate.touch()
    app.until("greeter   swap")
    assert {mukernel("call", "Greeter.greet", "Ada").good() for _ in range(4)} == {"Howdy, Ada!"}


@pytest.fixture
def hello(home: Path, tmp_path: Path, mukernel: Any) -> Path:
    """The folder of a new application, whose plug-in greets with a word of a module that only its method imports."""
    mukernel("new", str(tmp_path / "hello")).good()
    package = tmp_path / "hello" / "hello"
    (package / "words.py").write_text("def word() -> str:\n    return 'Hello'\n")
    rewrite(package / "plugin.py", lambda text: text.replace("{self.word}", "{word()}"))
    method = "    async def greet(self, name: str) -> str:\n"
    rewrite(package / "plugin.py", lambda text: text.replace(method, method + "        from .words import word\n\n"))
    return tmp_path / "hello"


@pytest.mark.parametrize("placement", ["process", "inline"])
def test_watch_sees_what_only_a_function_imports(hello: Path, start: Any, mukernel: Any, placement: str) -> None:
    rewrite(hello / "app.toml", lambda text: text.replace('placement = "inline"', f'placement = "{placement}"'))
    app = start(hello, "--watch")
    words = hello / "hello" / "words.py"
    rewrite(words, lambda text: text.replace("Hello", "Howdy"))  # before it was ever imported
    app.until("greeter   swap")
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Howdy, Ada!"
    rewrite(words, lambda text: text.replace("Howdy", "Salut"))
    app.until("greeter   swap")
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Salut, Ada!"


def test_watch_sees_the_module_that_use_names_where_that_only_passes_the_class_on(
    hello: Path, start: Any, mukernel: Any
) -> None:
    rewrite(hello / "app.toml", lambda text: text.replace("hello.plugin:", "hello:"))
    package = hello / "hello" / "__init__.py"
    package.write_text("from .front import English\n")
    front = hello / "hello" / "front" / "__init__.py"
    front.parent.mkdir()
    front.write_text("from hello.plugin import English\n")
    app = start(hello, "--watch")
    rewrite(
        front,
        lambda text: text + "\n\nclass English(English):\n    async def greet(self, name):\n        return 'Ave'\n",
    )
    app.until("greeter   swap")
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Ave"
    rewrite(package, lambda text: "from .plugin import English\n")
    app.until("greeter   swap")
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Hello, Ada!"


@pytest.mark.parametrize(
    ("placement", "broken"),
    [
        ("process", "word = undefined\n"),
        ("inline", "word = undefined\n"),
        ("inline", None),  # it is not there yet
        ("process", "import os, signal\n\nos.kill(os.getpid(), signal.SIGKILL)\n"),
    ],
)
def test_watch_tries_again_when_what_a_failed_version_imported_is_mended(
    hello: Path, start: Any, mukernel: Any, placement: str, broken: str | None
) -> None:
    rewrite(hello / "app.toml", lambda text: text.replace('placement = "inline"', f'placement = "{placement}"'))
    app = start(hello, "--watch")
    new = hello / "hello" / "new.py"
    if broken is not None:
        save(new, broken)
    imported = "from .interface import Greeter\n"
    rewrite(hello / "hello" / "plugin.py", lambda text: text.replace(imported, f"{imported}from .new import word\n"))
    app.until("greeter: not swapped, the old version serves on")
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Hello, Ada!"
    save(new, "word = 'Howdy' + undefined\n")
    app.until("greeter: not swapped, the old version serves on")
    save(new, "def word() -> str:\n    return 'Howdy'\n")
    app.until("greeter   swap")
    save(new, "def word() -> str:\n    return 'Salut'\n")
    app.until("greeter   swap")


def test_watch_follows_a_rollback(hello: Path, start: Any, mukernel: Any) -> None:
    for name in ("apart", "twin"):
        shutil.copytree(hello / "hello", hello / name)
    rewrite(hello / "app.toml", lambda text: text + '[plugins.twin]\nuse = "twin.plugin:English"\n')
    app = start(hello, "--watch")
    mukernel("swap", "greeter", "apart.plugin:English").good()
    rewrite(hello / "twin" / "words.py", lambda text: text + "\n")
    app.until("twin   swap")  # so it has looked, at what the greeter is now, too
    mukernel("rollback", "greeter").good()
    app.until("greeter   rollback")
    rewrite(hello / "hello" / "words.py", lambda text: text.replace("Hello", "Salut"))
    app.until("greeter   swap")
    assert mukernel("call", "Greeter.greet", "Ada", "--plugin", "greeter").good() == "Salut, Ada!"


def test_watch_swaps_no_other_plugin_of_the_same_package(hello: Path, start: Any, mukernel: Any) -> None:
    (hello / "hello" / "other.py").write_text("from .plugin import English\n\n\nclass Other(English):\n    pass\n")
    (hello / "hello" / "__init__.py").write_text("from .other import Other\nfrom .plugin import English\n")
    rewrite(hello / "app.toml", lambda text: text.replace("hello.plugin:", "hello:"))
    rewrite(hello / "app.toml", lambda text: text + '[plugins.other]\nuse = "hello:Other"\n')
    app = start(hello, "--watch")
    rewrite(hello / "hello" / "other.py", lambda text: text + "\n")
    app.until("other   swap")
    rewrite(hello / "hello" / "interface.py", lambda text: text + "\n")
    app.until("greeter   swap")
    app.until("other   swap")
    assert [line.split()[1:3] for line in app.lines if "   swap   " in line] == [
        ["other", "swap"], ["greeter", "swap"], ["other", "swap"],
    ]  # fmt: skip
