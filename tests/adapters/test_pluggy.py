"""A host that was written for pluggy gets processes by another plug-in manager, and the very same results."""

import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import hook_refused
import hook_samples
import pluggy
import pytest
from hook_samples import Colour, Early, Inner, Late, Money, Order, Specs

from mukernel import ContractError, NotFound, PluginCrashed, RemoteError
from mukernel.adapters.pluggy import PluginManager, isolated, refill
from mukernel.adapters.records import imported, one_of
from mukernel.adapters.values import encode, pack, unpack


@pytest.fixture
def manager() -> Iterator[PluginManager]:
    with PluginManager("sample") as made:
        made.add_hookspecs(Specs)
        yield made
    assert made.kernel is None


def steps(manager: pluggy.PluginManager, late: Any) -> list[Any]:
    """What a host does, and all that it sees."""
    seen: list[Any] = []
    manager.hook.configured.call_historic(seen.append, {"option": "before"})
    seen.append([manager.register(Early), manager.register(late, "late"), manager.register(Inner)])
    manager.check_pending()
    for _ in range(2):
        results = manager.hook.names(given=[1, (2, 3), {"a": {4}}, None, b"5", 1 << 70, Path("/x")])
        seen.append([list(each) if isinstance(each, types.GeneratorType) else each for each in results])
    seen.append([manager.hook.first(number=number) for number in (1, 10)])
    for items in ([], ["raise"], ["other"]):
        try:
            seen.append(manager.hook.wrapped(items=items))
        except Exception as error:
            seen.append((type(error), str(error)))
        seen.append(items)
    for why in ("plain", "key"):
        try:
            manager.hook.fails(why=why)
        except Exception as error:
            seen.append((type(error), error.args))
    manager.hook.configured.call_historic(seen.append, {"option": "after"})
    seen.append([manager.get_plugin("late") is late, manager.is_registered(Inner), len(manager.get_plugins())])
    seen.append(sorted(name for name, _ in manager.list_name_plugin()))
    seen.append(manager.subset_hook_caller("names", [late])(given=None)[0])
    seen.append([manager.unregister(Early) is Early, manager.has_plugin("Early")])
    seen.append(manager.hook.first(number=10))
    manager.set_blocked("late")
    seen.append([manager.hook.first(number=10), manager.register(late, "late"), manager.is_blocked("late")])
    return seen


def test_everything_is_as_with_pluggy_itself(manager: PluginManager) -> None:
    theirs = pluggy.PluginManager("sample")
    theirs.add_hookspecs(Specs)
    expected = steps(theirs, Late("L", extra=Path("/late")))
    seen = steps(manager, isolated(Late, "L", extra=Path("/late")))
    assert seen == expected


def test_each_plugin_has_a_process_of_its_own_or_the_one_that_is_chosen() -> None:
    placements = {"c": "process:shared", "d": "process:shared", "e": "inline"}
    with PluginManager("sample", placements=placements) as manager:
        manager.add_hookspecs(Specs)
        for name in "abcd":
            manager.register(isolated(Late, name), name)
        manager.register(Late("e"), "e")
        e, d, c, b, a = manager.hook.where()
        assert e == os.getpid()
        assert c == d
        assert len({a, b, c, e}) == 4
        with pytest.raises(ContractError, match=r"'x' is isolated\(...\), and its placement is 'inline'"):
            manager.placements["x"] = "inline"
            manager.register(isolated(Late, "x"), "x")


def test_what_can_not_travel_is_named(manager: PluginManager) -> None:
    manager.register(Early)
    late = isolated(Late, "late")
    manager.register(late, "late")
    with pytest.raises(
        ContractError, match=r"hook names of plug-in 'Early': argument 'given'\['a'\]\[1\]: got .*module"
    ):
        manager.hook.names(given={"a": [1, sys]})
    with pytest.raises(ContractError, match=r"hook fails of plug-in 'late': its result: got builtins.module"):
        manager.hook.fails(why="object")
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ContractError, match="one that holds itself"):
        manager.hook.names(given=endless)
    with pytest.raises(ContractError, match=r"Late: its arguments\[0\]\[0\]: got builtins.object"):
        isolated(Late, object())  # type: ignore[arg-type]
    assert manager.hook.first(number=3) == 6


@pytest.mark.filterwarnings("ignore::pluggy.PluggyTeardownRaisedWarning")  # pluggy's own word on old-style wrappers
@pytest.mark.parametrize("old_style", [False, True])
def test_a_wrapper_whose_result_can_not_travel_says_so_and_is_ended(manager: PluginManager, old_style: bool) -> None:
    class Here:
        @hook_samples.hookimpl
        def wrapped(self, items: list[Any]) -> Any:
            return [sys]

    manager.placements["here"] = "inline"
    manager.register(Here(), "here")
    manager.register(isolated(Late, "late") if old_style else Early, "wrapping")
    with pytest.raises(ContractError, match=r"hook wrapped of plug-in 'wrapping': the result that it wraps\[0\]\[0\]"):
        manager.hook.wrapped(items=[])


