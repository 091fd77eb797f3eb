"""What becomes of the hooks that run when their plug-in ends."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from hook_samples import Around, Asking, Endless, Specs

from mukernel import DeadlineExceeded, KernelThread, Unavailable, deadline
from mukernel.adapters.pluggy import DRAIN, PluginManager


@pytest.fixture
def kernel() -> Iterator[KernelThread]:
    with KernelThread() as made:
        yield made


@pytest.fixture
def manager(kernel: KernelThread) -> Iterator[PluginManager]:
    with PluginManager("sample", kernel=kernel) as made:
        made.add_hookspecs(Specs)
        made.register(Endless)
        yield made


def test_nobody_waits_for_the_hook_that_was_interrupted(
    kernel: KernelThread, manager: PluginManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    drains: list[Any] = []

    def unload(name: str, *, drain: Any = None) -> None:
        drains.append(drain)
        kernel_unload(name, drain=drain)

    kernel_unload = kernel.unload
    (entry,) = kernel.kernel.registry.entries.values()
    with pytest.raises(KeyboardInterrupt):
        manager.hook.names(given=os.getpid())
    monkeypatch.setattr(kernel, "unload", unload)
    manager.unregister(Endless)
    assert (drains, entry.options.drain) == ([0.0], 0.0)  # the second is for the end of the program
    assert DRAIN > 0


def test_nor_for_the_wrapper_of_the_same_process(kernel: KernelThread) -> None:
    with PluginManager("sample", kernel=kernel, placements={"asking": "inline"}) as manager:
        manager.add_hookspecs(Specs)
        manager.register(Around)
        manager.register(Asking(manager), "asking")
        with pytest.raises(KeyboardInterrupt):
            manager.hook.where()


def test_a_hook_for_which_another_thread_waits_runs_to_its_end(
    manager: PluginManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    waits = when_it_waits(monkeypatch)
    with ThreadPoolExecutor() as threads:
        called = threads.submit(manager.hook.names, given=pipe)
        with pipe.open("w") as file:  # when the hook has opened it, too
            unregistered = threads.submit(manager.unregister, Endless)
            waits.get()
            file.write("to its end")
        assert called.result() == ["to its end"]
        assert unregistered.result() is Endless


@pytest.mark.parametrize("how", ["close", "unregister"])
def test_ctrl_c_cuts_that_short(
    manager: PluginManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    waits = when_it_waits(monkeypatch)
    with ThreadPoolExecutor() as threads:
        called = threads.submit(manager.hook.names, given=pipe)
        with pipe.open("w"):
            threads.submit(lambda: (waits.get(), os.kill(os.getpid(), signal.SIGINT)))
            with pytest.raises(KeyboardInterrupt):
                manager.close() if how == "close" else manager.unregister(Endless)
            with pytest.raises(Unavailable):
                called.result()


def when_it_waits(monkeypatch: pytest.MonkeyPatch) -> SimpleQueue[None]:
    """Which is told when a manager waits for hooks, until one has left."""
    told: SimpleQueue[None] = SimpleQueue()

    class Leaves(SimpleQueue[None]):
        def get(self, *args: Any, **kwargs: Any) -> None:
            told.put(None)
            super().get(*args, **kwargs)

    monkeypatch.setattr("mukernel.adapters.pluggy.SimpleQueue", Leaves)
    return told


def test_a_plugin_one_hook_of_which_never_ends_is_registered_again(manager: PluginManager, tmp_path: Path) -> None:
    """As the how-to says."""
    os.mkfifo(pipe := tmp_path / "pipe")
    with deadline(0.2), pytest.raises(DeadlineExceeded, match=r"^hook names of plug-in 'Endless': "):
        manager.hook.names(given=pipe)
    manager.unregister(Endless)
    manager.register(Endless)
    (tmp_path / "text").write_text("there again")
    assert manager.hook.names(given=tmp_path / "text") == ["there again"]


def test_closed_already_is_closed() -> None:
    with KernelThread() as kernel:
        manager = PluginManager("sample", kernel=kernel)
        manager.add_hookspecs(Specs)
        manager.register(Endless)
    manager.close()
    assert manager.get_plugins() == set()


def test_a_forked_child_closes_nothing_and_waits_for_nobody(manager: PluginManager) -> None:
    """Though a thread of its parent waits for a hook, the answer of which never comes there."""
    (process,) = manager._processes.values()
    process.callers.add(object())
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(20)
            manager.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    process.callers.clear()
    assert manager.hook.names(given=Path(os.devnull)) == [""]
