"""`mukernel demo --keep`: the application goes on running, for the other commands to reach."""

from __future__ import annotations

import asyncio
import sys

from mukernel import Kernel, Unavailable
from mukernel.core.control_server import ControlServer, ControlSocket
from mukernel.core.state_folder import state_folder

from .screen import shown_text
from .signals import Signals

NAME = "demo"  # for --app
WAYS = """
It goes on running. In another terminal:
  mukernel ps --app demo
  mukernel call Search.search query=OrderedDict --app demo
  mukernel swap ranker mukernel.demo.ranker:Bm25Ranker --app demo
  mukernel move index process --app demo
  mukernel bench Search.search query=OrderedDict --app demo
Ctrl-C, or `mukernel stop --all --app demo`, ends it."""


async def keep_running(kernel: Kernel, signals: Signals) -> None:
    """Serve the control interface until a signal, or a client, asks for the end, which then is the wanted one."""
    state = state_folder(NAME)
    try:
        state.claim()
    except Unavailable as error:
        print(shown_text(f"mukernel demo: --keep: {error}"), file=sys.stderr)
        return
    ending = asyncio.Event()
    signals.end = ending.set
    try:
        socket = ControlSocket(ControlServer(kernel, None, ending.set), state.socket)
        await socket.open()
        try:
            print(WAYS, file=sys.stderr, flush=True)
            await ending.wait()
        finally:
            socket.close()
    finally:
        state.release()
