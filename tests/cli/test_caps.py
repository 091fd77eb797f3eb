"""Grants in an app.toml, and `mukernel caps`, `grant` and `revoke` against an application that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .conftest import APPLICATION, write_shop


def with_grants(grants: str) -> str:
    return APPLICATION.replace('memory = "512M"', f'memory = "512M"\ngrants = {grants}')


def test_what_is_granted_is_listed_taken_and_given_back(home: Path, tmp_path: Path, start: Any, mukernel: Any) -> None:
    start(write_shop(tmp_path / "granted", with_grants('["Greeter"]').replace('"shop"', '"granted"')))
    options = ("--app", "granted")
    assert mukernel("call", "Catalog.welcome", "name=Ada", *options).good() == "Hello Ada!"
    held = {each["plugin"]: each for each in json.loads(mukernel("caps", "--json", *options).good())}
    assert held["catalog"]["grants"] == ["Greeter"] and held["catalog"]["stated"] is True
    assert held["catalog"]["enforced"] == "process"
    assert {(each["interface"], each["plugin"]) for each in held["catalog"]["channels"]} == {("Greeter", "greeter")}
    assert held["greeter"]["grants"] == [] and held["greeter"]["stated"] is False
    lines = mukernel("caps", "catalog", *options).good().splitlines()
    assert lines[1].split(maxsplit=4) == ["catalog", "process", "process", "Greeter", "Greeter of greeter"]

    revoked = json.loads(mukernel("revoke", "catalog", "Greeter", "--json", *options).good())
    assert revoked == {"plugin": "catalog", "revoked": "Greeter", "channels_closed": 1}
    refused = mukernel("call", "Catalog.welcome", "name=Ada", *options)
    assert refused.status == 1
    assert "Greeter was not granted to 'catalog': add 'Greeter' to its `grants`" in refused.err
    assert "none" in mukernel("caps", "catalog", *options).good()
    assert mukernel("revoke", "catalog", "Greeter", *options).err.startswith(
        "mukernel: plug-in 'catalog' was not granted Greeter; it holds: nothing"
    )

    assert mukernel("grant", "catalog", "Greeter", *options).good() == "catalog may call Greeter"
    assert mukernel("call", "Catalog.welcome", "name=Ada", *options).good() == "Hello Ada!"
    assert "did you mean 'Greeter'?" in mukernel("grant", "catalog", "Greter", *options).err
    assert "wanted" in mukernel("grant", "catalog", "Greeter:", *options).err
    assert "no plug-in is named 'nobody'" in mukernel("caps", "nobody", *options).err

    mukernel("revoke", "catalog", "Greeter", *options).good()
    mukernel("stop", "catalog", *options).good()
    assert json.loads(mukernel("caps", "catalog", "--json", *options).good())[0]["enforced"] == "stopped"
    assert "which it was not granted" in mukernel("start", "catalog", *options).err


def problems(mukernel: Any, folder: Path) -> list[str]:
    checked = json.loads(mukernel("check", str(folder / "app.toml"), "--json").out)
    assert checked["ok"] is not bool(checked["problems"])
    return list(checked["problems"])


def test_grants_are_checked_before_anything_starts(home: Path, tmp_path: Path, mukernel: Any) -> None:
    expected = {
        '["Greeter"]': [],
        "[]": [
            "app.toml: plugins.catalog.grants: catalog needs Greeter (parameter 'greeter'), which is not granted; "
            'add "Greeter"'
        ],
        '["Greeter", "Greter"]': [
            "app.toml: plugins.catalog.grants: 'Greter': no plug-in serves or asks for Greter; did you mean 'Greeter'?"
        ],
        '["Greeter:read"]': [
            "app.toml: plugins.catalog.grants: grant 'Greeter:read': 'greeter', which serves Greeter, tells no rights "
            "or scopes apart (it declares no `grant_rights`), so nothing would hold it to that; grant 'Greeter', or "
            "nothing"
        ],
        '"Greeter"': [
            "app.toml: plugins.catalog.grants: got 'Greeter', wanted a list, such as ['Catalog', 'Files:read:/data']"
        ],
    }
    for number, (grants, wanted) in enumerate(expected.items()):
        assert problems(mukernel, write_shop(tmp_path / f"shop{number}", with_grants(grants))) == wanted
    folder = write_shop(tmp_path / "wrong", with_grants('["Greeter", "Files:read:/a/../b"]'))
    (problem,) = problems(mukernel, folder)
    assert "grants[1]: got 'Files:read:/a/../b', whose scope leads upwards" in problem
