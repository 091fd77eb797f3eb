"""Faults: exceptions on the wire.

Framework errors travel by code; exceptions that the method declares by name, with their arguments and
attributes as plain values; all others become RemoteError. No class is ever looked up by a name that a peer
sent: a declared exception is found among those of the method. What came can make an error odd, but neither keep it
from being raised at its caller nor raise anything else.
"""

from __future__ import annotations

import os
import traceback as tracebacks
from collections.abc import Sequence
from typing import Any

import msgspec

from .contract import plain_name
from .error_texts import LONGEST, beginning_of, end_of, lines_of, sendable, text_of, trace_of
from .errors import ERROR_CODES, ContractError, MukernelError, RemoteError, error_code
from .large import encode_scalar

NOTE = "The other side's traceback:"  # begins the note of an exception that came
OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # the folder of the package
DECLARED = 0  # the code that ERROR_CODES leaves free


class Fault(msgspec.Struct, array_like=True):
    """An exception as data. args and state are a declared exception's, differences a ContractError's."""

    code: int
    type_name: str
    message: str
    traceback: str = ""
    args: list[Any] = []
    state: dict[str, Any] = {}
    differences: list[str] = []


# Buffers and arrays go as their text: an error is no way for large values, and needs no code that reads them.
_encoder = msgspec.msgpack.Encoder(enc_hook=encode_scalar)
_decoder = msgspec.msgpack.Decoder(Fault)


def encode_fault(error: BaseException, declared: Sequence[type[Exception]] = ()) -> bytes:
    """The exception as bytes; `declared` is Method.raises. Never raises: its caller is answered whatever the
    exception is, and however little memory there is. Texts of more than LONGEST characters are cut; what can't be sent
    for want of memory, such as the arguments of a declared one, arrives as RemoteError with its type alone."""
    try:
        return _encoded(_fault(error, declared))
    except KeyboardInterrupt:
        raise
    except BaseException as failure:  # of its class's own code: nothing is awaited, so it is no cancellation of ours
        why = "there is no memory" if isinstance(failure, MemoryError) else type(failure).__name__
    try:
        return _encoded(Fault(error_code(error), type(error).__qualname__, f"<what it says could not be sent: {why}>"))
    except Exception:
        return _NO_MEMORY


def _fault(error: BaseException, declared: Sequence[type[Exception]]) -> Fault:
    if isinstance(error, RemoteError):  # handed on by a plug-in in between: what happened first is what matters
        return Fault(error_code(error), text_of(error.type_name), text_of(error.message), end_of(error.traceback))
    trace = "" if _is_verdict(error) else end_of(trace_of(error))
    for ancestor in type(error).__mro__:
        if ancestor in declared:
            args = [_plain(argument) for argument in error.args]
            state = {name: _plain(value) for name, value in vars(error).items() if _own(name)}
            return Fault(DECLARED, plain_name(ancestor), text_of(error), trace, args, state)
    fault = Fault(error_code(error), type(error).__qualname__, "", trace)
    if isinstance(error, ContractError):
        fault.message = text_of(error.args[0]) if error.args else ""
        fault.differences = lines_of(error.differences)
    else:
        fault.message = text_of(error)
    return fault


def _encoded(fault: Fault) -> bytes:
    return bytes(_packed(fault))


def _packed(value: object) -> bytearray:
    """Raises MemoryError, and what encoding does. Where memory runs out, msgspec's `encode` ends the process by a
    SIGSEGV (0.22), and `encode_into` does not."""
    packed = bytearray()
    _encoder.encode_into(value, packed)
    return packed


def decode_fault(data: bytes | memoryview, declared: Sequence[type[Exception]] = ()) -> Exception:
    """The exception to raise at the caller. The other side's traceback, if it tells more than the sentence, is in
    RemoteError, or else a note.

    Raises ContractError if `data` is malformed, and nothing else.
    """
    try:
        fault = _decoder.decode(bytes(data))
    except Exception as malformed:
        raise ContractError(f"a malformed error arrived: {malformed}") from None
    error = _rebuilt(fault, declared)
    if fault.traceback and not isinstance(error, RemoteError):
        BaseException.add_note(error, f"{NOTE}\n{fault.traceback.rstrip()}")
    return error


def as_told(error: BaseException) -> Exception:
    """What a caller in another process would get: for exceptions that Python doesn't raise where ours is."""
    return decode_fault(encode_fault(error))


def was_answered(error: BaseException) -> bool:
    """Did the other side raise it, and not something on the way there?"""
    notes: Sequence[str] = getattr(error, "__notes__", ())
    return isinstance(error, RemoteError) or any(note.startswith(NOTE) for note in notes)


def _rebuilt(fault: Fault, declared: Sequence[type[Exception]]) -> Exception:
    if fault.code == DECLARED:
        for candidate in declared:
            if plain_name(candidate) == fault.type_name:
                try:
                    # Not through __init__, whose parameters need not be the exception's args.
                    rebuilt = candidate.__new__(candidate, *fault.args)
                    rebuilt.args = tuple(fault.args)
                    vars(rebuilt).update({name: value for name, value in fault.state.items() if _own(name)})
                    return rebuilt
                except Exception:  # the class's own __new__ was given what a peer chose
                    break
    known = ERROR_CODES.get(fault.code, RemoteError)
    if known is ContractError:
        return ContractError(fault.message, fault.differences)
    if known is RemoteError:
        return RemoteError(fault.type_name, fault.message, fault.traceback)
    return known(fault.message)


def _is_verdict(error: BaseException) -> bool:
    """Did mukernel itself refuse something, with no code of a plug-in in between? The sentence says all there is then,
    and where in mukernel it was said helps nobody."""
    if not isinstance(error, MukernelError) or error.__cause__ is not None or hasattr(error, "__notes__"):
        return False
    frames = [frame.f_code.co_filename for frame, _ in tracebacks.walk_tb(error.__traceback__)]
    return bool(frames) and all(file.startswith(OURS) for file in frames)


def _own(name: str) -> bool:
    """Is it an attribute of one exception, and none that every exception has (its notes, add_note)?"""
    return not name.startswith("__") and not hasattr(BaseException, name)


def _plain(value: object) -> object:
    """`value` if it can be sent, its repr otherwise. Raises MemoryError."""
    try:
        _packed(value)
        return value
    except MemoryError:
        raise
    except Exception:
        try:
            return sendable(beginning_of(repr(value), LONGEST))
        except KeyboardInterrupt:
            raise
        except BaseException as failure:
            return f"<repr() of it raised {type(failure).__name__}>"


_NO_MEMORY = _encoded(Fault(error_code(MemoryError()), "MemoryError", "there is no memory to say what was raised"))
