"""A plug-in that does not keep to the host's specification."""

from typing import Any

from hook_samples import hookimpl


@hookimpl
def names(nonsense: Any) -> Any:
    return nonsense
