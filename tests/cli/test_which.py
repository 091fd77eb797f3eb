"""Which application a command means, and which plug-in: never another than the one that is meant."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import APPLICATION, write_shop


@pytest.fixture
def folder(home: Path, tmp_path: Path) -> Path:
    return write_shop(tmp_path / "shop")


def test_stop_all_ends_the_application_that_is_named(folder: Path, start: Any, mukernel: Any) -> None:
    app = start(folder)
    refused = mukernel("stop", "--all")
    assert (refused.status, refused.out) == (1, "")
    assert "no application was named; running: shop; say so with --app NAME" in refused.err
    mukernel("stop", "--all", "--app", "shop").good()
    assert app.end(None) == 0


def test_a_name_that_there_is_not_is_answered_with_those_that_there_are_stopped_or_not(
    folder: Path, start: Any, mukernel: Any
) -> None:
    start(folder)
    mukernel("stop", "catalog").good()
    commands = ("stop nope", "restart nope", "describe nope", "caps nope", "memory nope", "stack nope", "swap nope")
    for words in commands:
        ended = mukernel(*words.split())
        known = "greeter, catalog (stopped)"
        assert (ended.status, ended.err) == (1, f"mukernel: no plug-in is named 'nope'; there are: {known}\n")


BROKEN = {
    "[app": "app.toml is not TOML: ",
    "app = 5": "app.toml: app: got 5, wanted a table",
    "[app]\nname = '../shop'": "app.toml: app.name: got '../shop', wanted 1 to 63 letters",
}


def test_commands_never_reach_another_application_than_that_of_the_folder(
    folder: Path, tmp_path: Path, start: Any, mukernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(folder)
    here = write_shop(tmp_path / "one", APPLICATION.replace('"shop"', '"one"'))
    with monkeypatch.context() as patch:
        patch.chdir(here)
        for words in ("ps", "swap greeter", "restart greeter", "stop --all", "call Greeter.greet name=Ada"):
            refused = mukernel(*words.split())
            assert (refused.status, refused.out) == (1, "")
            assert "one, whose app.toml lies here, is not running; running: shop, which --app NAME names" in refused.err
        for text, problem in BROKEN.items():
            (here / "app.toml").write_text(text)
            for words in ("ps", "swap greeter", "stop --all"):
                refused = mukernel(*words.split())
                assert (refused.status, refused.out) == (1, "")
                assert f"which application is meant? {problem}" in refused.err
                assert refused.err.endswith("say which with --app NAME; running: shop\n")
        assert len(json.loads(mukernel("ps", "--app", "shop", "--json").good())) == 2
        patch.chdir(folder)
        assert mukernel("restart", "greeter").err == ""
    assert mukernel("restart", "greeter").err == ""  # no app.toml lies here
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    note = "note: in shop, the only application that is running\n"
    assert [mukernel(*words.split()).err for words in ("restart greeter", "restart greeter --app shop", "ps")] == [
        note, "", "",
    ]  # fmt: skip


def test_an_application_of_the_same_name_that_was_started_from_another_file_is_not_the_one_that_is_meant(
    folder: Path, tmp_path: Path, start: Any, mukernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(folder)
    twin = write_shop(tmp_path / "twin")
    (tmp_path / "link").symlink_to(folder)
    (twin / "app.toml").unlink()
    (twin / "app.toml").symlink_to(folder / "app.toml")
    with monkeypatch.context() as patch:
        patch.chdir(twin)
        for words in ("ps", "call Greeter.where", "swap greeter", "logs", "stop --all"):
            refused = mukernel(*words.split())
            assert (refused.status, refused.out) == (1, "")
            assert (
                f"the shop of {twin}/app.toml is not running: the one that runs was started from {folder}/app.toml"
                in (refused.err)
            )
            assert "--app shop reaches that; give one of them another name" in refused.err
        assert f" of {folder}/app.toml with its state in " in mukernel("run").err
        patch.chdir(tmp_path / "link")
        mukernel("stop", "--all").good()
