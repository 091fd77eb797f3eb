"""The plug-in that reads symbols out of Python source."""

from __future__ import annotations

import ast
import inspect
import warnings
from collections.abc import Iterator

from mukernel import Plugin

from .interfaces import Kind, ParsedFile, Parser, Symbol

LONGEST = 400  # characters of a documentation or a signature: more than a line of results can show

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class AstParser(Plugin, Parser):
    """Reads functions, classes and methods with `ast`; the source is parsed, never run."""

    async def parse(self, path: str, source: bytes) -> ParsedFile:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the code that is read: "invalid escape sequence"
                return ParsedFile(path, list(symbols_of(ast.parse(source, filename=path), path)))
        except SyntaxError as error:
            return ParsedFile(path, [], f"line {error.lineno or 1}: {error.msg}")
        except (ValueError, RecursionError, MemoryError) as error:  # null bytes; too deep for the parser
            return ParsedFile(path, [], f"{type(error).__name__}: {error}")


def symbols_of(tree: ast.Module, path: str) -> Iterator[Symbol]:
    """Every definition of a module, in the order of its lines."""
    # A stack and not recursion: generated code may nest deeper than a plug-in's stack has room left.
    waiting: list[tuple[ast.AST, tuple[str, ...], bool]] = [(tree, (), False)]
    while waiting:
        node, around, in_class = waiting.pop()
        inner, inner_in_class = around, in_class
        if isinstance(node, DEFINITIONS):
            yield symbol_of(node, path, around, in_class)
            inner, inner_in_class = (*around, node.name), isinstance(node, ast.ClassDef)
        waiting += [(child, inner, inner_in_class) for child in reversed(statements_in(node))]


def statements_in(node: ast.AST) -> list[ast.AST]:
    """The children that are, or may hold, a definition: an expression never does."""
    held = (ast.stmt, ast.excepthandler, ast.match_case)
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, held)]


def symbol_of(node: Definition, path: str, around: tuple[str, ...], in_class: bool) -> Symbol:
    """One definition; `around` has the names of those that enclose it, the outermost first."""
    if isinstance(node, ast.ClassDef):
        kind: Kind = "class"
        signature = ", ".join(ast.unparse(base) for base in node.bases)
    else:
        kind = "method" if in_class else "function"
        signature = ast.unparse(node.args)
    return Symbol(
        name=node.name,
        qualified_name=".".join((*around, node.name)),
        kind=kind,
        path=path,
        line=node.lineno,
        signature=signature[:LONGEST],
        documentation=sendable(first_paragraph(ast.get_docstring(node, clean=False) or ""))[:LONGEST],
    )


def sendable(text: str) -> str:
    """Text that UTF-8 has a form for: an escape such as "\\ud800" makes a character that is none."""
    return text.encode(errors="replace").decode()


def first_paragraph(documentation: str) -> str:
    """The text up to the first empty line, on one line."""
    return " ".join(inspect.cleandoc(documentation).partition("\n\n")[0].split())
