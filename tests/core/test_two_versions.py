"""Several classes of one interface in one process: each has its own methods, its own types, its own check."""

import asyncio
import gc
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from test_loader import write

from mukernel import ContractError, Interface, Kernel, Plugin, SwapFailed


class Store(Interface):
    async def get(self, key: str) -> str: ...


class Wider(Interface, name="Store", version="1.1"):
    async def get(self, key: str, default: str = "none") -> str: ...


class Wrong(Interface, name="Store"):
    async def get(self, key: str) -> int: ...


class Later(Interface, name="Store", version="2.0"):
    async def get(self, key: str) -> str: ...


class Text(Plugin, Store):
    async def get(self, key: str) -> str:
        return key


class Default(Plugin, Wider):
    async def get(self, key: str, default: str = "none") -> str:
        return key or default


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_each_class_of_an_interface_is_checked(kernel: Kernel, placement: str) -> None:
    await kernel.load(Text, name="text", placement=placement)
    assert await kernel.get(Store).get("a") == "a"
    for wrong in (Wrong, Later):
        with pytest.raises(ContractError, match="don't fit"):
            kernel.get(wrong)
    await kernel.swap("text", Default)
    assert await kernel.get(Wider).get("", default="b") == "b"
    assert await kernel.get(Store).get("a") == "a"


MODULE = """
    from dataclasses import dataclass
    from mukernel import Interface, Plugin
    @dataclass
    class Item:
        name: str
        {field}
    class Shop(Interface, name="{name}"):
        async def item(self) -> Item: ...
        {method}
"""
SERVER = """
    from {module}_api import Item, Shop
    from mukernel import Plugin
    class Server(Plugin, Shop):
        async def item(self) -> Item:
            return Item("spoon")
        {method}
"""
CALLER = """
    from {module}_api import Item, Shop
    from mukernel import Interface, Plugin
    class Asks(Interface, name="{module}Asks"):
        async def ask(self) -> str: ...
    class Caller(Plugin, Asks):
        def __init__(self, shop: Shop): self.shop = shop
        async def ask(self) -> str:
            item = await self.shop.item()
            assert isinstance(item, Item), type(item)
            return {answer}
"""


class Asks(Interface):
    async def ask(self) -> str: ...


@pytest.mark.parametrize("server", ["inline", "process"])
async def test_a_caller_that_is_swapped_has_the_new_interface(kernel: Kernel, tmp_path: Path, server: str) -> None:
    """Its methods, and the types of what it is given: nothing of the old classes is left in between."""
    module = f"two_{server}"

    def write_all(field: str, method: str, answer: str) -> None:
        write(tmp_path, f"{module}_api.py", MODULE.format(name=f"Shop{server}", field=field, method=method))
        write(tmp_path, f"{module}_server.py", SERVER.format(module=module, method=method.replace("...", "return 5")))
        write(tmp_path, f"{module}_caller.py", CALLER.format(module=module, answer=answer))

    write_all("", "", "item.name")
    folder: dict[str, Any] = {"folder": str(tmp_path)}
    await kernel.load(f"{module}_server:Server", name="server", placement=server, **folder)
    await kernel.load(f"{module}_caller:Caller", name="caller", **folder)
    asks = kernel.get(sys.modules[f"{module}_caller"].Asks)
    assert await asks.ask() == "spoon"
    write_all("price: int = 3", "async def count(self) -> int: ...", "str(item.price + await self.shop.count())")
    await kernel.swap("server", f"{module}_server:Server", **folder)
    await kernel.swap("caller", f"{module}_caller:Caller", **folder)
    assert await asks.ask() == "8"


