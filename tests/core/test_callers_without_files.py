"""Callers for whose channels the kernel has no files left are told so, and have them when there are some again."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

import pytest
from core_callers import Caller, Calls, Serves

from mukernel import Kernel, Overloaded
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
