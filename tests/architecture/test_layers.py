"""Imports point down only. The layers are those of docs/design.md; a new folder has to be given its place here."""

import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from source_tree import Import, Module, modules, ours

# From the top to the bottom: a part imports from those below it, never from one above.
LAYERS = [
    ["cli", "console", "__main__"],
    ["demo", "testing", "boot"],
    [""],  # mukernel/__init__.py: the public names
    ["gateways"],
    ["servers", "drivers", "adapters"],
    ["core"],
    ["mesh", "shared"],
    ["transports", "sandbox", "deployment"],
    ["kernel", "contract"],
]
LEVEL = {part: len(LAYERS) - level for level, parts in enumerate(LAYERS) for part in parts}
MODULES = modules()
NAMES = {module.name for module in MODULES}


def test_the_tree_was_found() -> None:
    assert {"core", "mesh", "transports", "kernel", "contract"} <= {module.part for module in MODULES}
    assert "mukernel.core.kernel" in NAMES


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_imports_point_down(module: Module) -> None:
    assert module.part in LEVEL, f"{module.where}: the folder {module.part!r} has no place in the layers"
    for imported in module.imports():
        target = ours(imported, NAMES)
        if target is None:
            continue
        part = target.split(".")[1] if "." in target else ""
        if module.part == part:
            continue
        allowed = LEVEL[part] < LEVEL[module.part]
        assert allowed, f"{module.where}:{imported.line} imports {target}, which is not below {module.part!r}"


@pytest.mark.parametrize("part", ["kernel", "contract"])
def test_kernel_and_contract_import_nothing_of_ours(part: str) -> None:
    for module in MODULES:
        if module.part == part:
            for imported in module.imports():
                target = ours(imported, NAMES)
                own = target is None or target.startswith(f"mukernel.{part}")
                assert own, f"{module.where}:{imported.line}: {target}"


def test_no_import_is_overlooked(tmp_path: Path) -> None:
    """Neither one that is for types only, nor one inside a function."""
    path = tmp_path / "sample.py"
    path.write_text("if TYPE_CHECKING:\n    from .kernel import Kernel\ndef late():\n    import os\n")
    found = Module("mukernel.core.sample", path).imports()
    assert found == [Import("mukernel.core.kernel", "Kernel", line=2), Import("os", "", line=4)]


def test_no_cycles_among_modules() -> None:
    """Of two that know each other, if only the types, neither can be read alone."""
    edges: dict[str, set[str]] = {module.name: set() for module in MODULES}
    for module in MODULES:
        for imported in module.imports():
            target = ours(imported, NAMES)
            if target is not None and target in NAMES and target != module.name:
                edges[module.name].add(target)
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        raise AssertionError(f"modules that import each other: {' ← '.join(error.args[1])}") from None


def test_the_kernel_uses_the_standard_library_and_the_ring_only() -> None:
    for module in MODULES:
        if module.part == "kernel":
            for imported in module.imports():
                top = imported.module.split(".")[0]
                assert top in sys.stdlib_module_names or top == "mukernel", f"{module.where}:{imported.line}: {top}"
