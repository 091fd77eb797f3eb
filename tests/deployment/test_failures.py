"""What is remembered of an installation that failed: of what was asked for, and of nothing else."""

import pytest
from deployment_wheels import request

from mukernel import ContractError, NotFound
from mukernel.deployment import Installer


def test_a_failure_is_of_the_entry_that_was_asked_for(installer: Installer) -> None:
    """Else what names another, as the failure said, would be refused with it."""
    wheel = "./missing-1.0-py3-none-any.whl"
    with pytest.raises(NotFound) as raised:
        installer.install(request(wheel))
    assert installer.failure(request(wheel)) == str(raised.value)
    assert installer.failure(request(f"{wheel}:one")) is None


def test_an_installer_that_is_not_there_is_no_failure_of_the_package(
    installer: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request("shop-catalog==1.0")
    monkeypatch.setenv("MUKERNEL_INSTALLER", "uvv")
    with pytest.raises(ContractError, match="MUKERNEL_INSTALLER: got 'uvv'"):
        installer.install(asked)
    assert installer.failure(asked) is None


def test_the_environment_is_that_of_every_entry(installer: Installer) -> None:
    installer.install(request("shop-catalog==3.0:catalog"))[1].close()
    assert installer.present(request("shop-catalog==3.0:broken")).attribute == "Broken"
    with pytest.raises(ContractError, match="say which is meant"):
        installer.install(request("shop-catalog==3.0"))
    assert installer.present(request("shop-catalog==3.0:catalog")).attribute == "Shelf"
