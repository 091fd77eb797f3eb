"""The documentation says what is so: its programs print what it shows, its links lead somewhere, its commands exist."""

from __future__ import annotations

import argparse
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import pytest

import mukernel
from mukernel import Kernel
from mukernel.cli.main import COMMANDS
from mukernel.contract.errors import ERROR_CODES
from mukernel.core.application_file import PLUGIN_KEYS, RESTART_KEYS, sandbox_keys
from mukernel.transports.kind import Kind

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"])
EXAMPLES = "examples/"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"# (\S+\.(?:py|toml))\n")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass
class Page:
    """The blocks of one page: `files` by name, and what each program is said to print."""

    path: Path
    files: dict[str, str] = field(default_factory=dict)
    printed: dict[str, str] = field(default_factory=dict)
    quoted: list[tuple[str, str]] = field(default_factory=list)
    unmarked: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)


def read(path: Path) -> Page:
    page, text, last = Page(path), path.read_text(), ""
    for found in BLOCK.finditer(text):
        kind, content = found[1], found[2]
        mark = MARK.match(content)
        if kind in ("python", "toml") and mark and mark[1].startswith(EXAMPLES):
            page.quoted.append((mark[1], content[mark.end() :]))
        elif kind in ("python", "toml") and mark:
            last = mark[1]
            page.files[last] = content[mark.end() :]
        elif kind == "python":
            page.unmarked.append(content)
        elif kind == "console":
            page.console += [line[2:] for line in content.splitlines() if line.startswith("$ ")]
        elif kind == "text" and text[: found.start()].rstrip().endswith("prints:"):
            page.printed[last] = content
    return page


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(params=PAGES, ids=name_of)
def page(request: pytest.FixtureRequest) -> Page:
    return read(request.param)


WITH_PROGRAMS = [each for each in PAGES if read(each).files]


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


# -- programs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WITH_PROGRAMS, ids=name_of)
def test_programs_print_what_the_page_shows(path: Path, tmp_path: Path) -> None:
    page = read(path)
    for name, content in page.files.items():
        (tmp_path / name).write_text(content)
    for name, printed in page.printed.items():
        done = run([name], tmp_path)
        assert (done.returncode, done.stdout) == (0, printed), f"{name}: {done.stderr}"


@pytest.mark.parametrize("path", WITH_PROGRAMS, ids=name_of)
def test_every_program_is_run_or_used(path: Path, tmp_path: Path) -> None:
    """One that prints nothing is a module that another uses, a test for pytest, or an application to be checked."""
    page = read(path)
    for name, content in page.files.items():
        (tmp_path / name).write_text(content)
    for name in page.files.keys() - page.printed.keys():
        if name.startswith("test_"):
            done = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", name], tmp_path)
        elif name.endswith(".toml"):
            done = run(["-m", "mukernel.cli", "check", name], tmp_path)
        else:
            module = name.removesuffix(".py")
            others = [content for other, content in page.files.items() if other != name]
            assert any(re.search(rf"\b{module}\b", each) for each in others), f"nothing runs {name} or uses it"
            done = run(["-c", f"import {module}"], tmp_path)
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"


def test_quoted_examples_are_as_they_are(page: Page) -> None:
    for name, content in page.quoted:
        assert content in (ROOT / name).read_text(), f"{name} no longer holds what the page quotes"


def test_no_python_is_untested(page: Page) -> None:
    assert page.unmarked == [], "begin a block of Python with `# FILE.py`, or `# examples/FILE.py` where it quotes one"


# -- links ------------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_links_lead_somewhere(page: Page) -> None:
    for link in LINK.findall(BLOCK.sub("", page.path.read_text())):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.path.parent / file).resolve() if file else page.path
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


def test_every_page_is_reached_from_the_index() -> None:
    seen, left = set(), [DOCS / "README.md"]
    while left:
        path = left.pop()
        if path not in seen:
            seen.add(path)
            targets = [link.partition("#")[0] for link in LINK.findall(path.read_text()) if "://" not in link]
            left += [found for each in targets if (found := (path.parent / each).resolve()).suffix == ".md"]
    assert set(DOCS.rglob("*.md")) <= seen


# -- commands ---------------------------------------------------------------------------------------------------


def commands_in(page: Page) -> Iterator[str]:
    """What stands in a console block, or in a span of code, and begins with `mukernel`."""
    yield from page.console
    text = BLOCK.sub("", page.path.read_text())
    yield from re.findall(r"`(mukernel [^`]+)`", text)


def test_commands_exist(page: Page) -> None:
    for line in commands_in(page):
        words = line.split()
        if words[0] != "mukernel":
            continue
        assert words[1] in COMMANDS, f"`{line}`: there is no such command"
        parser = argparse.ArgumentParser()
        import_module(f"mukernel.cli.{COMMANDS[words[1]][0]}").configure(parser, words[1])
        for option in [word for word in words[2:] if word.startswith("-")]:
            assert option in parser._option_string_actions, f"`{line}`: there is no such option"


def test_the_reference_has_every_command_and_option() -> None:
    text = (DOCS / "reference" / "command-line.md").read_text()
    for name, (module, _) in COMMANDS.items():
        section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert section, f"`{name}` has no section"
        parser = argparse.ArgumentParser()
        import_module(f"mukernel.cli.{module}").configure(parser, name)
        for option in parser._option_string_actions:
            common = option in ("-h", "--help", "--app", "--state", "--verbose", "--json", "--timeout")
            assert (common and (name, option) != ("call", "--timeout")) or f"`{option}" in section, (
                f"{name}: {option} is not described"
            )


# -- reference --------------------------------------------------------------------------------------------------


def bare(signature: str) -> str:
    return re.sub(r"[\s'\"]", "", signature)


@pytest.mark.parametrize(
    "name", ["load", "get", "swap", "move", "scale", "restart", "unload", "grant", "revoke", "route", "ledger", "stack"]
)
def test_signatures_of_the_kernel_are_exact(name: str) -> None:
    text = (DOCS / "reference" / "api.md").read_text()
    shown = re.search(rf"^kernel\.{name}(\(.*?\) -> .*?)\n(?:\n|```)", text, re.MULTILINE | re.DOTALL)
    assert shown, f"kernel.{name} is not described"
    signature = str(inspect.signature(getattr(Kernel, name))).replace("(self, ", "(")
    assert bare(shown[1]) == bare(signature)


@pytest.mark.parametrize("name", mukernel.__all__)
def test_every_public_name_is_described(name: str) -> None:
    pages = [DOCS / "reference" / "api.md", DOCS / "reference" / "errors.md"]
    assert any(f"`{name}" in each.read_text() or f"### {name}" in each.read_text() for each in pages)


def test_errors_have_their_codes() -> None:
    text = (DOCS / "reference" / "errors.md").read_text()
    for code, error in ERROR_CODES.items():
        assert f"| `{error.__name__}` | {code} |" in text


def test_keys_of_the_application_file_are_described() -> None:
    text = (DOCS / "reference" / "application-file.md").read_text()
    for key in [*PLUGIN_KEYS, *RESTART_KEYS, *sandbox_keys("/")]:
        assert f"| `{key}` |" in text


def test_kinds_of_messages_are_described() -> None:
    text = (DOCS / "reference" / "wires.md").read_text()
    for kind in Kind:
        assert f"| {kind.value} | `{kind.name}` |" in text


def test_the_lifecycle_is_the_table() -> None:
    from mukernel.core.lifecycle import diagram

    assert f"```mermaid\n{diagram()}```\n" in (DOCS / "reference" / "lifecycle.md").read_text()
