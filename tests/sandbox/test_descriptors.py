"""What sandboxes may have on their way leaves room for everybody else of the same user."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from mukernel.core.sandboxed import FILES
from mukernel.transports.link import Link

MOST_IN_A_PACKET = 253  # SCM_MAX_FD
USUAL = 1024  # descriptors that a process may have where nobody has said more


def test_the_limit_of_a_sandbox_is_below_that_of_others() -> None:
    assert FILES + MOST_IN_A_PACKET < USUAL


def test_too_many_on_their_way_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise OSError(errno.ETOOMANYREFS, "Too many references: cannot splice")

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        link = Link(ours)
        monkeypatch.setattr(socket, "send_fds", refused)
        with pytest.raises(OSError, match="too many descriptors of this user are on their way"):
            link.send(b"{}", [0])
