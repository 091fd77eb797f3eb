"""Swap: ten swaps under load, with state, and one that is rolled back; the ledger says that nothing was lost."""

# mypy: disable-error-code="empty-body"
import asyncio

from mukernel import Interface, Kernel, Plugin, SwapFailed


class Account(Interface):
    """Money; a call that is lost or run twice shows in the balance."""

    async def deposit(self, amount: int) -> int: ...
    async def balance(self) -> int: ...


class Simple(Plugin, Account):
    def __init__(self) -> None:
        self.amount = 0

    async def deposit(self, amount: int) -> int:
        self.amount += amount
        return self.amount

    async def balance(self) -> int:
        return self.amount

    def save(self) -> int:
        return self.amount

    def restore(self, state: int) -> None:
        self.amount = state


class Audited(Plugin, Account):
    """Version 2 of the state: every deposit by itself. It can read what version 1 saved."""

    state_version = 2

    def __init__(self) -> None:
        self.deposits: list[int] = []

    async def deposit(self, amount: int) -> int:
        self.deposits.append(amount)
        return sum(self.deposits)

    async def balance(self) -> int:
        return sum(self.deposits)

    def save(self) -> list[int]:
        return [sum(self.deposits)]

    def restore(self, state: list[int] | int, version: int) -> None:
        self.deposits = list(state) if isinstance(state, list) else [state]


class Broken(Simple):
    """Starts, and finds that it can't go on: the swap to it is rolled back."""

    async def start(self) -> None:
        raise ConnectionError("the bank does not answer")


class Reverted(Audited):
    """Audited as it was; a later version of the state is no problem for it."""


async def main() -> None:
    async with Kernel() as kernel:
        await kernel.load(Simple, name="account", placement="process")
        account, made, swapping = kernel.get(Account), 0, True

        async def customer() -> None:
            nonlocal made
            while swapping:
                await account.deposit(1)
                made += 1

        customers = [asyncio.create_task(customer()) for _ in range(16)]
        pauses = [(await kernel.swap("account", (Audited, Reverted)[turn % 2])).pause for turn in range(10)]
        try:
            await kernel.swap("account", Broken)
        except SwapFailed as failure:
            print("rolled back:", str(failure).splitlines()[0])
        swapping = False
        await asyncio.gather(*customers)

        balance, ledger = await account.balance(), await kernel.ledger("account")
        print(f"{len(pauses)} swaps, the longest pause {max(pauses) * 1000:.1f} ms")
        lost = "nothing" if made == balance else "SOMETHING"
        print(f"{made} deposits made, the balance is {balance}: {lost} was lost")
        outcomes = f"{ledger.replied} replied + {ledger.refused} refused"
        print(f"the ledger: {ledger.accepted} accepted = {outcomes}, {ledger.lost} lost")


if __name__ == "__main__":
    asyncio.run(main())
