"""Every command against an application that runs."""

from __future__ import annotations

import enum
import json
import os
import signal
import subprocess
import sys
from typing import Any, Literal

import msgspec
import pytest

from mukernel import Interface
from mukernel.cli.arguments import read_arguments
from mukernel.cli.terminal import Terminal, UsageError
from mukernel.cli.top import cpu_shares
from mukernel.cli.top import picture as top_picture
from mukernel.cli.tree import Tree, picture
from mukernel.core.control import About, PluginStatus, TreePlugin, TreeProcess
from mukernel.core.status import cpu_of

from .conftest import piped_to_nobody


class Size(enum.Enum):
    SMALL, LARGE = "small", "large"


class Shirts(Interface):
    async def order(self, size: Size, colour: Literal["red", 7]) -> None: ...


class Site(msgspec.Struct):
    names: dict[float, dict[bool, str]]
    ports: list[dict[int, int]] = []


class Ports(Interface):
    async def open(
        self, ports: dict[int, str], site: Site | None = None, mixed: dict[int | str, int] | None = None,
        pairs: dict[tuple[int, int], int] | None = None, text: dict[str, Any] | None = None,
        maybe: dict[int, int] | None = None,
    ) -> None: ...  # fmt: skip


def status(mukernel: Any, name: str) -> dict[str, Any]:
    return next(each for each in json.loads(mukernel("ps", "--json").good()) if each["name"] == name)


# -- watching ------------------------------------------------------------------------------------------------


def test_ps_lists_what_runs_where(shop: Any, mukernel: Any) -> None:
    lines = mukernel("ps").good().splitlines()
    assert lines[0].split() == [
        "NAME",
        "STATE",
        "PLACEMENT",
        "PID",
        "REPLICAS",
        "CALLS",
        "RUNNING",
        "WAITING",
        "RESTARTS",
        "CPU",
        "MEM",
        "LIMITS",
        "SHARED",
        "SINCE",
    ]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["greeter", "serving", "process:talk"], ["catalog", "serving", "process"],
    ]  # fmt: skip
    assert "\x1b" not in mukernel("ps").out  # no terminal reads it


def test_ps_counts_calls(shop: Any, mukernel: Any) -> None:
    before = status(mukernel, "greeter")["calls"]
    for _ in range(3):
        mukernel("call", "Greeter.where").good()
    after = status(mukernel, "greeter")
    assert after["calls"] == before + 3
    assert after["running"] == after["waiting"] == after["restarts"] == 0
    assert after["memory"] > 100_000
    assert after["cpu"] >= 0.0


def test_tree_shows_processes_and_who_calls_whom(shop: Any, mukernel: Any) -> None:
    tree = json.loads(mukernel("tree", "--json").good())
    assert [each["name"] for each in tree["processes"]] == ["kernel", "talk", "catalog"]
    catalog = tree["processes"][2]
    assert catalog["plugins"][0]["calls"] == {"Greeter": "greeter"}
    assert catalog["connected"] == ["greeter"]
    assert tree["pid"] == shop.process.pid
    text = mukernel("tree").good()
    assert "├─ process talk" in text
    assert "└─ catalog   serving   Catalog 1.0   calls Greeter of greeter" in text


def test_tree_marks_sandboxes() -> None:
    boxed = TreePlugin("reports", "serving", ["Report 1.0"], {})
    kernel, process = TreeProcess("kernel", 4711, [], [], "kernel"), TreeProcess("catalog", 4713, [], [])
    tree = Tree("shop", 4711, [kernel, process, TreeProcess("box", 4720, [boxed], [], "sandbox")])
    lines = picture(tree, Terminal())
    assert lines[1:] == ["├─ process catalog, 4713", "└─ sandbox box, 4720", "   └─ reports   serving   Report 1.0"]


def test_describe_shows_interfaces_methods_and_configuration(shop: Any, mukernel: Any) -> None:
    text = mukernel("describe", "greeter").good()
    assert "Greets in English." in text
    assert "greet(name: str, *, times: int = 1) -> str   idempotent" in text
    assert "count(upto: int) -> stream of int" in text
    assert "echo(words: stream of str) -> stream of str" in text
    assert "note(text: str) -> None   one-way" in text
    assert "takes    polite: bool = False" in text
    described = json.loads(mukernel("describe", "catalog", "--json").good())
    assert described["config"] == {"path": "books.db"}
    assert described["calls"] == {"Greeter": "greeter"}
    assert described["interfaces"][0]["methods"][2]["raises"] == ["SoldOut"]