def test_an_exception_of_the_plugins_own_tells_all_of_it(manager: PluginManager) -> None:
    manager.register(isolated(Late, "late"), "late")
    with pytest.raises(RemoteError, match="OwnError: own") as raised:
        manager.hook.fails(why="own")
    assert "hook_samples.py" in raised.value.traceback


def test_a_hook_that_raises_stop_iteration_ends_as_others_do(manager: PluginManager) -> None:
    """No future takes it, neither in the plug-in's process nor here: such a call would never end."""
    manager.register(isolated(Late, "late"), "late")
    with pytest.raises(StopIteration, match="end"):
        manager.hook.fails(why="end")
    assert manager.hook.names(given=None)


def test_a_plugin_that_dies_takes_nobody_with_it_and_comes_back(manager: PluginManager) -> None:
    manager.register(Early)
    manager.register(isolated(Late, "late"), "late")
    before = manager.hook.where()
    with pytest.raises(PluginCrashed, match=r"^hook fails of plug-in 'late': .*SIGKILL"):
        manager.hook.fails(why="die")
    after = manager.hook.where()
    assert (before[0] != after[0], before[1] == after[1]) == (True, True)


def test_a_wrapper_whose_process_dies_between_its_halves_says_so(manager: PluginManager) -> None:
    class Killer:
        @hook_samples.hookimpl
        def wrapped(self, items: list[Any]) -> Any:
            (pid,) = manager.hook.where()
            os.kill(pid, signal.SIGKILL)
            return items

    manager.register(Early)
    manager.placements["killer"] = "inline"
    manager.register(Killer(), "killer")
    with pytest.raises(NotFound, match="hook wrapped of plug-in 'Early': the process of its wrapper has been started"):
        manager.hook.wrapped(items=[])
    assert len(manager.hook.where()) == 1


@pytest.mark.parametrize(
    ("held", "value"), [(None, []), ("text", "other"), ([], {}), ((), (1,)), (([],), (1,)), ({}, [1])]
)
def test_what_a_process_says_it_changed_is_not_trusted(held: Any, value: Any) -> None:
    with pytest.raises(ContractError, match="says that it changed what was no list"):
        refill(held, value, "hook")


def local_class() -> type:
    class Local:
        @staticmethod
        @hook_samples.hookimpl
        def where() -> int:
            return 1

    return Local


@pytest.mark.parametrize(
    ("plugin", "problem"),
    [
        (
            lambda: Late("x"),
            r"'p' is an object of Late, which was made in this process.*register isolated\(Late, ...\)",
        ),
        (local_class, r"'p': another process can't import it as hook_\w*|can't import it as .*<locals>.Local"),
        (lambda: types.ModuleType("made_up"), r"'p': another process can't import it as \?"),
    ],
)
def test_what_can_not_leave_this_process_is_refused_with_the_remedy(
    manager: PluginManager, plugin: Callable[[], Any], problem: str
) -> None:
    with pytest.raises(ContractError, match=problem):
        manager.register(plugin(), "p")
    assert not manager.has_plugin("p")
    assert not manager._processes


SCRIPT = """
import pluggy, sys, types
from mukernel import ContractError
from mukernel.adapters.pluggy import PluginManager

impl = pluggy.HookimplMarker("p")
if __name__ == "__main__":
    class Late:
        @impl
        def hook(): return 1
    made = sys.modules["made_up"] = types.ModuleType("made_up")
    made.__spec__ = sys.__spec__
    with PluginManager("p") as manager:
        for plugin in (Late, made):
            try:
                manager.register(plugin, "late")
            except ContractError as error:
                print(error)
        print(manager.get_plugins())
"""


