"""Directories and repositories: what is taken of them, and that it is what was meant."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from deployment_wheels import names, request, write_project

from mukernel import ContractError, NotFound, Unavailable
from mukernel.deployment import Installer
from mukernel.deployment.lock_file import LockFile
from mukernel.deployment.source_tree import SourceTree
from mukernel.deployment.sources import check_out, source_of
from mukernel.deployment.work import LEFT_OUT, Work

IDENTITY = ["-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]


def git(repository: Path, *words: str) -> str:
    command = ["git", "-C", str(repository), *IDENTITY, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write_commit(folder: Path, version: str) -> str:
    """A commit with a project of that version; returns its name."""
    write_project(folder, version)
    git(folder, "add", "-A")
    git(folder, "commit", "-m", version)
    return git(folder, "rev-parse", "HEAD")


def write_repository(folder: Path, version: str) -> str:
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    return write_commit(folder, version)


def test_a_git_checkout_stays_at_its_commit(own_installer: Installer, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    write_project(repository / "plugin", "1.1")
    git(repository, "init", "--quiet")
    git(repository, "add", "-A")
    git(repository, "commit", "-m", "one")
    git(repository, "tag", "-a", "first", "-m", "first")
    use = f"git+file://{repository}#subdirectory=plugin"
    assert own_installer.install(request(use))[0].version == "1.1"
    write_project(repository / "plugin", "1.2")
    git(repository, "commit", "-am", "two")
    assert own_installer.install(request(use))[0].version == "1.1"  # it is locked
    assert own_installer.install(request(use), upgrade=True)[0].version == "1.2"
    tagged = f"git+file://{repository}@first#subdirectory=plugin"
    assert own_installer.install(request(tagged))[0].version == "1.1"
    with pytest.raises(NotFound, match="no branch, tag or commit 'second'"):
        own_installer.install(request(f"git+file://{repository}@second"))
    with pytest.raises(ContractError, match=r"is no project: wanted a pyproject\.toml"):
        own_installer.install(request(f"git+file://{repository}@first"))


def test_a_copy_of_a_submodule_has_its_history(tmp_path: Path) -> None:
    """Which a build may ask for the version, by whichever path leads to it."""
    write_repository(tmp_path / "shop", "1.1")
    git(tmp_path / "shop", "tag", "v1.1")
    write_repository(tmp_path / "whole", "0")
    added = ["submodule", "--quiet", "add", str(tmp_path / "shop"), "shop"]
    git(tmp_path / "whole", "-c", "protocol.file.allow=always", *added)
    SourceTree(str(tmp_path / "whole" / "shop"), "", []).copy(str(tmp_path / "copy"))
    assert git(tmp_path / "copy", "describe", "--tags") == "v1.1"
    SourceTree(str(tmp_path / "whole"), "", []).copy(str(tmp_path / "both"))
    shutil.rmtree(tmp_path / "whole")  # of which a copy of all is no part
    assert git(tmp_path / "both" / "shop", "describe", "--tags") == "v1.1"


def commit_of(use: str) -> str:
    return source_of(request(f"git+file://{use}"), "", [], Work()).removeprefix("commit:")


def test_a_branch_or_a_tag_is_the_one_of_that_very_name(tmp_path: Path) -> None:
    repository, clone = tmp_path / "repository", tmp_path / "clone"
    first = write_repository(repository, "1.1")
    git(repository, "checkout", "--quiet", "-b", "x/main")
    second = write_commit(repository, "1.2")
    git(repository, "tag", "-a", "y/x/main", "-m", "y")
    git(repository, "checkout", "--quiet", "main")
    subprocess.run(["git", "clone", "--quiet", str(repository), str(clone)], check=True)
    third = write_commit(clone, "1.3")  # its HEAD is ahead of its origin/HEAD
    assert [commit_of(use) for use in (f"{repository}@main", str(clone))] == [first, third]
    for name in ("x/main", "refs/heads/x/main", "y/x/main", "refs/tags/y/x/main"):
        assert commit_of(f"{repository}@{name}") == second
    with pytest.raises(NotFound, match="no branch, tag or commit 'x'"):
        commit_of(f"{repository}@x")


def test_a_reference_that_is_no_branch_and_no_tag(tmp_path: Path) -> None:
    """Such as that of a pull request, which may be pushed anew, so that a commit is gone."""
    repository, copy = tmp_path / "repository", tmp_path / "copy"
    write_repository(repository, "1.1")
    git(repository, "checkout", "--quiet", "-b", "pulled")
    commit = write_commit(repository, "1.2")
    git(repository, "update-ref", "refs/pull/7/head", commit)
    git(repository, "checkout", "--quiet", "main")
    git(repository, "branch", "-D", "pulled")
    asked = request(f"git+file://{repository}@refs/pull/7/head")
    assert source_of(asked, "", [], Work()) == f"commit:{commit}"
    check_out(asked, commit, str(copy), Work())
    assert '"1.2"' in (copy / "pyproject.toml").read_text()
    with pytest.raises(NotFound, match="has the commit 0123456789; wanted another, or, if that is the one in the lock"):
        check_out(asked, "0123456789", str(tmp_path / "another"), Work())


def test_a_repository_is_none_that_git_names_in_a_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a commit of another would be checked out in that, with its files written over."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    write_repository(mine, "1.1")
    commit = write_repository(theirs, "1.2")
    local = git(mine, "rev-parse", "--local-env-vars").split()
    monkeypatch.setenv("GIT_DIR", str(mine / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(mine / ".git" / "index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(mine))
    asked = request(f"git+file://{theirs}")
    assert source_of(asked, "", [], Work()) == f"commit:{commit}"
    check_out(asked, commit, str(tmp_path / "copy"), Work())
    assert '"1.2"' in (tmp_path / "copy" / "pyproject.toml").read_text()
    assert git(mine, "status", "--porcelain") == "" and git(mine, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert {*local} - {*LEFT_OUT} <= {"GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT"}  # settings, such as of addresses


def test_a_repository_comes_with_its_submodules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    write_repository(inner, "1.1")
    write_repository(outer, "1.2")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "part")
    commit = write_commit(outer, "1.3")
    asked = request(f"git+file://{outer}")
    with pytest.raises(Unavailable, match=r"submodule '.*/inner', a path of .* protocol\.file\.allow always"):
        check_out(asked, commit, str(tmp_path / "refused"), Work())
    for name, value in (("COUNT", "1"), ("KEY_0", "protocol.file.allow"), ("VALUE_0", "always")):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    check_out(asked, commit, str(tmp_path / "copy"), Work())
    assert (tmp_path / "copy" / "part" / "pyproject.toml").exists()


def test_a_directory(own_installer: Installer, tmp_path: Path) -> None:
    write_project(tmp_path / "project", "1.1")
    first = own_installer.install(request("./project", folder=str(tmp_path)))[0]
    assert first.version == "1.1"
    assert own_installer.install(request("./project", folder=str(tmp_path)))[0].folder == first.folder
    (tmp_path / "project" / "shop_module.py").write_text("broken = True\n")
    assert own_installer.install(request("./project", folder=str(tmp_path)))[0].folder != first.folder


def test_a_directory_that_is_edited_while_it_is_copied(
    own_installer: Installer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is known by what was built."""
    project, asked = tmp_path / "project", request("./project", folder=str(tmp_path))
    write_project(project, "1.1")
    copy = shutil.copy2

    def edit_and_copy(path: str, target: str) -> None:
        write_project(project, "1.2")
        copy(path, target)

    with monkeypatch.context() as editing:
        editing.setattr(shutil, "copy2", edit_and_copy)
        first = own_installer.install(asked)[0]
    assert first.version == "1.2" and own_installer.install(asked)[0].folder == first.folder
    assert len(first.environment.sources) == 1
    write_project(project, "1.1")
    assert own_installer.install(asked)[0].version == "1.1"


