"""Handshake: what a process of another environment and the kernel say to each other before anything else.

Its mukernel may be of another version, so this does not use what may have changed: one packet of JSON each way. The
process says which protocols it speaks and which transports it has; the kernel says which protocol it is, or refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from dataclasses import dataclass

from ..contract import ContractError, Unavailable
from ..transports.carriers import available

PROTOCOLS = (1,)  # of the messages that kernel and process exchange; what changes them incompatibly adds a number
LARGEST = 1 << 16  # bytes
ANEW = "`mukernel uninstall` of its plug-in, then `mukernel install`, makes the environment anew"
PATIENCE = 30.0  # seconds that a process has for its imports


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the two sides agreed on. `transports`: by which the process can be reached, the best first."""

    protocol: int
    transports: list[str]


# -- in the process ------------------------------------------------------------------------------------------------


def introduction() -> bytes:
    """What this process speaks. Its fork server finds out, for all that it forks: that imports much."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        ours = version("mukernel")
    except PackageNotFoundError:
        ours = "unknown"
    hello = {
        "mukernel": ours,
        "python": sys.version.split()[0],
        "protocols": PROTOCOLS,
        "transports": available(),
    }
    return json.dumps(hello).encode()


def introduce(link: int, said: bytes) -> bool:
    """Say what this process speaks, and hear what is spoken. False: the kernel does not want it, and has said why."""
    connection = socket.socket(fileno=os.dup(link))
    with connection:
        connection.setblocking(True)
        connection.send(said)
        answer = connection.recv(LARGEST)
    return bool(answer) and json.loads(answer).get("protocol") in PROTOCOLS


# -- in the kernel -------------------------------------------------------------------------------------------------


async def introduced(loop: asyncio.AbstractEventLoop, link: socket.socket, name: str, environment: str) -> Agreement:
    """What a new process says of itself, answered. Raises Unavailable where it says nothing, ContractError where it
    speaks no protocol of ours."""
    what = f"plug-in {name!r} was not started: "
    silence = "ended"
    try:
        async with asyncio.timeout(PATIENCE):
            said = await loop.sock_recv(link, LARGEST)
    except TimeoutError:
        said, silence = b"", f"was silent for {PATIENCE:g} s"
    except ConnectionError:
        said = b""
    if not said:
        raise Unavailable(
            f"{what}its process, of the environment {environment}, {silence} before it said which protocol it speaks: "
            f"it was killed, mukernel can't be imported there, or is too old to say; its log tells which; {ANEW}"
        )
    try:
        agreement = agreed(said)
    except ContractError as error:
        with contextlib.suppress(ConnectionError):
            await loop.sock_sendall(link, json.dumps({"refused": str(error)}).encode())
        raise ContractError(f"{what}the environment {environment}: {error}") from None
    try:
        await loop.sock_sendall(link, json.dumps({"protocol": agreement.protocol}).encode())
    except ConnectionError:
        raise Unavailable(
            f"{what}its process, of the environment {environment}, ended before it was answered; its log may say why"
        ) from None
    return agreement


def agreed(said: bytes) -> Agreement:
    """The newest protocol that both sides speak. Raises ContractError."""
    try:
        hello = json.loads(said)
        protocols, transports = [int(each) for each in hello["protocols"]], [str(each) for each in hello["transports"]]
    except Exception:  # no JSON, nested too deep, of another form, a number that is none
        raise ContractError(f"got {said[:80]!r} where its process was to say which protocol it speaks") from None
    known = [each for each in available() if each in transports]
    common = sorted(set(protocols) & set(PROTOCOLS))
    if not common or not known:
        raise ContractError(
            f"its mukernel {hello.get('mukernel')} speaks protocol {', '.join(map(str, protocols))} by "
            f"{', '.join(transports)}, this kernel {', '.join(map(str, PROTOCOLS))} by {', '.join(available())}; "
            f"{ANEW}"
        )
    return Agreement(common[-1], known)