def test_what_its_process_does_not_find_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """It looks importable here, and there it isn't."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    late, made, plugins = ended.stdout.splitlines()
    assert late.startswith("plug-in 'late': another process can't import it as __main__:Late; wanted")
    assert made.startswith("plug-in 'late': another process can't import it as made_up:; wanted")
    assert "placements={'late': 'inline'}" in late and plugins == "set()"


def test_a_plugin_that_pluggy_refuses_leaves_no_process(manager: PluginManager) -> None:
    with pytest.raises(pluggy.PluginValidationError, match="nonsense"):
        manager.register(hook_refused, "refused")
    assert manager.kernel is not None
    assert not manager.kernel.kernel.registry.entries
    manager.register(Early)
    with pytest.raises(ValueError, match="already registered"):
        manager.register(Early)
    with pytest.raises(ValueError, match="already registered under a different name"):
        manager.register(Early, "other")
    assert list(manager._processes) == ["Early"]


def test_records_travel_and_what_a_hook_changes_in_one_is_changed(manager: PluginManager) -> None:
    manager.register(Early)
    sent = Order("tea", Colour.RED, [Money(3)])
    [[_, back]] = manager.hook.names(given=[sent])
    assert back == [sent] and back[0] is not sent and type(back[0].prices[0]) is Money
    manager.register(isolated(Late, "late", extra=Order("mint", Colour.BLUE)), "late")
    manager.hook.changed(order=sent)
    assert sent == Order("late mint", Colour.BLUE, [Money(3), Money(4)])


def test_a_process_may_send_back_what_it_was_sent_and_what_the_host_has_named() -> None:
    with PluginManager("sample") as manager:
        manager.add_hookspecs(Specs)
        manager.register(Early)
        with pytest.raises(ContractError, match=r"hook made of plug-in 'Early': got a hook_samples:Order, which"):
            manager.hook.made(like=None)
        assert manager.hook.made(like=Order("x", Colour.RED, [Money(1)])) == [Order("made", Colour.RED, [Money(5)])]
    with PluginManager("sample", records=[Order, Colour, Money]) as manager:
        manager.add_hookspecs(Specs)
        manager.register(Early)
        assert manager.hook.made(like=None) == [Order("made", Colour.RED, [Money(5)])]


def test_a_hook_that_changes_nothing_leaves_a_set_as_it_is(manager: PluginManager) -> None:
    """Its host may be going through it. The order of a set is another one in each process."""
    manager.register(Early)
    tags = {"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"}
    assert all(manager.hook.names(given=tags) == [("early", tags)] for _ in tags)
    assert pack({0, 8}, "value") == pack({8, 0}, "value")


def test_what_is_more_than_its_fields_does_not_travel() -> None:
    more, less = Order("x", Colour.RED), Order("x", Colour.RED)
    more.extra = 1  # type: ignore[attr-defined]
    del less.name

    @dataclass
    class Local:
        number: int

    refused: list[tuple[Any, str]] = [
        (more, "Order with 'extra', which is none of its fields"), (less, "Order without its field 'name'"),
        (Local(1), "which another process can't import"), (hook_samples.Counted(1), "Counted, which can't travel"),
        (hook_samples.Slotted(1), "Slotted, which can't travel"), (hook_samples.Derived("x", Colour.RED), "Derived, "),
    ]  # fmt: skip
    for value, problem in refused:
        with pytest.raises(ContractError, match=problem):
            pack([value], "here")


def test_no_code_of_a_class_is_run_to_make_a_record() -> None:
    known = one_of({"hook_samples:Guarded": hook_samples.Guarded}, "here")
    value = unpack(pack(hook_samples.Guarded(1), "here"), known)
    assert (value.number, hook_samples.Guarded.made) == (1, 1)
    name = "hook_samples:Guarded"
    for wrong in (["record", name, ["other"], 1], ["record", name, [], 1], ["record", name], ["member", name, "x"]):
        with pytest.raises(ContractError, match=r"Guarded: got the fields|can't be read"):
            unpack(encode(wrong), known)
    for name in ("os:system", "builtins:dict", "hook_samples:Late"):
        with pytest.raises(ContractError, match="is no data class"):
            imported(name)


BERLIN = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
INDIA = timezone(timedelta(hours=5, minutes=30))
VALUES: list[Any] = [
    None, True, 0, -1, 1 << 64, -(1 << 63) - 1, 1.5, "text", b"bytes", [], (), set(), frozenset({1}), {}, {1: (2, [3])},
    {(1, 2): {"a"}}, Path("a/b"), datetime(2026, 1, 2, 3, 4), datetime(2026, 1, 2).date(),
    datetime(2026, 1, 2, 3).time(), timedelta(days=-1, microseconds=3), ["list", "looks", "tagged"], float("inf"),
    BERLIN, BERLIN.replace(fold=1), datetime(2026, 1, 2, tzinfo=INDIA), time(1, 2, tzinfo=UTC), time(1, fold=1),
    10**6000, -(10**6000),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value) if type(value) is not int else hex(value)[:20])
def test_a_value_comes_out_as_what_it_was(value: Any) -> None:
    read = unpack(pack(value, "value"))
    assert (type(read), read) == (type(value), value)
    if isinstance(value, datetime | time):  # equal are also those of other zones, at the same moment
        assert repr(read) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        len,
        Late,
        type("Text", (str,), {})("x"),
        1j,
        range(3),
        "\ud800",
        datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1), "mine")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_come_out_as_something_else_is_refused(value: Any) -> None:
    with pytest.raises(ContractError, match=r"^here: got"):
        pack(value, "here")


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91\xa4none", b"\x92\xa3int\xa1x", b"\x92\xa4dict\x01", b"\x90"])
def test_bytes_that_are_no_values_are_refused(data: bytes) -> None:
    with pytest.raises(ContractError, match="can't be read"):
        unpack(data)


# -- packages of others, unchanged ------------------------------------------------------------------------------------


def test_allure_writes_its_reports_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All hooks of its plug-in, called by its own reporter."""
    pytest.importorskip("allure_commons")
    from allure_commons import _core as core
    from allure_commons import logger, model2, types
    from allure_commons.reporter import AllureReporter

    reporter, folder = AllureReporter(), tmp_path / "report"
    monkeypatch.setattr(core, "PluginManager", PluginManager)
    monkeypatch.setattr(core.MetaPluginManager, "_plugin_manager", None)
    host = core.plugin_manager
    try:
        host.register(isolated(logger.AllureFileLogger, str(folder)), "files")
        reporter.start_group("g", model2.TestResultContainer(uuid="g", name="group"))
        result = model2.TestResult(uuid="t", name="test", fullName="tests.test", start=1)
        result.labels.append(model2.Label(name=types.LabelType.FEATURE, value="shop"))
        result.parameters.append(model2.Parameter(name="coins", value="3"))
        reporter.schedule_test("t", result)
        reporter.start_step(None, "s", model2.TestStepResult(name="pay", start=2))
        reporter.attach_data("a", b"picture", name="screen", attachment_type=types.AttachmentType.PNG)
        (tmp_path / "source.txt").write_text("text")
        reporter.attach_file("b", str(tmp_path / "source.txt"), attachment_type=types.AttachmentType.TEXT)
        reporter.stop_step("s", stop=3, status=model2.Status.BROKEN)
        result.statusDetails = model2.StatusDetails(message="no coins", flaky=False)
        reporter.close_test("t")
        reporter.stop_group("g", children="t")
        reporter.global_error(message="no shop")
        (place,) = host.kernel.kernel.places.values()
        assert place.pid != os.getpid()
    finally:
        core.plugin_manager.close()
    read = {
        kind: json.loads(next(folder.glob(f"*-{kind}.json")).read_text()) for kind in ("result", "container", "globals")
    }
    assert read["result"] == {
        "name": "test", "fullName": "tests.test", "uuid": "t", "start": 1,
        "statusDetails": {"message": "no coins", "flaky": False},
        "labels": [{"name": "feature", "value": "shop"}], "parameters": [{"name": "coins", "value": "3"}],
        "steps": [{
            "name": "pay", "status": "broken", "start": 2, "stop": 3,
            "attachments": [
                {"name": "screen", "source": "a-attachment.png", "type": "image/png"},
                {"source": "b-attachment.txt", "type": "text/plain"},
            ],
        }],
    }  # fmt: skip
    assert read["container"] == {"uuid": "g", "name": "group", "children": ["t"]}
    assert [each["message"] for each in read["globals"]["errors"]] == ["no shop"]
    assert (folder / "a-attachment.png").read_bytes() == b"picture"
    assert (folder / "b-attachment.txt").read_text() == "text"


