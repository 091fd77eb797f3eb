"""The diagram in the documentation is the table of the code."""

import re

from source_tree import ROOT

from mukernel.core.lifecycle import diagram

PAGE = ROOT / "docs" / "reference" / "lifecycle.md"


def test_the_documented_diagram_is_the_table() -> None:
    found = re.search(r"```mermaid\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None, f"{PAGE.relative_to(ROOT)} has no Mermaid diagram"
    assert found[1] == diagram(), (
        f"the table has changed: put what mukernel.core.lifecycle.diagram() returns into {PAGE.relative_to(ROOT)}"
    )
