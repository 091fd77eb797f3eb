"""How a name falls into words: the index, the rankers and the queries must agree on it."""

from __future__ import annotations

import re

# In this order: capitals before a capitalised word (HTTPServer), a word, capitals, digits, other letters.
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\W\d_A-Za-z]+")


def words_of(text: str) -> list[str]:
    """The lower-case words of a name or a query: "HTTPServer.read2" gives http, server, read, 2."""
    return [word.lower() for word in _WORD.findall(text)]
