"""ControlConnection: calls into an application that runs in another process, for code without an event loop."""

from __future__ import annotations

import os
import weakref
from typing import Any

import msgspec

from ..contract import MethodCodec, PluginCrashed, Unavailable
from ..kernel.clock import Clock
from ..transports.blocking import BlockingCaller
from ..transports.listening import connect_blocking
from ..transports.remote import RemoteMethod
from .control import Control
from .state_folder import find_running


class ControlConnection:
    """One application, by its control socket. Any thread may call; each call has a connection of its own meanwhile.

    `application`: its name, or None for the only one that runs; `state`: its state folder, where it was given one.
    Which one that is is looked up at the first call, and again when a connection broke.
    """

    def __init__(self, application: str | None = None, state: str | None = None) -> None:
        self.application, self.state, self.now_ns = application, state, Clock().now_ns
        method = Control.__contract__.methods["call"]
        self.codec = MethodCodec(method)
        self.method = RemoteMethod(method, self.codec)
        self.idle: list[BlockingCaller] = []
        self.process = os.getpid()
        weakref.finalize(self, close_all, self.idle)

    def call(self, interface: str, method: str, arguments: dict[str, Any], plugin: str | None = None) -> Any:
        """Call a method by name. Raises NotFound where no such application runs, what the call raises (an exception
        that its interface declares as RemoteError), and Unavailable where its kernel is gone."""
        body = self.codec.encode_arguments((interface, method, arguments, plugin), {})
        caller = self.connected()
        try:
            reply = caller.call(self.method, body, True)
        except (PluginCrashed, Unavailable):
            if caller.wire.closed is None:
                raise
            raise Unavailable(
                f"the kernel of {self.application or self.state or 'the application'} has ended, or was killed; "
                f"whether {interface}.{method} was run is not known"
            ) from None
        finally:
            if caller.wire.closed is None:
                self.idle.append(caller)
            else:
                caller.wire.close()
        return self.codec.decode_result(reply)

    def connected(self) -> BlockingCaller:
        """A connection that nobody uses, or a new one."""
        if self.process != os.getpid():  # what was forked must not speak on its parent's connections
            close_all(self.idle)
            self.process = os.getpid()
        try:
            while True:
                caller = self.idle.pop()
                caller.wire.receive()  # by an idle one comes no message, but perhaps that its kernel has ended
                if caller.wire.closed is None:
                    return caller
                caller.wire.close()
        except IndexError:
            return self.connect()

    def connect(self) -> BlockingCaller:
        """A new one. Raises NotFound where no such application runs."""
        folder = find_running(self.application, self.state, None)
        greeting = msgspec.msgpack.encode(Control.__contract__.describe())
        return BlockingCaller(connect_blocking(f"unix:{folder.socket}", greeting=greeting), self.now_ns)


def close_all(callers: list[BlockingCaller]) -> None:
    while callers:
        callers.pop().wire.close()