async def test_a_file_in_a_subfolder_takes_what_changed_in_the_applications_folder(
    kernel: Kernel, tmp_path: Path
) -> None:
    write(tmp_path, "sub_words.py", "GREETING = 'old'")
    write(tmp_path, "sub_common/__init__.py", "")
    write(tmp_path, "sub_common/more.py", "MORE = 'old'")
    text = """
        from sub_common import more
        import sub_words
        from mukernel import Interface, Plugin
        class Asks(Interface, name="SubAsks"):
            async def ask(self) -> str: ...
        class Caller(Plugin, Asks):
            async def ask(self) -> str:
                return sub_words.GREETING + more.MORE
    """
    write(tmp_path, "plugs/sub_one.py", text)
    await kernel.load("plugs/sub_one.py:Caller", name="one", folder=str(tmp_path))
    asks = kernel.get(sys.modules["sub_one"].Asks)
    assert await asks.ask() == "oldold"
    write(tmp_path, "sub_words.py", "GREETING = 'new'")
    write(tmp_path, "sub_common/more.py", "MORE = 'newer'")
    await kernel.swap("one", "plugs/sub_one.py:Caller", folder=str(tmp_path))
    assert await asks.ask() == "newnewer"


DECLARED = """
    import enum
    from collections.abc import AsyncIterator, Iterator
    from dataclasses import dataclass
    from mukernel import Interface, Plugin, raises
    class SoldOut(Exception): ...
    class Size(enum.Enum):
        SMALL = "s"
    @dataclass
    class Tea:
        name: str
        size: Size = Size.SMALL
    class Shop(Interface, name="TeaShop"):
        @raises(SoldOut)
        async def buy(self, tea: Tea) -> Tea: ...
        @raises(SoldOut)
        def list(self, first: Tea) -> AsyncIterator[Tea]: ...
        @raises(SoldOut)
        def at_once(self, tea: Tea) -> Tea: ...
        @raises(SoldOut)
        def each(self, first: Tea) -> Iterator[Tea]: ...
        async def plain(self, number: int) -> int: ...
    def checked(tea):
        assert type(tea) is Tea and type(tea.size) is Size, type(tea)
        if tea.name == "green":
            raise SoldOut(tea.name)
        return tea
    class Server(Plugin, Shop):
        async def buy(self, tea: Tea) -> Tea:
            return checked(tea)
        async def list(self, first: Tea) -> AsyncIterator[Tea]:
            yield checked(first)
            yield checked(Tea("green"))
        def at_once(self, tea: Tea) -> Tea:
            return checked(tea)
        def each(self, first: Tea) -> Iterator[Tea]:
            yield checked(first)
            yield checked(Tea("green"))
        async def plain(self, number: int) -> int:
            return number
"""


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_a_caller_of_an_older_class_is_given_its_own_types_and_exceptions(
    kernel: Kernel, tmp_path: Path, placement: str
) -> None:
    module = f"tea_{placement}"
    write(tmp_path, f"{module}.py", DECLARED)
    await kernel.load(f"{module}:Server", name="shop", folder=str(tmp_path))
    mine = sys.modules[module]
    await kernel.move("shop", placement)
    shop = kernel.get(mine.Shop)
    for _ in range(2):
        black = mine.Tea("black")
        for tea in (await shop.buy(black), shop.at_once(black)):
            assert type(tea) is mine.Tea and tea == black and tea.size is mine.Size.SMALL
        with pytest.raises(mine.SoldOut, match="green"):
            await shop.buy(mine.Tea("green"))
        with pytest.raises(mine.SoldOut, match="green"):
            shop.at_once(mine.Tea("green"))
        seen = []
        with pytest.raises(mine.SoldOut, match="green"):
            async for tea in shop.list(black):
                seen.append(tea)
        with pytest.raises(mine.SoldOut, match="green"):
            for tea in shop.each(black):
                seen.append(tea)
        assert seen == [black, black] and await shop.plain(3) == 3
        write(tmp_path, f"{module}.py", DECLARED + "    # edited\n")
        await kernel.swap("shop", f"{module}:Server", folder=str(tmp_path))


ONE_FILE = """
    from mukernel import Interface, Plugin
    class Greeter(Interface, name="OneGreeter"):
        async def greet(self) -> str: ...
        def at_once(self) -> int: ...
    class Hello(Plugin, Greeter):
        async def greet(self) -> str:
            return "hello"
        def at_once(self) -> int:
            return 1
    class Shop(Interface, name="OneShop"):
        async def welcome(self) -> str: ...
    class Mine(Plugin, Shop):
        def __init__(self, greeter: Greeter, *, flaw: str = ""):
            self.greeter = greeter
            if flaw: raise RuntimeError(flaw)
        async def welcome(self) -> str:
            return await self.greeter.greet()
"""