DJANGO = """
import os
import pluggy
from mukernel.adapters.pluggy import PluginManager
pluggy.PluginManager = PluginManager
import djp
assert isinstance(djp.pm, PluginManager)
import django
from django.conf import settings
chosen = {"ROOT_URLCONF": "__main__", "ALLOWED_HOSTS": ["testserver"], "INSTALLED_APPS": [], "MIDDLEWARE": []}
djp.settings(chosen)
settings.configure(**chosen)
django.setup()
from django.http import HttpResponse
from django.test import Client
from django.urls import path
urlpatterns = [path("", lambda request: HttpResponse("served"))]
response = Client().get("/")
print(response.content.decode(), "Django-Composition" in response.headers)
print([(each["name"], each["hooks"]) for each in djp.get_plugins()])
place, = djp.pm.kernel.kernel.places.values()
print(place.pid != os.getpid())
djp.pm.close()
"""


def test_djp_serves_a_django_site_with_a_plugin_in_another_process(tmp_path: Path) -> None:
    pytest.importorskip("djp")
    pytest.importorskip("django_plugin_django_header")
    (tmp_path / "serve.py").write_text(DJANGO)
    done = subprocess.run([sys.executable, str(tmp_path / "serve.py")], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "served True", "[('django-plugin-django-header', ['middleware'])]", "True",
    ]  # fmt: skip
