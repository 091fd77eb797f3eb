"""Callers for whose channels the kernel has no files left are told so, and have them when there are some again."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import Any

import pytest
from core_callers import Caller, Calls, Served, Serves
from files_left import none_left, open_files
from killing import pid_of
from waiting import until

from mukernel import Kernel, Overloaded, SwapFailed
from mukernel.core import routes
from mukernel.transports import link
from mukernel.transports.descriptors import duplicated


async def test_an_answer_for_whose_rights_there_are_no_files_is_an_error(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(rights: Iterable[int]) -> list[int]:
        rights = list(rights)
        if len(rights) == 2 * of_one:  # those of the answer; the replicas were given theirs one by one
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return duplicated(rights)

    await kernel.load(Serves, name="serves", placement="process", replicas=2)
    replicas = kernel.registry.entry("serves").replicas
    await kernel.load(Calls, name="calls", placement="process")
    of_one = len(next(iter(replicas[0].port.channels.values())).caller_rights)
    await kernel.unload("calls")
    with monkeypatch.context() as patched:
        patched.setattr(link, "duplicated", lacking)
        with pytest.raises(Overloaded, match=r"Too many open files.* for a message and its rights"):
            await kernel.load(Calls, name="calls", placement="process")
        assert [len(each.port.channels) for each in replicas] == [0, 0]
    await kernel.load(Calls, name="calls", placement="process")
    assert await kernel.get(Caller).ask() > 0


async def test_who_is_to_connect_anew_while_no_file_is_left_goes_on_by_what_it_has(kernel: Kernel) -> None:
    await kernel.load(Serves, name="serves", placement="process")
    await kernel.load(Calls, name="calls", placement="process", grants=["Served"])
    caller = kernel.get(Caller)
    serving = await caller.ask()
    with none_left():
        await kernel.grant("calls", "Served")
        assert await caller.ask() == serving
    assert await caller.ask() == serving


async def test_it_connects_anew_when_there_is_room_again(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "ASKED_AGAIN", (0.01, 0.02))
    await kernel.load(Serves, name="serves", placement="process")
    served = kernel.get(Served)
    channels = kernel.registry.entry("serves").replicas[0].port.channels
    before = set(channels)
    with none_left():
        await kernel.space.reroute("serves")
        assert await served.pid() == pid_of(kernel, "serves")
        assert set(channels) == before
    await until(lambda: len(channels) == 1 and not before & set(channels))
    assert await served.pid() == pid_of(kernel, "serves")
    assert not kernel.space.lacking


async def test_who_has_nothing_to_go_on_by_asks_again_at_its_next_call(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_anew = kernel.instances.reroute_callers

    async def lacking(entry: Any) -> Any:
        with none_left():
            silent = await connect_anew(entry)
            for _ in range(2):
                with pytest.raises(Overloaded, match="Too many open files"):
                    await caller.ask()
            return silent

    await kernel.load(Serves, name="serves", placement="process")
    await kernel.load(Calls, name="calls", placement="process")
    caller = kernel.get(Caller)
    await caller.ask()
    await kernel.unload("serves")
    monkeypatch.setattr(kernel.instances, "reroute_callers", lacking)
    await kernel.load(Serves, name="serves", placement="process")
    assert await caller.ask() == pid_of(kernel, "serves")


async def test_what_there_is_no_room_for_as_a_whole_is_given_back(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The route's own channel can be had, that for threads can't."""
    await kernel.load(Serves, name="serves", placement="process")
    served = kernel.get(Served, blocking=True)
    channels = kernel.registry.entry("serves").replicas[0].port.channels
    before, files, connect = set(channels), open_files(), kernel.connect
    asked = list[Any]()

    async def lacking(*question: Any) -> Any:
        asked.append(question)
        if len(asked) > 1:
            raise Overloaded("no more")
        return await connect(*question)

    with monkeypatch.context() as patched:
        patched.setattr(kernel, "connect", lacking)
        await kernel.space.reroute("serves")
        assert len(asked) == 2
        assert set(channels) == before
        assert open_files() <= files
    assert served


async def test_a_move_inline_that_there_are_no_files_for_says_so(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach_all = kernel.instances.attach_all

    def attach(replica: Any, instance: Any) -> None:
        with none_left():
            attach_all(replica, instance)

    await kernel.load(Serves, name="serves", placement="process")
    await kernel.load(Calls, name="calls", placement="process")
    monkeypatch.setattr(kernel.instances, "attach_all", attach)
    with pytest.raises(SwapFailed, match=r"Too many open files, by process \d+, for a channel to serves: it may have"):
        await kernel.move("serves", "inline")
    assert await kernel.get(Caller).ask() == pid_of(kernel, "serves")
