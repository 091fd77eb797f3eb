"""`mukernel stack`, and what ps, describe and logs say of a plug-in that hung."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

PLUGIN = """
from mukernel import Interface, Plugin, idempotent
class Work(Interface):
    async def spin(self) -> None: ...
    @idempotent
    async def rest(self) -> str: ...
class Worker(Plugin, Work):
    async def spin(self) -> None:
        while True:
            pass
    async def rest(self) -> str:
        return "rested"
"""
APPLICATION = """
[app]
name = "hanging"
[plugins.worker]
use = "work:Worker"
placement = "process"
[plugins.worker.restart]
hang = "2s"
[plugins.inside]
use = "work:Worker"
"""


def test_stack_shows_where_each_process_of_a_plugin_stands(shop: Any, mukernel: Any) -> None:
    (process,) = json.loads(mukernel("ps", "--json").good())[1]["pids"]
    text = mukernel("stack", "catalog").good()
    first, thread, *frames = text.splitlines()
    assert first.startswith(f"process {process}: ")
    assert thread == "the event loop's thread (the innermost first):"
    assert all(frame.startswith('  File "') for frame in frames)
    (told,) = json.loads(mukernel("stack", "catalog", "--json").good())
    assert (told["pid"], len(told["threads"])) == (process, 1)
    missing = mukernel("stack", "nobody")
    assert (missing.status, "no plug-in is named 'nobody'; there are: " in missing.err) == (1, True)
    mukernel("stop", "catalog").good()
    stopped = mukernel("stack", "catalog")
    assert (stopped.status, "is stopped: it has no process; `mukernel start catalog`" in stopped.err) == (1, True)
    mukernel("start", "catalog").good()


def test_what_hung_is_told_by_all_that_watch(start: Callable[..., Any], mukernel: Any, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(PLUGIN)
    (tmp_path / "app.toml").write_text(APPLICATION)
    app = start(tmp_path)
    of = ("--app", "hanging")
    call = mukernel("call", "Work.spin", "--plugin", "worker", *of)
    assert call.status == 1
    assert "gave no sign of life for 2 s and was ended; it was running, in spin (work.py:" in call.err
    assert "no heartbeat for 2 s; it was running, in spin (work.py:" in app.until("   hang   ")
    assert mukernel("call", "Work.rest", "--plugin", "worker", *of).good() == "rested"
    ps = mukernel("ps", *of).good()
    assert "worker hung: no heartbeat for 2 s; it was running, in spin (work.py:" in ps
    assert "inside hung" not in ps
    described = mukernel("describe", "worker", *of).good()
    assert "hung: no heartbeat for 2 s" in described
    assert 'work.py", line ' in described
    assert 'work.py", line ' in mukernel("logs", "worker", *of).good()
    assert "it is the kernel's own, where inline plug-ins run" in mukernel("stack", "inside", *of).good()
