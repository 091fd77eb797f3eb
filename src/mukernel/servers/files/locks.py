"""Locks: who holds which path. They live with the server, and each with the stream of its holder."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator

from ...core.builtin import Clock
from .interface import FileLock
from .leaving import Leaving
from .paths import below


class Held:
    """A lock that is held, and until when (seconds of the clock; None: as long as its stream)."""

    def __init__(self, lock: FileLock, until: float | None) -> None:
        self.lock, self.until = lock, until


class LockTable:
    """All locks of one server, on its event loop. A shared lock waits behind an exclusive one that waits."""

    def __init__(self, clock: Clock, first_token: int) -> None:
        self.clock, self.token = clock, first_token
        self.held: dict[int, Held] = {}
        self.queues: dict[str, list[FileLock]] = {}  # those who wait, the first first
        self.changed = asyncio.Event()

    def on(self, path: str) -> list[FileLock]:
        return [each.lock for each in self.held.values() if below(each.lock.path, path)]

    def free_for(self, wanted: FileLock, queue: list[FileLock]) -> bool:
        holders = [each.lock for each in self.held.values() if each.lock.path == wanted.path]
        ahead = queue[: queue.index(wanted)] if wanted in queue else queue
        if wanted.shared:
            return all(lock.shared for lock in holders) and all(lock.shared for lock in ahead)
        return not holders and not ahead

    async def hold(
        self, path: str, owner: str, shared: bool, wait: bool, lease: float | None, leaving: Leaving
    ) -> AsyncGenerator[FileLock, None]:
        """Yields once, when the lock is held; ends with TimeoutError when its lease has run out, and with Unavailable
        when the server leaves."""
        if lease is not None and not lease > 0:
            raise ValueError(f"lease: got {lease}, wanted seconds above 0, or None")
        self.token += 1
        lock = FileLock(path, owner, self.token, shared, lease)
        if not wait and not self.free_for(lock, self.queues.get(path, [])):
            raise BlockingIOError(errno.EAGAIN, f"{path!r} is locked by {self.holders(path)}")
        queue = self.queues.setdefault(path, [])
        queue.append(lock)
        told = f"{path!r} is not locked yet; ask for the lock again"
        try:
            try:
                while not self.free_for(lock, queue):
                    await leaving.unless_begun(self.changed.wait(), told)
            finally:
                queue.remove(lock)
                if not queue:
                    self.queues.pop(path, None)
                self.tell()
            held = self.held[lock.token] = Held(lock, None if lease is None else self.clock.now() + lease)
            yield lock
            told = f"lock {lock.token} on {path!r} is held no more; ask for it again"
            while held.until is not None and (left := held.until - self.clock.now()) > 0:
                await leaving.unless_begun(self.clock.sleep(left), told)
            if held.until is None:
                await leaving.unless_begun(asyncio.get_running_loop().create_future(), told)
            raise TimeoutError(errno.ETIMEDOUT, f"{path!r}: the lease of {lease} s has run out, and the lock with it")
        finally:
            if self.held.pop(lock.token, None) is not None:
                self.tell()

    def holders(self, path: str) -> str:
        return ", ".join(repr(each.owner or f"lock {each.token}") for each in self.on(path)) or "one who waits"

    def find(self, path: str, token: int) -> FileLock | None:
        held = self.held.get(token)
        return held.lock if held is not None and held.lock.path == path else None

    def renew(self, path: str, token: int) -> None:
        held = self.held.get(token)
        if held is None or held.lock.path != path:
            raise TimeoutError(errno.ETIMEDOUT, f"{path!r}: lock {token} is held no more")
        if held.lock.lease is not None:
            held.until = self.clock.now() + held.lock.lease

    def tell(self) -> None:
        """Let everyone who waits look again."""
        self.changed.set()
        self.changed = asyncio.Event()
