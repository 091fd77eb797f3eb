"""`mukernel memory`: who holds which shared memory, against which quota."""

import json
import os
import signal
from pathlib import Path
from typing import Any

PLUGIN = """
import numpy
import pyarrow as pa
from mukernel import Interface, Plugin, shared
class Source(Interface):
    async def fill(self, size: int) -> None: ...
class Sink(Interface):
    async def keep(self, frame: numpy.ndarray, table: pa.Table) -> int: ...
class Camera(Plugin, Source):
    def __init__(self, sink: Sink) -> None:
        self.sink, self.kept = sink, []
    async def fill(self, size: int) -> None:
        frame, table = shared.empty(size, "u1"), shared.arrow(pa.table({"a": numpy.zeros(size // 8)}))
        await self.sink.keep(frame, table)
        self.kept += [frame, table, shared.buffer(100_000)]
class Archive(Plugin, Sink):
    def __init__(self) -> None:
        self.kept = []
    async def keep(self, frame: numpy.ndarray, table: pa.Table) -> int:
        self.kept += [frame, table]
        return len(self.kept)
"""
APPLICATION = """
[app]
name = "holding"
[plugins.archive]
use = "holding:Archive"
placement = "sandbox"
shared_memory = "64M"
[plugins.camera]
use = "holding:Camera"
placement = "process"
shared_memory = "32M"
"""
SIZE = 1 << 20


def test_it_lists_what_each_process_holds(home: Path, tmp_path: Path, start: Any, mukernel: Any) -> None:
    folder = tmp_path / "holding"
    folder.mkdir()
    (folder / "holding.py").write_text(PLUGIN)
    (folder / "app.toml").write_text(APPLICATION)
    start(folder)
    options = ("--app", "holding")
    mukernel("call", "Source.fill", f"size:={SIZE}", *options).good()
    kernel, archive, camera = json.loads(mukernel("memory", "--json", *options).good())
    assert (kernel["process"], kernel["plugins"], kernel["inventory"]["count"]) == ("kernel", [], 0)
    assert (archive["plugins"], camera["plugins"]) == (["archive"], ["camera"])
    assert (archive["inventory"]["quota"], camera["inventory"]["quota"]) == (64 << 20, 32 << 20)
    got, made = archive["inventory"], camera["inventory"]
    assert [(each["made"], each["state"], each["content"]) for each in made["segments"]] == [
        (True, "final", "arrow"), (True, "sent", ""), (True, "written", ""),
    ]  # fmt: skip
    assert [(each["made"], each["content"]) for each in got["segments"]] == [(False, "arrow"), (False, "")]
    assert [each["memory"] for each in got["segments"]] == [each["memory"] for each in made["segments"][:2]]
    assert made["held"] == got["held"] + 100_000 == sum(each["size"] for each in made["segments"])
    assert made["lent"] == 0

    lines = mukernel("memory", *options).good().splitlines()
    assert lines[0].split() == ["PROCESS", "PID", "PLUGINS", "HELD", "QUOTA", "LENT", "SEGMENTS"]
    assert lines[-1] == "2.1M in 3 pieces of memory"
    lines = mukernel("memory", "archive", "--segments", *options).good().splitlines()
    assert "64.0M" in lines[1] and len(lines) == 7
    assert [line.split()[-4:] for line in lines[4:6]] == [["1.0M", "received", "final", "arrow"],
                                                          ["1.0M", "received", "sent", "-"]]  # fmt: skip
    assert "no plug-in is named 'nobody'" in mukernel("memory", "nobody", *options).err


def test_a_process_that_does_not_answer_is_said_to_be_so(shop: Any, mukernel: Any) -> None:
    (pid,) = next(each["pids"] for each in json.loads(mukernel("ps", "--json").good()) if each["name"] == "catalog")
    os.kill(pid, signal.SIGSTOP)
    try:
        listed = {tuple(each["plugins"]): each for each in json.loads(mukernel("memory", "--json").good())}
        assert listed[("catalog",)]["inventory"] is None
        assert "not answering" in mukernel("memory", "catalog").good()
    finally:
        os.kill(pid, signal.SIGCONT)
