"""Plug-ins that share a process have its limits and its sandbox alike; what one of them would not get is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from core_samples import Arithmetic, Sum, Tally

from mukernel import ContractError, Kernel, SwapFailed
from mukernel.core.application import read_application
from mukernel.kernel.process import Limits

PLUGINS = """
from mukernel import Interface, Plugin
class First(Interface):
    async def first(self) -> int: ...
class Second(Interface):
    async def second(self) -> int: ...
class A(Plugin, First):
    async def first(self) -> int: return 1
class B(Plugin, Second):
    async def second(self) -> int: return 2
"""
LARGE, SMALL = Limits(memory=1 << 30), Limits(memory=64 << 20)


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (
            LARGE,
            SMALL,
            r"\('a'\) has memory: 1,073,741,824 bytes, where 'b' has 67,108,864 bytes; wanted the same memory",
        ),
        (LARGE, None, r"\('a'\) has memory: 1,073,741,824 bytes, where 'b' has none"),
        (None, SMALL, r"\('a'\) has memory: none, where 'b' has 67,108,864 bytes"),
        (None, Limits(cpu_seconds=1), r"\('a'\) has cpu: none, where 'b' has 1 s; wanted the same cpu"),
        (Limits(files=99), Limits(files=100), r"\('a'\) has limits.files: 99, where 'b' has 100"),
    ],
)
async def test_who_would_not_get_its_limits_is_not_loaded(
    kernel: Kernel, first: Limits | None, second: Limits | None, wanted: str
) -> None:
    await kernel.load(Tally, name="a", placement="process:x", limits=first)
    with pytest.raises(ContractError, match=wanted):
        await kernel.load(Sum, name="b", placement="process:x", limits=second)
    await kernel.load(Sum, name="b", placement="process:x", limits=first)
    await kernel.load(Arithmetic, name="c", placement="process", limits=second)
    with pytest.raises(SwapFailed, match=r"\('a', 'b'\) has .*, where 'c' has"):
        await kernel.move("c", "process:x")
    assert len(kernel.places) == 2


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ('memory = "1G"', 'memory = "64M"', ["b.memory: got 67,108,864 bytes, where 'a', which shares the process 'x', "
         "has 1,073,741,824 bytes; wanted the same memory for all of that name, or another name in `placement`"]),
        ("", 'memory = "64M"\ncpu = "1s"', ["b.memory: got 67,108,864 bytes, where", "b.cpu: got 1 s, where 'a'"]),
        ('shared_memory = "1M"', 'shared_memory = "2M"', ["b.shared_memory: got 2,097,152 bytes, where 'a'"]),
        ("", "sandbox = { processes = 9 }", ["b.sandbox: got Sandbox("]),
        ('memory = "64M"\nlog_size = "1M"', 'memory = "64M"', []),
    ],
)  # fmt: skip
async def test_the_check_says_so_before_anything_starts(
    tmp_path: Path, first: str, second: str, expected: list[str]
) -> None:
    (tmp_path / "parts.py").write_text(PLUGINS)
    tables = "".join(
        f'[plugins.{name}]\nuse = "parts.py:{name.upper()}"\nplacement = "sandbox:x"\n{more}\n'
        for name, more in (("a", first), ("b", second))
    )
    (tmp_path / "app.toml").write_text(tables)
    found: Any = []
    try:
        await read_application(str(tmp_path / "app.toml"))
    except ContractError as error:
        found = error.differences
    assert len(found) == len(expected)
    for problem, wanted in zip(found, expected, strict=True):
        assert problem.startswith(f"app.toml: plugins.{wanted}"), problem


async def test_the_names_of_processes_and_sandboxes_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(PLUGINS)
    tables = '[plugins.{}]\nuse = "parts.py:{}"\nplacement = "{}:x"\n'
    (tmp_path / "app.toml").write_text(tables.format("a", "A", "process") + tables.format("b", "B", "sandbox"))
    with pytest.raises(ContractError) as refused:
        await read_application(str(tmp_path / "app.toml"))
    (problem,) = refused.value.differences
    assert "plugins.b.sandbox: got Sandbox(" in problem and "has none" in problem
