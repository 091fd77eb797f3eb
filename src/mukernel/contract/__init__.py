"""Contracts: interfaces, their types, their encoding and their compatibility. Imports nothing else of
mukernel."""

from .binding import Binding
from .blocking import Blocking, unwrap_blocking
from .capability import Capability, Granted, read_capability
from .codec import MethodCodec
from .compatibility import differences
from .contract import Contract
from .declared import Declared, declared_parameters, plain_annotations
from .derived import interface_of
from .description import (
    Description,
    FieldDescription,
    MethodDescription,
    ObjectDescription,
    ParameterDescription,
    TypeDescription,
    digest,
    type_text,
)
from .errors import (
    CODE_OF_ERROR,
    ERROR_CODES,
    ContractError,
    DeadlineExceeded,
    MukernelError,
    NotFound,
    Overloaded,
    PermissionDenied,
    PluginCrashed,
    RemoteError,
    SwapFailed,
    Unavailable,
    error_code,
)
from .faults import as_told, decode_fault, encode_fault
from .hints import type_hints
from .implementation import check_implements
from .interface import Interface, Plugin, interfaces_of, is_plugin
from .large import Buffer, encode_large
from .marks import idempotent, oneway, raises
from .method import Method, Model, Parameter

__all__ = [
    "CODE_OF_ERROR",
    "ERROR_CODES",
    "Binding",
    "Blocking",
    "Buffer",
    "Capability",
    "Contract",
    "ContractError",
    "DeadlineExceeded",
    "Declared",
    "Description",
    "FieldDescription",
    "Granted",
    "Interface",
    "Method",
    "MethodCodec",
    "MethodDescription",
    "Model",
    "MukernelError",
    "NotFound",
    "ObjectDescription",
    "Overloaded",
    "Parameter",
    "ParameterDescription",
    "PermissionDenied",
    "Plugin",
    "PluginCrashed",
    "RemoteError",
    "SwapFailed",
    "TypeDescription",
    "Unavailable",
    "as_told",
    "check_implements",
    "declared_parameters",
    "decode_fault",
    "differences",
    "digest",
    "encode_fault",
    "encode_large",
    "error_code",
    "idempotent",
    "interface_of",
    "interfaces_of",
    "is_plugin",
    "oneway",
    "plain_annotations",
    "raises",
    "read_capability",
    "type_hints",
    "type_text",
    "unwrap_blocking",
]
