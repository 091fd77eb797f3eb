"""Arguments that can't be what the method wants: the error says what is meant."""

from __future__ import annotations

import datetime
import decimal
import uuid

import pytest

from mukernel import Interface
from mukernel.cli.arguments import read_arguments
from mukernel.cli.terminal import UsageError
from mukernel.contract import Description, MethodDescription


class Diary(Interface):
    async def note(self, text: str, *, loud: bool = False, times: int = 1) -> None: ...
    async def at(self, when: datetime.datetime | None) -> None: ...
    async def when(self, value: datetime.datetime) -> None: ...
    async def day(self, value: datetime.date) -> None: ...
    async def hour(self, value: datetime.time) -> None: ...
    async def within(self, value: datetime.timedelta) -> None: ...
    async def page(self, value: uuid.UUID) -> None: ...
    async def price(self, value: decimal.Decimal) -> None: ...


def method(name: str) -> tuple[Description, MethodDescription]:
    description = Diary.__contract__.describe()
    return description, next(each for each in description.methods if each.name == name)


def test_what_goes_by_name_only_is_named() -> None:
    wanted = "'yes' is one argument too many; wanted text, loud, times; by name only: loud=VALUE, times=VALUE"
    with pytest.raises(UsageError, match=wanted):
        read_arguments(["Hello", "yes"], *method("note"))


@pytest.mark.parametrize(
    ("name", "right", "kind"),
    [
        ("when", "2026-01-31T12:30:00Z", "datetime"),
        ("day", "2026-01-31", "date"),
        ("hour", "12:30:00", "time"),
        ("within", "PT90S", "timedelta"),
        ("page", "4e6f2c9a-0b1d-4c3e-8f5a-6b7c8d9e0f1a", "UUID"),
        ("price", "9.99", "Decimal"),
    ],
)
def test_what_travels_as_text_is_checked_where_it_is_typed(name: str, right: str, kind: str) -> None:
    assert read_arguments([right], *method(name)) == {"value": right}
    with pytest.raises(UsageError, match=f"parameter 'value': got 'soon', wanted {kind}, such as {right}$"):
        read_arguments(["soon"], *method(name))


def test_what_may_be_missing_is_checked_too() -> None:
    assert read_arguments(["2026-01-31T12:30:00Z"], *method("at")) == {"when": "2026-01-31T12:30:00Z"}
    assert read_arguments(["null"], *method("at")) == {"when": None}
    with pytest.raises(UsageError, match=r"got 'soon', wanted None \| datetime$"):
        read_arguments(["soon"], *method("at"))
