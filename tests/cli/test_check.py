"""`mukernel check`, and `mukernel new`, whose package passes its own test and runs at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mukernel import Sandbox
from mukernel.cli.main import main
from mukernel.core import import_output
from mukernel.core.inspection import inspect_plugins
from mukernel.kernel.process import Limits
from mukernel.sandbox.family import children

from .conftest import APPLICATION, write_shop


def test_a_sound_application(home: Path, tmp_path: Path, mukernel: Any) -> None:
    folder = write_shop(tmp_path / "shop")
    text = mukernel("check", str(folder / "app.toml")).good()
    assert [line.split()[0] for line in text.splitlines()] == ["NAME", "greeter", "catalog", "app.toml", "sandbox:"]
    checked = json.loads(mukernel("check", str(folder / "app.toml"), "--json").good())
    assert checked["ok"] is True
    assert checked["plugins"][1]["calls"] == {"Greeter": "greeter"}
    assert checked["plugins"][1]["settings"] == ["path: str", "size: int = 10"]
    assert checked["sandbox"]["available"] is True
    assert "seccomp" in checked["sandbox"]["enforced"]


def test_a_sandbox_that_this_machine_can_not_enforce(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An application that wants one is not sound here; the reason is told."""
    folder = write_shop(tmp_path / "shop", APPLICATION.replace('"process"', '"sandbox"\ngrants = ["Greeter"]'))
    monkeypatch.setattr(
        "mukernel.sandbox.machine.tried", lambda groups: "namespaces of its own: Operation not permitted"
    )
    assert main(["check", str(folder / "app.toml"), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False and told["sandbox"]["available"] is False
    assert "Operation not permitted" in told["problems"][0]


HOSTILE = """
import os
try:
    open({mark!r}, "w").close()
except OSError:
    pass
print("printed as it is imported")
{more}
from mukernel import Interface, Plugin

class Guest(Interface):
    async def name(self) -> str: ...

class Stranger(Plugin, Guest):
    def __init__(self, *, polite: bool = False) -> None: ...
    async def name(self) -> str: return os.getcwd()
"""


@pytest.mark.parametrize("placement", ["process", "sandbox"])
def test_what_is_to_run_in_a_sandbox_is_imported_in_one(
    home: Path, tmp_path: Path, mukernel: Any, placement: str
) -> None:
    """Its author's code runs as soon as it is imported, and `run` imports it, too, before anything starts."""
    folder, mark = tmp_path / "guests", tmp_path / "escaped"
    folder.mkdir()
    (folder / "guest.py").write_text(HOSTILE.format(mark=str(mark), more=""))
    (folder / "bad.py").write_text(HOSTILE.format(mark=str(mark), more="os.kill(os.getpid(), 9)"))
    (folder / "app.toml").write_text(
        f'[plugins.guest]\nuse = "guest:Stranger"\nplacement = "{placement}"\n'
        f'[plugins.other]\nuse = "guest:Stranger"\nplacement = "{placement}"\nconfig = {{ polite = true }}\n'
    )
    checked = json.loads(mukernel("check", str(folder / "app.toml"), "--json").good())
    assert [each["settings"] for each in checked["plugins"]] == [["polite: bool = False"]] * 2
    assert mark.exists() == (placement == "process")
    text = (folder / "app.toml").read_text()
    (folder / "app.toml").write_text(text.replace("guest:Str", "bad:Str", 1).replace("true", '"very"'))
    problems = json.loads(mukernel("check", str(folder / "app.toml"), "--json").out)["problems"]
    assert "plugins.guest.use: importing bad ended the process that did it (signal 9)" in problems[0]
    assert "plugins.other.config.polite" in problems[1]
    assert mark.exists() == (placement == "process")


APART = """
import os
if os.fork() == 0:
    os.setsid()
    with open({left!r}, "w") as file:
        file.write(str(os.getpid()))
    os.rename({left!r}, {left!r} + ".whole")
    while True:
        signal.pause()
while not os.path.exists({left!r} + ".whole"):
    pass
"""


@pytest.mark.parametrize(("last", "problem"), [("", ""), ("os.kill(os.getpid(), 11)", "(signal 11)")])
async def test_who_looks_at_a_class_waits_for_nothing_that_its_import_leaves_behind(
    tmp_path: Path, last: str, problem: str
) -> None:
    left = tmp_path / "left"
    more = "import signal\n" + APART.format(left=str(left)) + last
    (tmp_path / "guest.py").write_text(HOSTILE.format(mark=str(tmp_path / "mark"), more=more))
    try:
        found = await inspect_plugins({"guest": ("guest:Stranger", {})}, str(tmp_path))
        assert bool(found["guest"].problems) == bool(problem) and problem in "".join(found["guest"].problems)
    finally:
        os.kill(int((tmp_path / "left.whole").read_text()), signal.SIGKILL)


FORKED = """
child = os.fork()
written = open({left!r} if child == 0 else os.devnull, "w")
written.write("its own")
written.flush()
if child:
    os.waitpid(child, 0)
"""


async def test_what_an_import_forks_writes_no_answer_of_ours_to_its_files(tmp_path: Path) -> None:
    """Both go on, and the child's next file has the number that our answers had."""
    left = tmp_path / "left"
    (tmp_path / "guest.py").write_text(HOSTILE.format(mark=str(tmp_path / "mark"), more=FORKED.format(left=str(left))))
    found = await inspect_plugins({"guest": ("guest:Stranger", {})}, str(tmp_path))
    assert (found["guest"].problems, left.read_text()) == ([], "its own")


async def test_a_sandbox_that_can_not_be_set_up_is_a_problem_of_its_plugin(tmp_path: Path) -> None:
    mark = tmp_path / "escaped"
    (tmp_path / "guest.py").write_text(HOSTILE.format(mark=str(mark), more=""))
    uses: dict[str, Any] = {name: ("guest:Stranger", {}) for name in ("gone", "own", "good")}
    boxes = {
        "gone": (Sandbox(read=(f"{tmp_path}-gone",)), Limits()),
        "own": (Sandbox(write=(str(tmp_path.parent),)), Limits()),
        "good": (Sandbox(), Limits()),
    }
    found = await inspect_plugins(uses, str(tmp_path), boxes=boxes)
    assert "importing guest was not tried: its sandbox could not be set up: files" in found["gone"].problems[0]
    assert "importing guest was not tried: sandbox.write: got" in found["own"].problems[0]
    assert (found["good"].problems, mark.exists()) == ([], False)


def test_every_problem_is_listed(home: Path, tmp_path: Path, mukernel: Any) -> None:
    application = APPLICATION.replace('path = "books.db"', "size = 'big'").replace("shop:English", "shop:Nobody")
    folder = write_shop(tmp_path / "shop", application)
    ended = mukernel("check", str(folder / "app.toml"))
    assert (ended.status, ended.out) == (1, "")
    assert "app.toml has 3 problems" in ended.err
    problems = json.loads(mukernel("check", str(folder / "app.toml"), "--json").out)["problems"]
    assert [problem.partition(" ")[2].partition(" ")[0] for problem in problems] == [
        "plugins.catalog.config.size", "plugins.catalog.config.path", "plugins.greeter.use:",
    ]  # fmt: skip


async def test_what_a_class_itself_finds_wrong_with_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from mukernel import Interface, Plugin\n"
        "class Served(Interface):\n    async def name(self) -> str: ...\n"
        "class Asking(Plugin, Served):\n"
        "    def __init__(self, *, size: int) -> None: ...\n"
        "    async def name(self) -> str: ...\n"
        "    @staticmethod\n    def config_problems(*, size: int) -> list[str]:\n"
        "        return [f'size: got {size}'] if 1 // size else []\n"
    )
    server = "mukernel.servers.files:FileServer"
    mounts = {"/here": "nowhere/at/all", "/memory": "memory://", "/bad": "simplecache::bucket://x"}
    uses: dict[str, Any] = {
        "files": (server, {"mounts": mounts}), "good": ("own:Asking", {"size": 2}), "one": ("own:Asking", {"size": 1}),
        "none": ("own:Asking", {"size": 0}), "wrong": ("own:Asking", {"size": "x"}),
    }  # fmt: skip
    found = await inspect_plugins(uses, str(tmp_path))
    assert [len(each.problems) for each in found.values()] == [1, 0, 1, 1, 1]
    told = {name: "".join(each.problems) for name, each in found.items()}
    assert (
        "plugins.files.config.mounts.'/bad': 'simplecache::bucket://x' can't be opened: Protocol not" in told["files"]
    )
    assert told["one"] == "app.toml: plugins.one.config.size: got 1"
    assert "config: checking it raised ZeroDivisionError" in told["none"] and "Expected `int`" in told["wrong"]


FORGING = r"""
import os
os.write(2, b"app.toml is sound\x1b]52;c;cHduZWQ=\x07")
os.write(2, b"\n" + b"y" * 100_000)
"""


@pytest.mark.parametrize("placement", ["process", "sandbox"])
def test_what_is_printed_at_import_is_named_bounded_and_nothing_that_a_terminal_obeys(
    home: Path, tmp_path: Path, mukernel: Any, placement: str
) -> None:
    (tmp_path / "guest.py").write_text(HOSTILE.format(mark=str(tmp_path / "mark"), more=FORGING))
    (tmp_path / "app.toml").write_text(f'[plugins.guest]\nuse = "guest:Stranger"\nplacement = "{placement}"\n')
    checked = subprocess.run(
        [sys.executable, "-m", "mukernel.cli", "check", str(tmp_path / "app.toml")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = checked.stderr.splitlines()
    assert all(line.startswith("guest, as it is imported: ") for line in lines)
    assert "guest, as it is imported: app.toml is sound?]52;c;cHduZWQ=?" in lines
    assert len(checked.stderr) < 5_000 and lines[-1].endswith("y (the rest is left out)")


PRINTING_LAST = """
print("first", flush=True)
while not os.path.exists({told!r}):
    pass
print("last", flush=True)
"""


async def test_what_a_sandbox_prints_last_is_handed_on_before_it_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its outermost process, who hands on what is printed, is stopped while the class says what it is."""
    told, shown, others = tmp_path / "told", asyncio.Queue[str](), children(os.getpid())
    monkeypatch.setattr(import_output.log, "warning", lambda text, who, line: shown.put_nowait(line))
    more = PRINTING_LAST.format(told=str(told))
    (tmp_path / "guest.py").write_text(HOSTILE.format(mark=str(tmp_path / "mark"), more=more))
    uses: dict[str, Any] = {"guest": ("guest:Stranger", {})}
    asking = asyncio.create_task(inspect_plugins(uses, str(tmp_path), boxes={"guest": (Sandbox(), Limits())}))
    while await shown.get() != "first":
        pass
    [outer] = set(children(os.getpid())) - set(others)
    [first] = children(outer)
    with open(os.pidfd_open(first)) as ended:
        os.kill(outer, signal.SIGSTOP)
        told.touch()
        select.select([ended], [], [])  # the class has been looked at, and its process has ended
    await asyncio.wait([asking], timeout=0.2)  # so its answer is heard in this time
    with contextlib.suppress(ProcessLookupError):
        os.kill(outer, signal.SIGCONT)
    assert (await asking)["guest"].problems == []
    assert shown.get_nowait() == "last"


@pytest.mark.parametrize(("command", "status"), [("check", 130), ("run", 0)])
def test_ctrl_c_while_a_class_is_imported_prints_no_traceback(
    home: Path, tmp_path: Path, command: str, status: int
) -> None:
    folder = write_shop(tmp_path / "shop")
    with open(folder / "shop.py", "a") as file:
        file.write("import sys\nprint('importing', file=sys.stderr, flush=True)\nwhile True: pass\n")
    checking = subprocess.Popen(
        [sys.executable, "-m", "mukernel.cli", command, str(folder / "app.toml")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    with checking:
        assert checking.stderr is not None
        assert checking.stderr.readline().endswith("catalog, greeter, as it is imported: importing\n")
        os.killpg(checking.pid, signal.SIGINT)  # as a terminal sends it, to all of the group
        output, errors = checking.communicate(timeout=20)  # whoever has the pipes has ended, too
    assert (checking.returncode, errors) == (status, "")
    assert "Traceback" not in output


def test_a_file_that_is_not_there(home: Path, mukernel: Any) -> None:
    ended = mukernel("check", "nothing.toml")
    assert ended.status == 1
    assert "there is no file nothing.toml; `mukernel new NAME` makes a package that has one" in ended.err


def test_a_new_package_passes_its_test_and_runs(home: Path, tmp_path: Path, start: Any, mukernel: Any) -> None:
    folder = tmp_path / "web-shop"
    assert "mukernel run" in mukernel("new", str(folder)).good()
    assert "web-shop exists already" in mukernel("new", str(folder)).err
    mukernel("check", str(folder / "app.toml")).good()
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"], cwd=folder, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "3 passed" in tested.stdout
    assert "Warning" not in tested.stdout + tested.stderr  # pytest-asyncio is installed, and warns unless it is told
    start(folder)
    assert mukernel("call", "Greeter.greet", "name=Ada").good() == "Hello, Ada!"


def test_new_refuses_names_that_can_not_be_imported(home: Path, tmp_path: Path, mukernel: Any) -> None:
    for name, problem in {
        "Web": "wanted a name such as",
        "1st": "wanted a name such as",
        "class": "a word of Python",
        "json": "'json' would hide a module of that name",
        "mukernel": "would hide",
        "msgspec": "'msgspec' would hide",
        "numpy": "would hide",
        "iniconfig": "would hide",  # pytest needs it
        "pluggy": "would hide",
        "pytest-asyncio": "'pytest_asyncio' would hide",
    }.items():
        ended = mukernel("new", str(tmp_path / name))
        assert ended.status == 2
        assert problem in ended.err
        assert not (tmp_path / name).exists()


def test_what_lies_in_the_working_folder_hides_nothing(
    home: Path, tmp_path: Path, mukernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python looks there where a command is begun by `python -m`, and not where a package is run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    (tmp_path / "web_shop").mkdir()
    mukernel("new", "web-shop").good()
    again = mukernel("new", "web-shop")
    assert (again.status, again.err) == (1, "mukernel: web-shop exists already; choose another name, or remove it\n")
    (tmp_path / "elsewhere" / "greeting").mkdir(parents=True)
    monkeypatch.syspath_prepend("elsewhere")
    assert "'greeting' would hide a module of that name" in mukernel("new", "greeting").err


def test_a_new_package_is_sound_to_a_strict_type_checker(home: Path, tmp_path: Path, mukernel: Any) -> None:
    mukernel("new", str(tmp_path / "hello")).good()
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "hello"], cwd=tmp_path / "hello",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
