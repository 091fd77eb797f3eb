"""Capabilities: how grants are read, what they permit, and which covers which."""

from __future__ import annotations

from typing import Any

import pytest

from mukernel.contract import Capability, ContractError, Granted, PermissionDenied, read_capability

READ = [
    ("Catalog", Capability("Catalog")),
    ("mukernel.Control", Capability("mukernel.Control")),
    ("Sql:read", Capability("Sql", ("read",))),
    ("Sql:read,write,read", Capability("Sql", ("read", "write"))),
    ("Files:read:/data", Capability("Files", ("read",), "/data")),
    ("Files:read:/data/", Capability("Files", ("read",), "/data")),
    ("Files:*:/", Capability("Files", (), "/")),
    ("Files:*", Capability("Files")),
    ("Http:get:https://api.example.org:8080", Capability("Http", ("get",), "https://api.example.org:8080")),
]

WRONG = [
    "", ":", ":read", "Files:", "Files::/data", "Files:read:", "Files:Read", "Files:read,", "Files:read:/data/../etc",
    "Fi les", "3Files", "Files:read\n", "Files:re ad", "Files:read:/a\0b", "F" * 5000, None, 3, ["Files"],
]  # fmt: skip


@pytest.mark.parametrize(("text", "meant"), READ)
def test_a_grant_is_read_and_written(text: str, meant: Capability) -> None:
    assert read_capability(text) == meant
    assert read_capability(str(meant)) == meant == read_capability(meant)


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_grant_is_refused_with_what_was_wanted(text: Any) -> None:
    with pytest.raises(ContractError, match=r"^got .*wanted"):
        read_capability(text)


def test_a_capability_made_by_hand_is_checked_as_well() -> None:
    with pytest.raises(ContractError, match="leads upwards"):
        read_capability(Capability("Files", ("read",), "/data/../etc"))


@pytest.mark.parametrize(
    ("grant", "right", "thing", "may"),
    [
        ("Files", "write", "/etc/passwd", True),
        ("Files:read", "read", "/etc/passwd", True),
        ("Files:read", "write", "/etc/passwd", False),
        ("Files:read:/data", "read", "/data", True),
        ("Files:read:/data", "read", "/data/a/b", True),
        ("Files:read:/data", "read", "/database", False),
        ("Files:read:/data", "read", "/data/../etc", False),
        ("Files:read:/data", "read", "", False),
        ("Files:read:/data/*", "read", "/data/a/b", True),
        ("Files:read:/data/*", "read", "/data", False),
        ("Files:read:/data/*", "read", "/data/", False),
        ("Files:read:/data/*", "read", "/data/../etc", False),
        ("Files:read:/data/*", "read", "/database", False),
        ("Files:*:/data", "write", "/data/a", True),
        ("Files:*:/", "write", "/data/a", True),
        ("Files:*:/", "write", "/../a", False),
        ("Http:get:https://example.org", "get", "https://example.org/a", True),
        ("Http:get:https://example.org", "get", "https://example.org.evil/a", False),
        ("Http:get:https://example.org", "get", "https://example.org@evil/a", False),
    ],
)
def test_what_a_grant_permits(grant: str, right: str, thing: str, may: bool) -> None:
    granted = Granted((read_capability(grant),))
    assert granted.allows(right, thing) is may
    if not may:
        with pytest.raises(PermissionDenied, match="the caller was granted only: "):
            granted.check(right, thing)


def test_one_of_several_grants_is_enough() -> None:
    granted = Granted((read_capability("Files:read:/data"), read_capability("Files:write:/out")))
    assert granted.allows("read", "/data/a") and granted.allows("write", "/out/a")
    assert not granted.allows("write", "/data/a") and not granted.allows("read", "/out/a")


@pytest.mark.parametrize(
    ("wide", "narrow", "covers"),
    [
        ("Files", "Files:read:/data", True),
        ("Files:read", "Files:read:/data", True),
        ("Files:read", "Files", False),
        ("Files:*:/data", "Files", False),
        ("Files:*:/data", "Files:read", False),
        ("Files:read,write", "Files:write", True),
        ("Files:read:/data/a", "Files:read:/data", False),
        ("Files", "Catalog", False),
    ],
)
def test_which_covers_which(wide: str, narrow: str, covers: bool) -> None:
    assert read_capability(wide).covers(read_capability(narrow)) is covers