@pytest.mark.parametrize(("greeter", "shop"), [("process", "inline"), ("inline", "inline"), ("process", "process:one")])
async def test_swaps_leave_no_route_and_no_descriptor_behind(
    kernel: Kernel, tmp_path: Path, greeter: str, shop: str
) -> None:
    """Each imports the interface anew, as where all of an application is one file; those that fail do, too."""
    write(tmp_path, "one_file.py", ONE_FILE)
    folder: dict[str, Any] = {"folder": str(tmp_path)}
    await kernel.load("one_file.py:Hello", name="greeter", placement=greeter, **folder)
    await kernel.load("one_file.py:Hello", name="keeps", placement=shop, **folder)
    await kernel.load("one_file.py:Mine", name="shop", placement=shop, bind={"OneGreeter": "greeter"}, **folder)

    def held() -> tuple[int, int]:
        gc.collect()  # what was closed keeps its memory until then
        return len(os.listdir("/proc/self/fd")), len(kernel.space.routes)

    async def swap_and_call() -> None:
        await kernel.swap("shop", "one_file.py:Mine", **folder)
        with pytest.raises(SwapFailed):
            await kernel.swap("shop", "one_file.py:Mine", config={"flaw": "no"}, **folder)

    await swap_and_call()
    before = held()
    for _ in range(5):
        await swap_and_call()
    for _ in range(200):  # a process that was ended last may have something to give back still
        if held() <= before:
            break
        await asyncio.sleep(0)
    assert held() <= before


@pytest.mark.parametrize("greeter", ["inline", "process"])
async def test_a_kept_method_of_a_superseded_interface_goes_on(kernel: Kernel, tmp_path: Path, greeter: str) -> None:
    """Though another plug-in that used the same route is gone, and no proxy of it is left."""
    module = f"kept_{greeter}"
    write(tmp_path, f"{module}.py", ONE_FILE)
    folder: dict[str, Any] = {"folder": str(tmp_path)}
    await kernel.load(f"{module}.py:Hello", name="greeter", placement=greeter, **folder)
    await kernel.load(f"{module}.py:Mine", name="shop", **folder)
    interface = sys.modules[module].Greeter
    kept, at_once = kernel.get(interface).greet, kernel.get(interface).at_once
    blocking = kernel.get(interface, blocking=True).greet
    for _ in range(2):
        await kernel.swap("shop", f"{module}.py:Mine", **folder)
        gc.collect()
        assert await kept() == "hello" and at_once() == 1
        assert await asyncio.to_thread(blocking) == "hello"
    await kernel.unload("shop")
    gc.collect()
    assert at_once() == 1 and await kept() == "hello"


OLD_OR_NEW = """
    from mukernel import Interface, Plugin
    class Age(Interface, name="Age_{module}"):
        async def age(self) -> str: ...
    class Server(Plugin, Age):
        async def age(self) -> str:
            return "{age}"
"""


@pytest.mark.parametrize("known", ["loaded", "called"])
async def test_what_the_program_itself_has_imported_is_not_what_a_newer_version_moves_to(
    kernel: Kernel, tmp_path: Path, known: str
) -> None:
    """The module was there when the plug-in was loaded, or came later, for a proxy of its interface."""
    name = f"age_{known}"
    write(tmp_path, f"{name}.py", OLD_OR_NEW.format(module=name, age="old"))
    sys.path.insert(0, str(tmp_path))
    try:
        if known == "loaded":
            importlib.import_module(name)
        await kernel.load(f"{name}:Server", name="server", placement="process")
        server = kernel.get(importlib.import_module(name).Age)
        assert await server.age() == "old"
        write(tmp_path, f"{name}.py", OLD_OR_NEW.format(module=name, age="newer"))
        await kernel.swap("server", f"{name}:Server")
        assert await server.age() == "newer"
        for placement in ("inline", "process", "inline"):
            await kernel.move("server", placement)
            assert await server.age() == "newer"
    finally:
        sys.path.remove(str(tmp_path))