def test_top_shows_calls_a_second(shop: Any, mukernel: Any) -> None:
    assert "CALLS/S" in mukernel("top", "--once", "--every", "20ms").good()
    looked = json.loads(mukernel("top", "--once", "--every", "20ms", "--json").good())
    assert {each["name"]: each["rate"] for each in looked} == {"greeter": 0.0, "catalog": 0.0}


def test_top_shows_the_share_of_a_processor() -> None:
    def look(name: str, cpu: float | None, *pids: int) -> PluginStatus:
        return PluginStatus(name, "serving", "process", list(pids), 1, 0, 0, 0, 0, 0, 0.0, [], cpu=cpu)

    before = [look("busy", 1.0, 7), look("idle", 2.0, 8), look("inline", None), look("again", 5.0, 9)]
    after = [*before[1:3], look("busy", 2.0, 7), look("again", 0.1, 10), look("new", 1.0, 11)]
    assert cpu_shares(before, after, 2.0) == {"busy": 0.5, "idle": 0.0}
    lines = top_picture(Terminal(), About("shop", "1.0", 4711, 0.0, 0, "/"), after, {}, {"busy": 0.5}).splitlines()
    assert lines[2].split()[-2:] == ["CPU%", "CALLS/S"]
    assert [line.split()[-2:] for line in lines[3:6]] == [["-", "-"], ["-", "-"], ["50%", "-"]]
    assert [" 2 s " in line for line in lines[3:6]] == [True, False, True]


def test_the_processor_time_of_a_process_is_what_the_system_counts() -> None:
    def had() -> float:
        return sum(os.times()[:2])

    before = had()
    while had() < before + 0.05:  # something to count
        pass
    least, counted, most = had(), cpu_of(os.getpid()), had()
    assert before < least and least - 0.001 <= counted <= most + 0.001  # rounded otherwise
    assert cpu_of(2**22 + 1) == 0.0  # there is none


def test_logs_shows_what_a_plugin_printed(shop: Any, mukernel: Any) -> None:
    mukernel("call", "Greeter.note", "text=one").good()
    mukernel("call", "Greeter.note", "text=two").good()
    mukernel("call", "Greeter.where").good()  # one-way calls of one caller come before
    assert mukernel("logs", "greeter", "-n", "1").good().endswith("noted two")
    found = json.loads(mukernel("logs", "greeter", "--json").good())
    assert found["path"].endswith("/logs/talk.log")  # it shares the process `talk`
    assert [line for line in found["lines"] if line.startswith("noted")][-2:] == ["noted one", "noted two"]
    assert "there is no log of 'nobody'; there are: greeter, catalog, kernel" in mukernel("logs", "nobody").err


# -- calling -------------------------------------------------------------------------------------------------


def test_call_prints_text_as_it_is_and_the_rest_as_json(shop: Any, mukernel: Any) -> None:
    assert mukernel("call", "Greeter.greet", "name=Ada").good() == "Hello Ada!"
    assert mukernel("call", "Greeter.greet", "Ada", "times=3").good() == "Hello Ada!!!"
    assert mukernel("call", "Greeter.greet", "name=42").good() == "Hello 42!"  # a string stays one
    assert mukernel("call", "Greeter.greet", 'name:="A=B"', "--json").good() == '"Hello A=B!"'
    assert mukernel("call", "Catalog.add", 'book={"title": "Emma", "year": 1815}').good().isdigit()
    assert {"title": "Emma", "year": 1815} in json.loads(mukernel("call", "Catalog.books").good())
    assert mukernel("call", "Catalog.welcome", "Ada").good() == "Hello Ada!"
    assert mukernel("call", "Greeter.note", "text=x").good() == ""


