"""The modules of mukernel as they stand on the disk, and what each imports; nothing of it is run."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "mukernel"


@dataclass(frozen=True)
class Import:
    """One import: `module` is absolute; `name` is what is taken from it, if anything. `lazy`: inside a function."""

    module: str
    name: str
    line: int
    lazy: bool


@dataclass(frozen=True)
class Module:
    """One source file. `part`: its first folder ("core"), or its own name at the top ("boot")."""

    name: str
    path: Path

    @property
    def part(self) -> str:
        steps = self.name.split(".")
        return steps[1] if len(steps) > 1 else ""

    @property
    def where(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def lines(self) -> int:
        return len(self.path.read_text().splitlines())

    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(), str(self.path))

    def imports(self) -> list[Import]:
        """Every import, but those that are for type checkers only."""
        found: list[Import] = []
        self.collect(self.tree(), False, found)
        return found

    def collect(self, node: ast.AST, lazy: bool, found: list[Import]) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                found += [Import(alias.name, "", child.lineno, lazy) for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                module = self.absolute(child)
                found += [Import(module, alias.name, child.lineno, lazy) for alias in child.names]
            inner = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            self.collect(child, inner, found)

    def absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        steps = self.name.split(".")
        if self.path.name != "__init__.py":
            steps = steps[:-1]
        steps = steps[: len(steps) - node.level + 1]
        return ".".join([*steps, node.module] if node.module else steps)


def modules() -> list[Module]:
    """Every Python module of the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        steps = list(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        if steps[-1] == "__init__":
            steps.pop()
        found.append(Module(".".join(steps), path))
    return found


def ours(imported: Import, names: set[str]) -> str | None:
    """The module of mukernel that an import reaches; None for any other."""
    whole = f"{imported.module}.{imported.name}"
    if imported.name and whole in names:
        return whole
    return imported.module if imported.module.split(".")[0] == "mukernel" else None
