"""What the kernel and its processes say to each other over a link. msgpack; file descriptors travel beside it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ..contract import Description, Granted

MOST_COUNTED = 1 << 53  # of anything: what is summed up is a number of 64 bits still, whatever a process says
Counted = Annotated[int, Meta(ge=0, le=MOST_COUNTED)]
Size = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]  # bytes


class Blueprint(msgspec.Struct, frozen=True):
    """All that is needed to build an instance, in any process.

    `key`: names this instance among all, such as "greeter#0.3" (replica 0, third build). `use`: what to load. `config`:
    for the constructor. `bindings`: which plug-in is meant for an interface that it asks for. `granted`: the interfaces
    that it may ask for, None: all; the kernel keeps it to that, and this says so early, inline too. Times in seconds.
    """

    key: str
    name: str
    use: Source
    config: dict[str, Any] = {}
    concurrency: int | None = None
    threads: int = 0
    checkpoint: float | None = None
    strict: bool = False
    bindings: dict[str, str] = {}
    granted: list[str] | None = None
    shared_memory: int | None = None  # bytes that the process may hold
    largest_state: int | None = None  # bytes that it may save; None: any number


class Source(msgspec.Struct, frozen=True):
    """Where a plug-in class comes from: `module` and `name` in it; `file` where the module isn't importable by name.

    `path`: folders to import from first. `fresh`: import the module anew, into a namespace of its own. `given`: the
    name of the class object itself in the process that was given it; in any other it means nothing. `only`: of a plain
    class, the methods that are served. `stands_in`: of a broker, the interface that it serves in another's stead.
    `environment`: the folder of the environment that it is installed in, whose Python its process runs; "": the
    kernel's own. `use`, `python`: what was asked for there, relative to `folder`; `commit`: of a repository, the one
    that it is. `main`: the name by which the script was run, where that was `python -m NAME`.
    """

    module: str
    name: str
    file: str = ""
    path: tuple[str, ...] = ()
    fresh: bool = False
    given: str = ""
    only: tuple[str, ...] = ()
    stands_in: Description | None = None
    environment: str = ""
    use: str = ""
    python: str = ""
    folder: str = ""
    commit: str = ""
    main: str = ""

    @property
    def title(self) -> str:
        """For people: the class, and what it was installed from."""
        commit = f" (commit {self.commit[:12]})" if self.commit else ""
        return f"{self.name} of {self.use}{commit}" if self.use else self.name


class Build(msgspec.Struct, tag=True):
    blueprint: Blueprint


class Step(msgspec.Struct, tag=True):
    """How far the building of an instance is: it is "being imported", for one."""

    key: str
    doing: str


class Asks(msgspec.Struct, tag=True):
    """The interfaces that the constructor of an instance asks for; said before it connects to any."""

    key: str
    interfaces: list[str]


class Built(msgspec.Struct, tag=True):
    interfaces: list[Description]
    stateful: bool
    state_version: int = 1
    documentation: str = ""
    bindings: dict[str, str] = {}  # the plug-in that was injected for each interface
    needs: list[str] = []  # the interfaces that its constructor asks for
    rights: list[str] = []  # those in grants that it tells apart
    scopes: str = ""  # what scopes there are: see `grant_scopes` of Plugin
    one_replica: bool = False  # it can't have several


class Attach(msgspec.Struct, tag=True):
    """Serve a channel. Rights: its memory, its caller's bell, the port's bell. `granted`: what its caller may do
    there; None: everything. `sandbox`: which one that is, if it is one."""

    key: str
    channel: int
    caller: Description
    transport: str = "ring"
    granted: Granted | None = None
    sandbox: str = ""


class Detach(msgspec.Struct, tag=True):
    """Serve a channel no more. `revoked`: not what it has brought already, either."""

    channel: int
    revoked: bool = False


class Quiesce(msgspec.Struct, tag=True):
    """Start nothing more; when all that runs has ended, save the state."""

    key: str
    drain: float
    save: bool


class Quiesced(msgspec.Struct, tag=True):
    """`drained`: calls that were finished meanwhile, `inline` of them by no channel. `since`: when it began to start
    none, in ns of the clock."""

    state: bytes | None
    state_version: int
    drained: Counted
    since: int
    inline: Counted = 0


class Activate(msgspec.Struct, tag=True):
    """Take the state and begin to receive. `recover`: a predecessor died; answer what it was running. `ended`: how it
    did, as in "it ..."; for the callers."""

    key: str
    state: bytes | None = None
    state_version: int = 1
    recover: bool = False
    ended: str = ""


class Activated(msgspec.Struct, tag=True):
    """`since`: when it began to receive, in ns of the clock."""

    since: int


class Resume(msgspec.Struct, tag=True):
    key: str


class Release(msgspec.Struct, tag=True):
    """Let go of every channel of an instance, which is quiet. `rejected`: its version was rolled back."""

    key: str
    rejected: bool = False


class Stop(msgspec.Struct, tag=True):
    """End an instance. What still runs after `drain` seconds is cut off; `reason` is for its callers."""

    key: str
    drain: float
    reason: str


class Ping(msgspec.Struct, tag=True):
    pass


class Counts(msgspec.Struct, tag=True):
    """How busy an instance is: calls started, running, waiting.

    Of them by channels, all counted at one moment: `serving` now; `taken`, `answered`, `refused` since those were made.
    Of the process: bytes and number of the `segments` that it holds, and bytes `lent` that nobody has received yet.
    """

    calls: Counted = 0
    running: Counted = 0
    waiting: Counted = 0
    serving: Counted = 0
    taken: Counted = 0
    answered: Counted = 0
    refused: Counted = 0
    shared_memory: Counted = 0
    segments: Counted = 0
    lent: Counted = 0


class Count(msgspec.Struct, tag=True):
    key: str


class HeldSegment(msgspec.Struct):
    """A piece of shared memory that a process holds. `memory`: the same number in every process that holds the same;
    `made`: by this process, else received; `state`: "written" while its maker still fills it, "sent" where nobody but
    its maker can have a way to write it, "final" where nobody has; `content`: "arrow", or "" for an array or Buffer."""

    memory: int
    size: Size
    made: bool
    state: Literal["written", "sent", "final"]
    content: Literal["", "arrow"] = ""


class Inventory(msgspec.Struct, tag=True):
    """What a process holds of shared memory, in bytes, and its `quota`; `lent`: what it has sent and nobody has
    received yet; `count`: of its segments, of which the largest are listed."""

    quota: Size
    held: Size
    lent: Size
    count: Counted
    segments: list[HeldSegment]


class TakeInventory(msgspec.Struct, tag=True):
    pass


class Connect(msgspec.Struct, tag=True):
    """A process asks for channels to the plug-in that serves an interface. Right: the bell to ring for replies.

    `turn`: -1 for one channel to every replica, else the number of the replica that is wanted (modulo how many there
    are). `token`: what was passed on, and is redeemed.
    """

    interface: Description
    plugin: str | None
    caller: str
    turn: int = -1
    token: str = ""


class Connected(msgspec.Struct, tag=True):
    """`local`: it runs in the very process that asks. `channels`: rights come in this order, memory and bell for
    each. `broker`: the plug-in that takes its calls in its stead; their receipt is acknowledged."""

    plugin: str
    channels: list[int]
    local: str | None = None
    transport: str = "ring"
    broker: str = ""


class Narrow(msgspec.Struct, tag=True):
    """An instance wants to pass on a part of what it, or `token`, holds in an interface of a plug-in."""

    key: str
    interface: str
    plugin: str
    part: str
    token: str = ""


class Token(msgspec.Struct, tag=True):
    """What it is to send, so that it can be redeemed."""

    token: str


class Disconnect(msgspec.Struct, tag=True):
    """The caller's end of a channel is closed."""

    channel: int