def test_call_streams_lines(shop: Any, mukernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mukernel("call", "Greeter.count", "upto=200").good().splitlines() == [str(n) for n in range(200)]
    for text in ("one\ntwo\n", "one\r\ntwo"):
        (shop.folder / "words").write_text(text, newline="")
        with open(shop.folder / "words") as words:
            monkeypatch.setattr("sys.stdin", words)
            assert mukernel("call", "Greeter.echo").good().splitlines() == ["ONE", "TWO"]


SCRIPT = "import sys; from mukernel_command import main; sys.exit(main())"  # as the installed one does


@pytest.mark.parametrize("way", [["-m", "mukernel.cli"], ["-c", SCRIPT]])
def test_call_that_waits_for_standard_input_ends_at_its_timeout_and_at_ctrl_c(shop: Any, way: list[str]) -> None:
    command = [sys.executable, *way, "call", "Greeter.echo"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, "--timeout", "1s"], **pipes, text=True) as late:
        assert late.wait(30) == 1  # though its standard input stays open
        assert late.communicate()[1] == "mukernel: Greeter.echo: no reply within 1 s\n"
    with subprocess.Popen(command, **pipes, text=True) as interrupted:
        assert interrupted.stdin is not None and interrupted.stdout is not None
        interrupted.stdin.write("one\n")
        interrupted.stdin.flush()
        assert interrupted.stdout.readline() == "ONE\n"
        interrupted.send_signal(signal.SIGINT)
        assert interrupted.wait(30) == 130
        assert interrupted.communicate() == ("", "")


def test_call_says_what_is_wrong_with_standard_input(shop: Any, mukernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)  # as Python has it where it was closed
    ended = mukernel("call", "Greeter.echo")
    assert ended.status == 2
    assert "standard input is closed" in ended.err
    (shop.folder / "words").write_bytes(b"caf\xe9\n")
    with open(shop.folder / "words") as words:
        monkeypatch.setattr("sys.stdin", words)
        ended = mukernel("call", "Greeter.echo")
    assert (ended.status, ended.err) == (
        2, "mukernel: standard input, line 1: got b'caf\\xe9', wanted text in UTF-8\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "answers", "problem"),
    [
        ("1\n2\nx\n4\n", ["2", "4"], "line 3: got 'x', wanted an item of parameter 'numbers': int"),
        ("1\nx", ["2"], "line 2: got 'x', wanted an item of parameter 'numbers': int"),  # the method fails after that
        (f"1\n2\n{1 << 64}\n", ["2", "4"], f"line 3: got '{1 << 64}', wanted whole numbers of at most 64 bits"),
    ],
)
def test_call_sends_the_lines_before_one_that_is_wrong(
    shop: Any, mukernel: Any, monkeypatch: pytest.MonkeyPatch, text: str, answers: list[str], problem: str
) -> None:
    (shop.folder / "numbers").write_text(text)
    with open(shop.folder / "numbers") as numbers:
        monkeypatch.setattr("sys.stdin", numbers)
        ended = mukernel("call", "Greeter.double")
    assert (ended.status, ended.out.splitlines()) == (2, answers)
    assert ended.err == f"mukernel: standard input, {problem}\n"


def test_call_says_what_is_wrong_with_the_arguments(shop: Any, mukernel: Any) -> None:
    signature = "Greeter.greet(name: str, *, times: int = 1) -> str"
    for words, problem in {
        ("nme=Ada",): f"{signature}: parameter 'nme' is unknown; wanted name, times",
        ("Ada", "times=often"): f"{signature}: parameter 'times': got 'often', wanted int",
        ("Ada", "Bob"): f"{signature}: 'Bob' is one argument too many; wanted name, times; by name only: times=VALUE",
        ("Ada", "name=Bob"): f"{signature}: parameter 'name' came twice",
        (): f"{signature}: missing: name (str); give each as NAME=VALUE",
        ("name:={",): f"{signature}: parameter 'name': got '{{', wanted JSON",
    }.items():
        ended = mukernel("call", "Greeter.greet", *words)
        assert (ended.status, ended.out, ended.err) == (2, "", f"mukernel: {problem}\n")


