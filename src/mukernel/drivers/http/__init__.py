"""Http: the web behind an interface, for plug-ins that have no network."""

from .driver import HttpDriver
from .interface import Http, HttpError, HttpPart, HttpResponse, HttpTimeout, OriginRefused, OriginUnreachable, TooLarge
from .streaming import HttpStream, opened

__all__ = [
    "Http", "HttpDriver", "HttpError", "HttpPart", "HttpResponse", "HttpStream", "HttpTimeout", "OriginRefused",
    "OriginUnreachable", "TooLarge", "opened",
]  # fmt: skip
