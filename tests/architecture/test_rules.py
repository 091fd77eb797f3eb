"""Rules that the whole source keeps: size, time, pickle, names. Each exception stands here with its reason."""

import ast
from collections.abc import Iterator

import pytest
from source_tree import PACKAGE, ROOT, Module, modules

MODULES = modules()
KERNEL_BUDGET = 1500  # lines in kernel/, of Python, Cython and C together
LONGEST = 500  # lines

LONGER_FOR_A_REASON = {
    "src/mukernel/kernel/ring.pyx": "one data structure in shared memory, whose two sides must be read together",
}
TIME_READERS = {
    "src/mukernel/kernel/clock.py": "the clock itself",
    "src/mukernel/kernel/process.py": "the fork server's own deadline for stubborn children; it has no clock of ours",
}
READERS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep")
CLOCK_CALLS = {("time", name) for name in READERS}
CLOCK_CALLS |= {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}
CLOCK_CALLS |= {("asyncio", "sleep")}
# Reading the time of a stop watch that a person looks at: on real time by nature, and outside every kernel.
OUTSIDE = {"cli", "demo", "console"}


def source_lines(*patterns: str) -> dict[str, int]:
    return {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for pattern in patterns
        for path in PACKAGE.rglob(pattern)
    }


def test_the_kernel_stays_within_its_budget() -> None:
    sources = source_lines("*.py", "*.pyx", "*.pxd", "*.h", "*.c")
    lines = {name: count for name, count in sources.items() if "/kernel/" in name and not name.endswith("ring.c")}
    assert sum(lines.values()) < KERNEL_BUDGET, f"{sum(lines.values())} lines: {lines}"


def test_no_file_is_too_long_without_a_reason() -> None:
    lines = source_lines("*.py", "*.pyx")
    for name, count in lines.items():
        if count > LONGEST:
            assert name in LONGER_FOR_A_REASON, f"{name} has {count} lines; cut it, or give the reason here"
    for name in LONGER_FOR_A_REASON:
        assert lines.get(name, 0) > LONGEST, f"{name} needs its exception no more"


def clock_calls(module: Module) -> Iterator[tuple[int, str]]:
    tree = module.tree()
    taken = {  # from time import sleep
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if (owner, node.attr) in CLOCK_CALLS and not is_yield(tree, node):
                yield node.lineno, f"{owner}.{node.attr}"
        elif isinstance(node, ast.Name) and taken.get(node.id) in CLOCK_CALLS:
            yield node.lineno, node.id


def is_yield(tree: ast.AST, attribute: ast.Attribute) -> bool:
    """asyncio.sleep(0) asks for no time: it gives the loop a turn."""
    return any(
        isinstance(node, ast.Call) and node.func is attribute and ast.unparse(node) == "asyncio.sleep(0)"
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize("module", [m for m in MODULES if m.part not in OUTSIDE], ids=lambda module: module.name)
def test_time_comes_only_from_the_kernels_clock(module: Module) -> None:
    if module.where in TIME_READERS:
        return
    found = [f"{module.where}:{line} {call}" for line, call in clock_calls(module)]
    assert not found, f"the clock of the kernel is the only source of time: {found}"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_nothing_is_pickled_or_evaluated(module: Module) -> None:
    """A peer that is not trusted must not be able to run code."""
    for imported in module.imports():
        assert imported.module.split(".")[0] not in {"pickle", "marshal", "shelve", "dill", "cloudpickle"}, module.where
    for node in ast.walk(module.tree()):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}, f"{module.where}:{node.lineno}"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_every_module_says_what_it_is(module: Module) -> None:
    text = ast.get_docstring(module.tree())
    assert text and len(text) > 15, f"{module.where} has no docstring"
    assert module.path.stem not in {"utils", "util", "helpers", "misc", "common"}, module.where


def test_tests_do_not_wait_by_sleeping() -> None:
    """Waiting for something means to wait for its event; sleep(0) gives the loop a turn and no more."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if path == ROOT / "tests" / "kernel" / "test_clock.py":  # sleeping is what it tests
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep":
                raise AssertionError(f"{path.relative_to(ROOT)}:{node.lineno} sleeps")


def test_every_pattern_of_the_manifest_matches_a_file() -> None:
    for line in (ROOT / "MANIFEST.in").read_text().splitlines():
        command, *words = line.split()
        if command in ("include", "recursive-include"):
            folder = ROOT if command == "include" else ROOT / words.pop(0)
            for pattern in words:
                found = folder.glob(pattern) if command == "include" else folder.rglob(pattern)
                assert next(found, None), f"MANIFEST.in: {line}: nothing is like {pattern}"
