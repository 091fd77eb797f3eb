"""A process that answers the kernel with something else than was asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mukernel import ContractError
from mukernel.core import messages
from mukernel.core.messages import Blueprint, Source
from mukernel.core.place import RemotePlace


class Liar:
    """The kernel's end of a link to a process that answers every question alike."""

    closed = False
    link = SimpleNamespace(largest=0)

    async def ask(self, message: Any) -> tuple[Any, list[int]]:
        return messages.Step("shop#0.1", "x" * 1000), []

    def tell(self, message: Any) -> None:
        assert isinstance(message, messages.Stop), "what it did not build as asked is not wanted"


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        (lambda place: place.build(Blueprint("shop#0.1", "shop", Source("shop", "Shop"))), "Built"),
        (lambda place: place.quiesce("shop#0.1", 1.0, True), "Quiesced"),
        (lambda place: place.activate("shop#0.1", None, 1, False), "Activated"),
        (lambda place: place.count("shop#0.1"), "Counts"),
    ],
)
async def test_a_wrong_answer_is_an_error_that_names_the_process(question: Any, wanted: str) -> None:
    place = RemotePlace("shop-1", SimpleNamespace(pid=4242), Liar())  # type: ignore[arg-type]
    with pytest.raises(ContractError) as caught:
        await question(place)
    text = str(caught.value)
    assert text.startswith(f"the process of 'shop-1' (pid 4242) answered Step, wanted {wanted}: ")
    assert len(text) < 500