def test_a_directory_that_holds_what_an_installation_changes_is_built_once(wheels: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    write_project(project, "1.1")
    installer = Installer(project / "kept", lock_file=project / "app.lock", wheels=[wheels])
    first = installer.install(request("./", folder=str(project)))[0]
    assert (project / "app.lock").exists()
    assert installer.install(request("./", folder=str(project)))[0].folder == first.folder
    assert len(names(installer)) == 1 and len(first.environment.sources) == 1
    assert len([each for each in os.listdir(installer.store.wheels) if not each.startswith("mukernel")]) == 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A source tree, and what lies beside it."""
    for name in ("project/shop/build", "project/build", "project/shop/__pycache__", "beside/part", "project/.git"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("shop/build/one.py", "build/one.py", "shop/__pycache__/one.pyc", ".git/HEAD", "../beside/part/two.py"):
        (tmp_path / "project" / name).write_text(name)
    (tmp_path / "project" / "run").write_text("run")
    (tmp_path / "project" / "run").chmod(0o755)
    os.mkfifo(tmp_path / "project" / "pipe")
    (tmp_path / "project" / "shop" / "link").symlink_to("../../beside")
    (tmp_path / "project" / "shop" / "inner").symlink_to("build")
    (tmp_path / "project" / "shop" / "nowhere").symlink_to("../none")
    (tmp_path / "project" / "shop" / "built").symlink_to("../build")
    (tmp_path / "project" / "build" / "again").symlink_to("../run")
    LockFile(tmp_path / "project" / "other.lock").write([])
    (tmp_path / "project" / "uv.lock").write_text("version = 1")
    return tmp_path / "project"


def test_a_copy_of_a_source_tree(folder: Path) -> None:
    """It has all that a wheel could be made of, and no more; with the history that a build may ask for."""
    own = folder / "shop" / "app.lock"
    own.write_text("")
    SourceTree(str(folder), "./", [str(own)]).copy(str(folder.parent / "copy"))
    copy = folder.parent / "copy"
    assert sorted(str(each.relative_to(copy)) for each in copy.rglob("*")) == [
        ".git", ".git/HEAD", "run", "shop", "shop/build", "shop/build/one.py", "shop/built", "shop/built/again",
        "shop/built/one.py", "shop/inner", "shop/link", "shop/link/part", "shop/link/part/two.py", "shop/nowhere",
        "uv.lock",
    ]  # fmt: skip
    assert os.access(copy / "run", os.X_OK) and not os.access(copy / "shop" / "build" / "one.py", os.X_OK)
    assert os.readlink(copy / "shop" / "inner") == "build" and not (copy / "shop" / "link").is_symlink()
    assert not (copy / "shop" / "built").is_symlink() and not (copy / "shop" / "built" / "again").is_symlink()


def test_a_source_tree_has_changed(folder: Path) -> None:
    def digest() -> str:
        return SourceTree(str(folder), "./", [str(folder / "app.lock")]).digest()

    first = digest()
    for name in ("app.lock", "dist", "shop/new.pyc", ".git/index"):
        (folder / name).write_text("new")
    LockFile(folder / "another.lock").write([])  # of another application: else each would make the other build anew
    assert digest() == first
    seen = {first}
    changed = ("shop/build/one.py", "shop/new.py", "../beside/part/two.py", "build/two.py", "uv.lock")
    for number, name in enumerate(changed, 2):
        (folder / name).write_text("new")
        seen.add(digest())
        assert len(seen) == number
    (folder / "run").chmod(0o644)
    assert digest() not in seen


def test_a_link_to_where_it_lies_is_refused(folder: Path) -> None:
    for path, target in ((folder / "shop" / "up", "../.."), (folder.parent / "beside" / "loop", ".")):
        path.symlink_to(target)
        with pytest.raises(ContractError, match=r"use = '\./': .* is a link to .*, in which it lies itself; wanted"):
            SourceTree(str(folder), "./", []).digest()
        path.unlink()
