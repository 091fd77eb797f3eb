"""Queries as people would type them, made of indexed symbols: so each has something to find."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from .interfaces import Symbol
from .words import words_of

SHORTEST = 4  # letters of a word that is worth searching for


def queries(symbols: Sequence[Symbol], seed: int) -> Iterator[str]:
    """Queries without end, the same ones for the same symbols and seed; for public symbols if there are.

    Raises ValueError if there are no symbols.
    """
    if not symbols:
        raise ValueError("queries: symbols is empty, wanted at least one symbol")
    public = [symbol for symbol in symbols if not symbol.name.startswith("_")]
    return _endless(public or symbols, random.Random(seed))


def _endless(symbols: Sequence[Symbol], chance: random.Random) -> Iterator[str]:
    shapes, weights = zip(*SHAPES, strict=True)
    while True:
        (shape,) = chance.choices(shapes, weights)
        symbol = chance.choice(symbols)
        # A shape may find nothing in this symbol, such as words in an empty documentation.
        yield shape(symbol, chance) or symbol.name


def exact_name(symbol: Symbol, chance: random.Random) -> str:
    """OrderedDict"""
    return symbol.name


def qualified_name(symbol: Symbol, chance: random.Random) -> str:
    """OrderedDict.move_to_end"""
    return symbol.qualified_name


def words_of_name(symbol: Symbol, chance: random.Random) -> str:
    """ordered dict"""
    return " ".join(words_of(symbol.name))


def words_of_documentation(symbol: Symbol, chance: random.Random) -> str:
    """remembers insertion"""
    words = [word for word in words_of(symbol.documentation) if len(word) >= SHORTEST]
    if len(words) < 2:
        return ""
    start = chance.randrange(len(words) - 1)
    return " ".join(words[start : start + 2])


def name_and_documentation(symbol: Symbol, chance: random.Random) -> str:
    """OrderedDict insertion"""
    words = [word for word in words_of(symbol.documentation) if len(word) >= SHORTEST]
    return f"{symbol.name} {chance.choice(words)}" if words else ""


# How people ask, and how often: mostly for a name they half remember.
SHAPES: tuple[tuple[Callable[[Symbol, random.Random], str], int], ...] = (
    (exact_name, 30),
    (qualified_name, 10),
    (words_of_name, 30),
    (words_of_documentation, 15),
    (name_and_documentation, 15),
)