def test_call_blames_what_was_typed_for_what_no_message_can_carry(shop: Any, mukernel: Any) -> None:
    greet, number = "Greeter.greet(name: str, *, times: int = 1) -> str", "wanted whole numbers of at most 64 bits"
    for words, problem in {
        ("Greeter.greet", "a\udcffb"): f"{greet}: parameter 'name': got 'a\\udcffb', wanted text in UTF-8",
        ("Greeter.greet", "Ada", f"times={1 << 64}"): f"{greet}: parameter 'times': got '{1 << 64}', {number}",
        ("Catalog.add", f"book:=[{-1 << 64}]"): "Catalog.add(book: Book) -> int: parameter 'book': "
        f"got '[{-1 << 64}]', {number}",
    }.items():
        ended = mukernel("call", *words)
        assert (ended.status, ended.out, ended.err) == (2, "", f"mukernel: {problem}\n")
    assert mukernel("call", "Greeter.measure", "1", "data=a\udcffb").good() == "3"  # bytes are what was typed


def test_a_failed_call_says_why_and_shows_the_traceback_only_if_asked(shop: Any, mukernel: Any) -> None:
    ended = mukernel("call", "Greeter.fail")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == "mukernel: ValueError: no such thing (--verbose shows the traceback)\n"
    verbose = mukernel("call", "Greeter.fail", "--verbose").err
    assert 'shop.py", line' in verbose
    assert mukernel("call", "Catalog.buy", "Emma").err.startswith("mukernel: SoldOut: Emma")
    wrong = mukernel("call", "Catalog.add", 'book:={"title": 3}')
    assert wrong.status == 1
    assert "Catalog.add: parameter 'book'" in wrong.err


def test_a_call_ends_at_its_timeout(shop: Any, mukernel: Any) -> None:
    ended = mukernel("call", "Greeter.hang", "--timeout", "500ms")
    assert (ended.status, ended.err) == (1, "mukernel: Greeter.hang: no reply within 500 ms\n")
    without_unit = mukernel("call", "Greeter.hang", "--timeout", "0.5")
    assert without_unit.err == "mukernel: Greeter.hang: no reply within 500 ms\n"
    assert mukernel("call", "Greeter.hang", "--timeout", "soon").status == 2


def test_what_is_not_there_is_named(shop: Any, mukernel: Any) -> None:
    for words, problem in {
        (
            "call",
            "Greeter.gret",
        ): "Greeter has no method 'gret'; it has: greet, where, note, count, echo, double, measure, fail, hang",
        ("call", "Gr.x"): "no plug-in serves Gr; interfaces that are served: Catalog, Greeter",
        ("call", "greet"): "got 'greet', wanted INTERFACE.METHOD such as Greeter.greet; "
        "`mukernel tree` lists the interfaces, `mukernel describe NAME` the methods of a plug-in",
        ("move", "gretter", "inline"): "no plug-in is named 'gretter'; there are: greeter, catalog",
        ("move", "greeter", "moon"): "placement: got 'moon', wanted 'inline', 'process', "
        "'process:NAME', 'sandbox' or 'sandbox:NAME'",
        ("ps", "--app", "other"): "no application named 'other' is running; running: shop",
        ("start", "other"): "no plug-in 'other' is stopped; stopped are: none",
    }.items():
        ended = mukernel(*words)
        assert (ended.status, ended.err) == (1, f"mukernel: {problem}\n")


def test_a_value_that_an_enumeration_lacks_is_refused_with_those_that_it_has() -> None:
    description = Shirts.__contract__.describe()
    method = description.methods[0]
    assert read_arguments(["large", "7"], description, method) == {"size": "large", "colour": 7}
    for words, problem in {
        ("big", "red"): r"parameter 'size': got 'big', wanted Size\('large', 'small'\)",
        ("small", "8"): r"parameter 'colour': got '8', wanted Literal\['red', 7\]",
    }.items():
        with pytest.raises(UsageError, match=problem):
            read_arguments(words, description, method)


