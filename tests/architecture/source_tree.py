"""The modules of mukernel as they stand on the disk, and what each imports; nothing of it is run."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "mukernel"


@dataclass(frozen=True)
class Import:
    """One import: `module` is absolute; `name` is what is taken from it, if anything."""

    module: str
    name: str
    line: int


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
        """Every import, wherever it stands: in a function and for type checkers only, too."""
        found: list[Import] = []
        for node in ast.walk(self.tree()):
            if isinstance(node, ast.Import):
                found += [Import(alias.name, "", node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                module = self.absolute(node)
                found += [Import(module, alias.name, node.lineno) for alias in node.names]
        return found

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
