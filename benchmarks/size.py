"""How much code the kernel is."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

from benchmarks.measure import Table
from benchmarks.report import Part, Settings

KERNEL = Path(__file__).resolve().parents[1] / "src" / "mukernel" / "kernel"
LIMIT = 1500
WITHOUT_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def run(settings: Settings) -> Part:
    """Lines of each source file of the kernel, and those of them that are not blank, comment or docstring."""
    rows = []
    for path in sorted([*KERNEL.glob("*.py"), *KERNEL.glob("*.pyx"), *KERNEL.glob("*.h")]):
        text = path.read_text()
        rows.append((path.name, len(text.splitlines()), code_lines(text, path.suffix)))
    total = sum(row[1] for row in rows)
    rows.append(("together", total, sum(row[2] for row in rows)))
    part = Part([Table("Lines of the kernel", ("file", "lines", "of code"), rows)])
    part.at_most("lines of the kernel, of Python, Cython and C", total, LIMIT - 1)
    return part


def code_lines(text: str, suffix: str) -> int:
    """Lines that hold code. Cython's are counted without looking for docstrings that span lines in C."""
    if suffix != ".py":
        stripped = [line.strip() for line in text.splitlines()]
        return sum(1 for line in stripped if line and not line.startswith(("#", "//")))
    kept: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in WITHOUT_CODE:
            kept.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node):
            kept -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(kept)