def test_keys_that_are_no_text_are_converted_as_json_has_only_text() -> None:
    description = Ports.__contract__.describe()
    method = description.methods[0]

    def read(*words: str) -> dict[str, Any]:
        return read_arguments(words, description, method)

    assert read('{"80": "http"}') == {"ports": {80: "http"}}
    assert read('ports:={"80": "http"}') == {"ports": {80: "http"}}
    assert read("{}", 'site={"names": {"1.5": {"true": "7"}}, "ports": [{"80": 1}]}') == {
        "ports": {},
        "site": {"names": {1.5: {True: "7"}}, "ports": [{80: 1}]},
    }
    assert read("{}", 'mixed={"80": 1, "http": 2}', 'pairs={"[1,2]": 3}', 'text={"80": {"7": 1}}') == {
        "ports": {}, "mixed": {80: 1, "http": 2}, "pairs": {(1, 2): 3}, "text": {"80": {"7": 1}},
    }  # fmt: skip
    assert read("{}", "maybe=null") == {"ports": {}, "maybe": None}
    assert read("{}", 'maybe={"80": 1}') == {"ports": {}, "maybe": {80: 1}}
    with pytest.raises(UsageError, match=r"parameter 'ports': got '.*', wanted dict\[int, str\]"):
        read('{"http": "80"}')


def test_options_may_come_before_between_and_after_arguments(shop: Any, mukernel: Any) -> None:
    for words in (
        ("Greeter.greet", "--json", "Ada", "times=2"),
        ("Greeter.greet", "Ada", "--json", "times=2"),
        ("--json", "Greeter.greet", "name=Ada", "--plugin", "greeter", "times=2"),
        ("--plugin", "greeter", "Greeter.greet", "name=Ada", "times=2", "--json"),
    ):
        assert mukernel("call", *words).good() == '"Hello Ada!!"'
    assert mukernel("call", "Greeter.greet", "--json", "--", "--Ada").good() == '"Hello --Ada!"'
    assert mukernel("bench", "Greeter.greet", "--seconds", "20ms", "name=Ada", "--json").status == 0
    assert "usage: mukernel call" in mukernel("call", "Greeter.greet", "--fly", "Ada").err
    assert "usage: mukernel call" in mukernel("call").err


def test_bench_of_a_method_that_does_not_return_ends(shop: Any, mukernel: Any) -> None:
    measured = mukernel("bench", "Greeter.hang", "--seconds", "50ms", "--callers", "3", "--json")
    assert measured.status == 1
    report = json.loads(measured.out)
    assert (report["calls"], report["errors"]) == (0, 3)
    assert report["error"] == "no reply within 5 s of the end: 3 were still running, and were cancelled"
    assert status(mukernel, "greeter")["running"] == 0


def test_bench_counts_and_times_calls(shop: Any, mukernel: Any) -> None:
    measured = json.loads(
        mukernel("bench", "Greeter.greet", "name=Ada", "--callers", "4", "--seconds", "50ms", "--json").good()
    )
    assert measured["calls"] > 0
    assert measured["errors"] == 0
    assert 0 < measured["p50"] <= measured["p99"]
    assert measured["rate"] == pytest.approx(measured["calls"] / measured["seconds"])
    failing = mukernel("bench", "Greeter.fail", "--seconds", "50ms")
    assert failing.status == 1
    assert "calls failed, the first with: ValueError: no such thing" in failing.out
    assert "bench measures methods that are answered by one reply" in mukernel("bench", "Greeter.count", "upto=3").err


# -- commanding ----------------------------------------------------------------------------------------------


def test_swap_and_roll_back(shop: Any, mukernel: Any) -> None:
    report = json.loads(mukernel("swap", "greeter", "shop:Loud", "--json").good())
    assert (report["plugin"], report["rolled_back"], report["lost"]) == ("greeter", False, 0)
    assert mukernel("call", "Greeter.greet", "Ada").good() == "HELLO Ada!"
    broken = mukernel("swap", "greeter", "shop:Broken")
    assert (broken.status, broken.out) == (1, "")
    assert "the swap was rolled back, the old version serves on: RuntimeError: it does not start" in broken.err
    rolled_back = mukernel("swap", "greeter", "shop:Broken", "--json")
    assert (rolled_back.status, json.loads(rolled_back.out)["rolled_back"]) == (1, True)
    for words in ("swap greeter shop:Broken --json", "swap greeter shop:Broken", "bench Greeter.fail --seconds 50ms"):
        assert [piped_to_nobody(*words.split(), errors_too=both) for both in (False, True)] == [1, 1]
    assert piped_to_nobody("call", "Greeter.greet", "Ada") == 0
    assert mukernel("call", "Greeter.greet", "Ada").good() == "HELLO Ada!"
    text = mukernel("swap", "greeter", "shop:English", "--config", "polite=true").good()
    assert text.startswith("greeter swapped: Loud process:talk → English process:talk (pause ")
    assert ", 0 lost" in text
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Dear Ada!"
    assert mukernel("call", "Catalog.welcome", "Ada").good() == "Dear Ada!"  # its callers noticed nothing
    assert mukernel("swap", "greeter", "--config", "polite").status == 2
    mukernel("swap", "greeter", "--config", "polite=false").good()


