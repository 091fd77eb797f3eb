"""Supervision: processes are killed with -9 under load. What waited is served, what is idempotent is run again."""

# mypy: disable-error-code="empty-body"
import asyncio
import os
import signal

from mukernel import Interface, Kernel, Plugin, PluginCrashed, RestartPolicy, idempotent


class Worker(Interface):
    @idempotent
    async def square(self, number: int) -> int: ...
    async def charge(self, amount: int) -> int: ...
    @idempotent
    async def process(self) -> int: ...


class Fragile(Plugin, Worker):
    """Keeps what it charged; `checkpoint` hands that to the kernel after every charge."""

    def __init__(self) -> None:
        self.charged = 0

    async def square(self, number: int) -> int:
        return number * number

    async def charge(self, amount: int) -> int:
        self.charged += amount
        await self.checkpoint()
        return self.charged

    async def process(self) -> int:
        return os.getpid()

    def save(self) -> int:
        return self.charged

    def restore(self, state: int) -> None:
        self.charged = state


async def main() -> None:
    policy = RestartPolicy(intensity=10, period=60.0, backoff=0.001)
    async with Kernel() as kernel:
        await kernel.load(Fragile, name="worker", placement="process", restart=policy)
        worker = kernel.get(Worker)
        print("charged", await worker.charge(40))
        await worker.process()

        answers: list[int] = []
        crashed = 0

        async def client() -> None:
            nonlocal crashed
            for number in range(300):
                answers.append(await worker.square(number))
                try:
                    await worker.charge(0)
                except PluginCrashed:  # it was being run, and may be run once only: its caller decides
                    crashed += 1

        clients = [asyncio.create_task(client()) for _ in range(8)]
        killed = []
        for _ in range(5):
            killed.append(await worker.process())
            os.kill(killed[-1], signal.SIGKILL)
        await asyncio.gather(*clients)

        answered = len(answers)
        print(f"killed {len(set(killed))} processes; {answered} idempotent calls, all answered: {answered == 2400}")
        print(f"{crashed} calls were being run and may be run only once: their callers were told PluginCrashed")
        print("restarted from its checkpoint, charged", await worker.charge(2))
        print("restarts:", [event.what for event in kernel.events].count("restart"))


if __name__ == "__main__":
    asyncio.run(main())
