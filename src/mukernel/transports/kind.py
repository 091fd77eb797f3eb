"""Kind: what a message is, on every transport."""

from enum import IntEnum


class Kind(IntEnum):
    """What a message is. Below `ITEM` are calls: counted, bounded by the mailbox, kept in the in-flight table."""

    CALL = 0
    ONEWAY = 1
    STREAM = 2
    CHANNEL = 3
    ITEM = 4  # one value of a stream, either way
    END = 5  # a stream has come to its end, either way
    CREDIT = 6  # `credit` more items are welcome
    CANCEL = 7  # the caller has lost interest
    REPLY = 8
    ERROR = 9
    INTERRUPTED = 10  # the callee died while it ran this call
    NOT_STARTED = 11  # the callee is gone and had not begun: send it again
    GONE = 12  # nobody will serve this call: the body says why
    LENT = 13  # a reply that lends shared memory, which came beside it