def test_move_there_and_back(shop: Any, mukernel: Any) -> None:
    assert mukernel("call", "Greeter.where").good() != str(shop.process.pid)
    mukernel("move", "greeter", "inline").good()
    assert mukernel("call", "Greeter.where").good() == str(shop.process.pid)
    assert json.loads(mukernel("ps", "--json").good())[0]["calls"] is None  # called directly: nothing counts
    mukernel("bench", "Greeter.greet", "Ada", "--seconds", "50ms").good()
    assert "note: greeter runs inline: it logs into the kernel's log" in mukernel("logs", "greeter").err
    assert mukernel("logs", "kernel").err == mukernel("logs", "catalog").err == ""
    assert mukernel("call", "Catalog.welcome", "Ada").good() == "Hello Ada!"
    mukernel("move", "greeter", "process:talk").good()
    assert mukernel("call", "Greeter.where").good() != str(shop.process.pid)


def test_scale_up_and_down(shop: Any, mukernel: Any) -> None:
    mukernel("scale", "catalog", "3").good()
    assert len(status(mukernel, "catalog")["pids"]) == 3
    assert mukernel("scale", "catalog", "0").status == 1
    absurd = mukernel("scale", "catalog", "1000000")
    problem = "replicas: got 1000000, wanted a whole number of at least 1 and at most 1,000"
    assert (absurd.status, absurd.err) == (1, f"mukernel: {problem}\n")
    assert mukernel("scale", "catalog", "many").status == 2
    mukernel("scale", "catalog", "1").good()
    assert len(status(mukernel, "catalog")["pids"]) == 1


def test_restart_replaces_the_process_and_keeps_the_state(shop: Any, mukernel: Any) -> None:
    mukernel("call", "Catalog.add", 'book={"title": "Persuasion", "year": 1817}').good()
    before = status(mukernel, "catalog")["pids"]
    mukernel("restart", "catalog").good()
    assert status(mukernel, "catalog")["pids"] != before
    assert "Persuasion" in mukernel("call", "Catalog.books").good()


def test_stop_and_start(shop: Any, mukernel: Any) -> None:
    mukernel("stop", "greeter").good()
    stopped = status(mukernel, "greeter")
    assert (stopped["state"], stopped["pids"], stopped["interfaces"]) == ("stopped", [], ["Greeter 1.0"])
    mukernel("stop", "greeter").good()  # it is
    assert (
        "plug-in 'greeter', which serves Greeter, is stopped; `mukernel start greeter` starts it"
        in mukernel("call", "Greeter.greet", "Ada").err
    )
    assert "plug-in 'greeter' is stopped" in mukernel("swap", "greeter").err
    assert "plug-in 'greeter' is stopped" in mukernel("call", "Catalog.welcome", "Ada").err  # so are its callers told
    assert "Greeter 1.0" in mukernel("describe", "greeter").good()
    mukernel("start", "greeter").good()
    assert mukernel("call", "Greeter.greet", "Ada").good() == "Hello Ada!"
    assert mukernel("call", "Catalog.welcome", "Ada").good() == "Hello Ada!"  # and find it again
    mukernel("start", "greeter").good()  # it has


def test_a_stopped_plugin_can_be_started_after_it_was_inline(shop: Any, mukernel: Any) -> None:
    mukernel("move", "greeter", "inline").good()
    mukernel("stop", "greeter").good()
    mukernel("start", "greeter").good()
    assert mukernel("call", "Catalog.welcome", "Ada").good() == "Hello Ada!"
    mukernel("move", "greeter", "process:talk").good()
    assert mukernel("call", "Catalog.welcome", "Ada").good() == "Hello Ada!"