class Rerouted(msgspec.Struct, tag=True):
    """A plug-in moved: where its routes in this process lead now. `gate`: they wait; `closed`: they fail, and why."""

    plugin: str
    gate: bool = False
    closed: str | None = None
    local: str | None = None


class Checkpoint(msgspec.Struct, tag=True):
    key: str
    state: bytes
    state_version: int


class Done(msgspec.Struct, tag=True):
    """`held`: calls that had waited at the gates which this opened."""

    held: Counted = 0


class Failed(msgspec.Struct, tag=True):
    """What was asked could not be done; `fault` as an error travels."""

    fault: bytes


class Unattached(msgspec.Struct, tag=True):
    """An instance can't serve a channel: its process may open no more files."""

    key: str
    channel: int


class Emptied(msgspec.Struct, tag=True):
    """All is run that came by a channel whose caller is gone."""

    channel: int


Message = (
    Build | Step | Asks | Built | Attach | Detach | Quiesce | Quiesced | Activate | Activated | Resume | Release | Stop
    | Ping | Counts | Count | Inventory | TakeInventory | Connect | Disconnect | Connected | Rerouted | Checkpoint
    | Narrow | Token | Emptied | Unattached | Done | Failed
)  # fmt: skip

ASKS_WITH_RIGHTS = (Connect, Attach)
ANSWERS_WITH_RIGHTS = (Connected,)
OfProcess = (
    Step | Asks | Built | Quiesced | Activated | Counts | Inventory | Connect | Disconnect | Narrow | Checkpoint
    | Emptied | Unattached | Done | Failed
)  # fmt: skip
OfState = Checkpoint | Quiesced


class Envelope(msgspec.Struct, array_like=True):
    """`number`: of the question, 0 where no answer is wanted; `answer`: this is the answer to question `number`."""

    number: int
    answer: bool
    content: Message


class EnvelopeOfProcess(Envelope, array_like=True):
    """What the process of a plug-in may say: nothing in it is of a form that is its own."""

    content: OfProcess


class EnvelopeAtLength(Envelope, array_like=True):
    """What it may say in more bytes than most."""

    content: OfState | Built


class EnvelopeOfState(Envelope, array_like=True):
    """What it may say in as many as its `memory` lets it."""

    content: OfState


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Envelope).decode
decode_of_process = msgspec.msgpack.Decoder(EnvelopeOfProcess).decode
decode_at_length = msgspec.msgpack.Decoder(EnvelopeAtLength).decode
decode_of_state = msgspec.msgpack.Decoder(EnvelopeOfState).decode
