"""Topics and patterns: what falls under what."""

from __future__ import annotations

import pytest

from mukernel import ContractError
from mukernel.servers.events.topics import check_name, check_pattern, check_topic, covers, matches, overlap


@pytest.mark.parametrize(
    ("pattern", "topic", "falls"),
    [
        ("orders.created", "orders.created", True),
        ("orders.created", "orders.created.eu", False),
        ("orders.*", "orders.created", True),
        ("orders.*", "orders", False),
        ("orders.*", "orders.created.eu", False),
        ("*.created", "orders.created", True),
        ("orders.>", "orders.created.eu", True),
        ("orders.>", "orders", False),
        ("orders.*.>", "orders.eu", False),
        (">", "orders", True),
    ],
)
def test_what_falls_under_a_pattern(pattern: str, topic: str, falls: bool) -> None:
    assert matches(pattern, topic) is falls
    assert overlap(pattern, topic) is falls
    assert overlap(topic, pattern) is falls


@pytest.mark.parametrize(
    ("wide", "narrow", "covered", "overlapping"),
    [
        ("orders.>", "orders.*", True, True),
        ("orders.>", "orders.eu.>", True, True),
        ("orders.*", "orders.>", False, True),
        ("orders.*", "*.created", False, True),
        ("orders.*.eu", "orders.created.*", False, True),
        ("orders.*", "bills.*", False, False),
        ("*.*", "a.b.c", False, False),
        ("a.>", "a.>", True, True),
        ("a.>", ">", False, True),
    ],
)
def test_patterns_among_each_other(wide: str, narrow: str, covered: bool, overlapping: bool) -> None:
    assert covers(wide, narrow) is covered
    assert overlap(wide, narrow) is overlapping
    assert overlap(narrow, wide) is overlapping


@pytest.mark.parametrize("topic", ["", ".", "a.", ".a", "a..b", "a b", "a.*", "a.>", "a\n", "a\x00", "x" * 256])
def test_what_is_no_topic_is_refused(topic: str) -> None:
    with pytest.raises(ContractError, match="topic: got"):
        check_topic(topic)


@pytest.mark.parametrize("pattern", ["", "a..b", ">.a", "a.>.b", "a*", "*b", "a b", ".>"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ContractError, match="pattern: got"):
        check_pattern(pattern)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a.b", "x" * 65, "a b"])
def test_names_are_names_of_files(name: str) -> None:
    with pytest.raises(ContractError, match="group: got"):
        check_name(name, "group")
