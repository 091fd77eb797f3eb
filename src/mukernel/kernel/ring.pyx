# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The shared-memory ring: what carries a message between two processes.

A channel is one sealed memfd with two rings of 64-byte aligned records, each with ONE producer and ONE consumer. The
structures below say who writes which field; in which order:

- A record is complete before `tail` passes it (release), and is read only after `tail` was seen past it (acquire).
- `header.waiting` belongs to the consumer once published: it becomes 0 when the message is *taken*, that is, when its call
  starts. `head` passes only what was taken, so what a consumer had not started when it died is there for its successor.
- A slot of the in-flight table is filled before a call starts and emptied after its reply is published. What a successor
  finds there was being run.
- `sleeping` is set by the consumer before it sleeps and taken back by whoever rings; set, fence, look again, sleep; publish,
  fence, look at `sleeping`: one of the two always sees the other (Dekker). Who takes over from a dead one rings in its stead.
- A body too large for the ring lies in the sparse part of the memfd; its record says where.
"""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_AS_STRING
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int8_t, uint8_t, uint16_t, uint32_t, uint64_t, int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy
from posix.mman cimport mmap, munmap, MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE
from posix.unistd cimport close           # not `os.close`: the interpreter may be ending, and `os` gone
import fcntl, os

cdef extern from "ring.h":
    ctypedef struct mu_spin:
        int late, policy
    uint64_t mu_load(uint64_t*) nogil
    uint32_t mu_load32 "mu_load"(uint32_t*) nogil
    void mu_store(uint64_t*, uint64_t) nogil
    void mu_store32 "mu_store"(uint32_t*, uint32_t) nogil
    uint32_t mu_exchange(uint32_t*, uint32_t) nogil
    void mu_fence() nogil
    int64_t mu_now() nogil
    void mu_ring(int) nogil
    void mu_hush(int) nogil
    int mu_sleep(int, int64_t) nogil
    int64_t crowd_tell() nogil
    void crowd_hear(int64_t) nogil
    void spin_slept(mu_spin*, int64_t, int64_t, int64_t) nogil
    bint spin_wait(mu_spin*, bint (*)(void*) noexcept nogil, void*, int64_t) nogil
    int fallocate(int, int, int64_t, int64_t) nogil
    int FALLOC_FL_PUNCH_HOLE, FALLOC_FL_KEEP_SIZE

ctypedef struct mu_header:                # one cache line; the binary message header
    uint32_t size                         # bytes of body that follow in the ring
    uint8_t kind, flags
    int8_t priority
    uint8_t waiting                       # 1 until taken; 2: padding up to the end of the ring
    uint16_t interface, method
    uint32_t credit
    uint64_t call, deadline, trace_high, trace_low, span, reserved
ctypedef struct mu_direction:             # the fields of one writer share a line; lines are kept 128 bytes apart
    uint64_t tail, accepted, blob_next, blob_written                           # the producer's
    int64_t crowd, rung
    uint8_t gap0[80]
    uint64_t head, taken, answered, refused, blob_freed                        # the consumer's
    uint8_t gap1[88]
    uint32_t sleeping                                                          # set by the consumer, taken by the producer
    uint8_t gap2[124]
    uint32_t starving                                                          # set by the producer, taken by the consumer
    uint8_t gap3[124]
ctypedef struct mu_slot:                  # of the in-flight table
    uint64_t call
    uint16_t interface, method
    uint32_t offset                       # of its record
ctypedef struct mu_channel:
    uint8_t gap[512]
    mu_direction direction[2]

cdef enum: LINE = 64, PAGE = 4096, LARGEST_BODY = 1 << 30     # bytes
cdef enum: CALLS_BELOW = 4, ONEWAY = 1, ITEM = 4    # kinds: below 4 are calls, counted and kept in the table; 1 has no reply
cdef enum: BLOB_FLAG = 0x80               # in header.flags: the body is {offset, length} of a blob
cdef uint64_t BLOB_REGION = 1 << 38       # bytes of sparse file for each direction
cdef int SLOTS_AT = 40                    # the file's size, which no side can change, tells: slots << 40 | 3 regions | capacity
POLICIES = ("", "sleep", "pause", "yield")  # MUKERNEL_WAITING: all but the first, which adapts, are there to be compared with


class Garbage(ConnectionError):
    """The other side wrote what no sender writes; the channel can't be trusted any more."""


def create_channel(*, uint32_t capacity=1 << 18, uint32_t slots=1024) -> int:
    """Make a channel's memory: a memfd that no side can shrink. `capacity`: bytes of each ring, a power of two, 4096 or more."""
    cdef int fd = os.memfd_create("mukernel-channel", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, <uint64_t>slots << SLOTS_AT | 3 * BLOB_REGION | capacity)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def ledger(int fd) -> tuple:
    """Counts of one channel, each written by the side that does it: (accepted, taken, answered, refused). `fd`: its memfd."""
    cdef bytes memory = os.pread(fd, sizeof(mu_channel), 0)   # not mapped: what a kernel asks of many, and of the dead
    cdef mu_direction* d = &(<mu_channel*><char*>memory).direction[0]
    return d.accepted, d.taken, d.answered, d.refused


def now_ns(): return mu_now()             # of the clock that `time.monotonic_ns` reads, too
def hush(int bell): mu_hush(bell)         # take back what was rung
cdef inline uint64_t padded(uint64_t size) noexcept nogil: return LINE + ((size + LINE - 1) & ~<uint64_t>(LINE - 1))


@cython.final
@cython.freelist(256)
cdef class Message:
    """One message as it was received. `take()` starts it; `body` is None until then."""
    cdef readonly uint64_t call, deadline, trace_high, trace_low, span
    cdef readonly uint32_t credit
    cdef readonly uint16_t interface, method
    cdef readonly uint8_t kind, flags
    cdef readonly int8_t priority
    cdef readonly bytes body
    cdef Receiver receiver
    cdef uint64_t position, lacking     # bytes of a body that there was no memory for
    cdef int slot

    def take(self):
        """Mark the message as started and return its body. Raises Garbage; MemoryError where it does not fit: started it is."""
        if self.body is None and not self.lacking:
            self.receiver.start(self)
        if self.lacking:
            raise MemoryError(f"there is no memory for a body of {self.lacking} bytes")
        return self.body

    def discard(self): self.receiver.start(self, True)     # never to be run: it needs no slot, and of a large body its beginning will do

    @property
    def plain(self):
        """A request/response call without deadline, priority or trace, for which the table has room."""
        return not (self.kind or self.priority or self.deadline or self.trace_high or self.trace_low or self.receiver.full)

    def answer(self, Sender sender, uint8_t kind, body):
        """Count the call as answered, first, and send the reply; False, and nothing done, when there is no room in the ring."""
        self.receiver.shared.answered += 1
        if <uint64_t>len(body) <= sender.capacity // 8 and sender.send(kind, self.call, body):   # what lies outside may find no memory
            self.receiver.clear(self)
            return True
        self.receiver.shared.answered -= 1
        return False

    def finished(self, bint refused=False):
        """The reply is published: the call is in flight no more. Called once, by the server."""
        self.receiver.clear(self)
        if self.kind != ONEWAY:                            # counted when it started
            self.receiver.shared.refused += refused
            self.receiver.shared.answered += not refused


cdef class Mapping:
    """The mapped memory of one channel, shared by the rights that were made from it."""
    cdef mu_channel* channel
    cdef mu_slot* table
    cdef char* data[2]
    cdef uint64_t capacity, length
    cdef int slots
    cdef readonly int fd

    def __init__(self, int fd):
        """`fd`: a channel's memfd; it is owned from here on. Raises Garbage when it's no channel."""
        cdef uint64_t size = os.fstat(fd).st_size, slots = size >> SLOTS_AT, capacity = size & (BLOB_REGION - 1)
        if size >> 38 & 3 != 3 or capacity < PAGE or capacity & (capacity - 1) or capacity > (1 << 30) or not 0 < slots <= (1 << 20):
            raise Garbage(f"this file descriptor of {size} bytes is no channel of mukernel")
        cdef uint64_t table = (slots * sizeof(mu_slot) + PAGE - 1) // PAGE * PAGE
        self.length = PAGE + table + 2 * capacity
        cdef void* base = mmap(NULL, self.length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        if base == MAP_FAILED:
            raise OSError("the memory of a channel could not be mapped")
        self.fd, self.capacity, self.slots, self.channel = fd, capacity, <int>slots, <mu_channel*>base
        self.table = <mu_slot*>(<char*>base + PAGE)
        self.data[0] = <char*>base + PAGE + table
        self.data[1] = self.data[0] + capacity

    def __dealloc__(self):
        if self.channel != NULL:
            munmap(self.channel, self.length)
            close(self.fd)


cdef class Right:
    """What both rights over one direction of a channel hold. `bell`: what rings the other side."""
    cdef Mapping memory
    cdef mu_direction* shared
    cdef char* data
    cdef uint64_t capacity
    cdef int direction
    cdef readonly int bell

    cdef void hold(self, Mapping memory, int direction, int bell):
        self.memory, self.direction, self.bell, self.capacity = memory, direction, bell, memory.capacity
        self.shared, self.data = &memory.channel.direction[direction], memory.data[direction]


@cython.final
cdef class Sender(Right):
    """A send right over one direction of a channel. One at a time may exist for a direction."""
    cdef uint64_t tail, head_seen, taken_seen
    cdef public uint64_t bound          # calls that may wait in the mailbox

    def __init__(self, Mapping memory, int direction, int bell, uint64_t bound=1024):
        self.hold(memory, direction, bell)
        self.bound = bound
        self.adopt()

    def adopt(self):                      # begin where a predecessor left off, at a line whatever the other side wrote there
        self.tail, self.head_seen = mu_load(&self.shared.tail) & ~<uint64_t>(LINE - 1), mu_load(&self.shared.head)
        self.taken_seen = mu_load(&self.shared.taken)

    cpdef bint send(self, uint8_t kind, uint64_t call, body, uint16_t method=0, uint16_t interface=0,
                    int8_t priority=0, uint64_t deadline=0, uint32_t credit=0, uint8_t flags=0, trace=None) except -1:
        """Put one message in; False when there is no room, or as many calls wait as the mailbox may hold. `deadline`: ns of the
        monotonic clock, or 0. `trace`: (high, low, span). `body` is made bytes of when there is room. ValueError: it is above
        LARGEST_BODY, or has not the length that it had."""
        cdef uint64_t size = len(body), offset, rest, end
        cdef uint64_t blob[2]
        cdef bint large = size > self.capacity // 8
        cdef uint64_t need = padded(16 if large else size)
        cdef mu_header* header
        if kind < CALLS_BELOW and self.shared.accepted - self.taken_seen >= self.bound:
            self.taken_seen = mu_load(&self.shared.taken)
            if self.shared.accepted - self.taken_seen >= self.bound:
                return False
        offset = self.tail & (self.capacity - 1)
        rest = self.capacity - offset
        end = self.tail + need + (rest if rest < need else 0) + (self.capacity // 4 if kind == ITEM else 0)  # items leave room for what ends calls
        if end - self.head_seen > self.capacity:
            self.head_seen = mu_load(&self.shared.head)
            if end - self.head_seen > self.capacity:
                return False
        cdef bytes content = body if type(body) is bytes else bytes(body)
        if <uint64_t>len(content) != size: raise ValueError(f"a body of {len(content)} bytes, which had {size}")
        cdef const char* start = PyBytes_AS_STRING(content)
        if large:
            if not self.write_blob(content, blob):
                return False
            flags, start, size = flags | BLOB_FLAG, <char*>blob, sizeof(blob)
        if rest < need:                                    # a record never wraps: pad to the end
            header = <mu_header*>(self.data + offset)
            header.size, header.waiting = <uint32_t>(rest - LINE), 2
            self.tail += rest
            offset = 0
        header = <mu_header*>(self.data + offset)
        header.size, header.kind, header.flags, header.priority = <uint32_t>size, kind, flags, priority
        header.waiting, header.interface, header.method, header.credit = 1, interface, method, credit
        header.call, header.deadline = call, deadline
        if trace is None:
            header.trace_high = header.trace_low = header.span = 0
        else:
            header.trace_high, header.trace_low, header.span = trace
        memcpy(<char*>header + LINE, start, size)
        self.tail += need
        if kind < CALLS_BELOW:
            self.shared.accepted += 1
        self.shared.crowd = crowd_tell()
        mu_store(&self.shared.tail, self.tail)
        mu_fence()
        if mu_load32(&self.shared.sleeping) and mu_exchange(&self.shared.sleeping, 0):
            self.shared.rung = mu_now()
            mu_ring(self.bell)
        return True

    cdef bint write_blob(self, bytes body, uint64_t* blob) except -1:
        cdef uint64_t size = len(body), at = self.shared.blob_next, done = 0
        if size > LARGEST_BODY:
            raise ValueError(f"a body of {size} bytes; at most {LARGEST_BODY} travel in one message")
        if self.shared.blob_written - mu_load(&self.shared.blob_freed) + size > LARGEST_BODY:
            return False
        if at + size > BLOB_REGION:
            at = 0
        view = memoryview(body)
        while done < size:                                 # raises OSError where there is no memory left
            done += os.pwrite(self.memory.fd, view[done:], BLOB_REGION * <uint64_t>(self.direction + 1) + at + done)
        blob[0], blob[1] = at, size
        self.shared.blob_next = (at + size + PAGE - 1) & ~<uint64_t>(PAGE - 1)
        self.shared.blob_written += size
        return True

    def want_room(self) -> bool:
        """Ask the consumer to ring our side's bell when it makes room; True when there is some already, perhaps."""
        cdef uint64_t head = self.head_seen, taken = self.taken_seen
        mu_store32(&self.shared.starving, 1)
        mu_fence()
        self.head_seen, self.taken_seen = mu_load(&self.shared.head), mu_load(&self.shared.taken)
        return self.head_seen != head or self.taken_seen != taken


@cython.final
cdef class Receiver(Right):
    """A receive right over one direction of a channel: it may move, never be held by two. `table`: it keeps the in-flight table."""
    cdef uint64_t cursor, head
    cdef int slots, in_flight           # of the in-flight table: how many there are, how many are taken
    cdef bint table, armed
    cdef readonly bint full             # the table has no free slot
    cdef int idle                       # awakenings of its waiter since its last message
    cdef public object owner            # whatever the holder wants to find here again

    def __init__(self, Mapping memory, int direction, int bell, *, bint table=False, owner=None):
        self.hold(memory, direction, bell)
        self.table, self.owner, self.slots = table, owner, memory.slots if table else 0
        self.adopt()

    def adopt(self):
        """Begin where a predecessor left off: at the first message that it did not start."""
        self.head, self.in_flight = mu_load(&self.shared.head) & ~<uint64_t>(LINE - 1), 0
        self.cursor = self.head
        for i in range(self.slots):
            self.in_flight += self.memory.table[i].call != 0
        self.full = self.table and self.in_flight == self.slots

    def interrupted(self) -> list:
        """Calls that a predecessor was running when it died, as (call, interface, method); they stay until `forget`."""
        cdef mu_header* header
        cdef mu_slot slot
        found = []
        self.adopt()
        mu_ring(self.bell)                                 # it may have died before it rang, having taken `sleeping` back
        for i in range(self.slots):
            slot = self.memory.table[i]
            if slot.call:
                found.append((slot.call, slot.interface, slot.method))
                header = <mu_header*>(self.data + (slot.offset & (self.capacity - LINE)))
                if header.call == slot.call:               # it died before it had marked the message as taken
                    header.waiting = 0
        return found

    def forget(self, uint64_t call):      # its caller was told; had we died before, our successor would tell it again
        for i in range(self.slots):
            if self.memory.table[i].call == call:
                self.memory.table[i].call, self.in_flight, self.full = 0, self.in_flight - 1, False
        self.shared.refused = self.shared.taken - self.shared.answered - self.in_flight  # whatever else was taken has ended

    cdef inline bint has_message(self) noexcept nogil:
        return mu_load(&self.shared.tail) != self.cursor

    def more(self): return self.has_message()  # one that was not looked at yet

    cpdef Message peek(self):
        """The next message that was not looked at yet, or None. It stays in the mailbox until it is taken."""
        cdef mu_header* header
        cdef uint64_t tail = mu_load(&self.shared.tail), offset, span
        cdef Message message
        if tail - self.head > self.capacity or tail - self.cursor > self.capacity:
            raise Garbage("the ring's tail is beyond its capacity")
        while self.cursor != tail:
            offset = self.cursor & (self.capacity - 1)
            header = <mu_header*>(self.data + offset)
            span = padded(header.size)
            if span > tail - self.cursor or offset + span > self.capacity:
                raise Garbage(f"a record of {header.size} bytes does not fit where it stands")
            if header.waiting == 1:
                crowd_hear(self.shared.crowd)
                message = Message.__new__(Message)
                message.kind, message.flags, message.priority = header.kind, header.flags, header.priority
                message.interface, message.method, message.credit = header.interface, header.method, header.credit
                message.call, message.deadline = header.call, header.deadline
                message.trace_high, message.trace_low, message.span = header.trace_high, header.trace_low, header.span
                message.receiver, message.position, message.slot = self, self.cursor, -1
                self.cursor += span
                return message
            self.cursor += span                            # padding, or started by a predecessor
            self.release()
        return None

    cpdef Message receive(self):
        cdef Message message = self.peek()
        if message is not None:
            self.start(message)
        return message

    cdef start(self, Message message, bint discarded=False):
        cdef uint64_t offset = message.position & (self.capacity - 1)
        cdef mu_header* header = <mu_header*>(self.data + offset)
        cdef uint64_t size = header.size
        cdef uint64_t blob[2]
        cdef bint large = message.flags & BLOB_FLAG != 0
        cdef int i
        if offset + LINE + size > self.capacity or large and size != sizeof(blob):
            raise Garbage("a record changed after it was published, or its size is not that of its kind")
        if large:                                          # only now: the mapping may end where the record does
            memcpy(blob, <char*>header + LINE, sizeof(blob))
            if not 0 < blob[1] <= LARGEST_BODY or blob[0] > BLOB_REGION or blob[0] + blob[1] > BLOB_REGION:
                raise Garbage("a large body lies outside its region")
            blob[0] += BLOB_REGION * <uint64_t>(self.direction + 1)
            size = min(blob[1], <uint64_t>PAGE) if discarded else blob[1]
        try:
            message.body = os.pread(self.memory.fd, size, blob[0]) if large else PyBytes_FromStringAndSize(<char*>header + LINE, size)
        except (MemoryError, OSError):                     # taken all the same: else it would bar the way for ever
            message.lacking = size
        if message.kind < CALLS_BELOW:
            if discarded: self.shared.refused += 1
            elif self.table and message.kind != ONEWAY:    # a one-way call has no reply to account for
                for i in range(self.slots):                # bounded: the other side can write the table
                    message.slot = <int>((message.call + <uint64_t>i) % <uint64_t>self.slots)
                    if not self.memory.table[message.slot].call:
                        break
                else:
                    raise Garbage("the table of calls in flight was written by somebody else")
                self.in_flight, self.full = self.in_flight + 1, self.in_flight + 1 >= self.slots
                self.memory.table[message.slot] = mu_slot(0, message.interface, message.method, <uint32_t>offset)
                mu_store(&self.memory.table[message.slot].call, message.call)
            elif self.table: self.shared.answered += 1
        header.waiting = 0                                 # before it is counted: none is counted twice
        if message.kind < CALLS_BELOW: mu_store(&self.shared.taken, self.shared.taken + 1)
        self.release()
        if large:                                          # only now: a successor would have read it again
            fallocate(self.memory.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, blob[0], (blob[1] + PAGE - 1) & ~(<uint64_t>PAGE - 1))
            mu_store(&self.shared.blob_freed, self.shared.blob_freed + blob[1])

    cdef void release(self) noexcept:
        """Move `head` over the prefix of records that were taken; wake a producer that waits for room."""
        cdef mu_header* header
        while self.head < self.cursor:                     # not `!=`: a hostile producer may change a size behind us
            header = <mu_header*>(self.data + (self.head & (self.capacity - 1)))
            if header.waiting == 1: break
            self.head += padded(header.size)
        self.head = min(self.head, self.cursor)
        mu_store(&self.shared.head, self.head)
        mu_fence()
        if mu_load32(&self.shared.starving) and mu_exchange(&self.shared.starving, 0):
            mu_ring(self.bell)

    cdef void clear(self, Message message) noexcept:
        """The call is in flight no more."""
        if message.slot >= 0:
            mu_store(&self.memory.table[message.slot].call, 0)
            self.in_flight -= 1
            self.full, message.slot = False, -1


cdef bint any_message(void* waiter) noexcept nogil:
    cdef int i
    for i in range((<Waiter>waiter).hot_count):
        if (<Receiver>(<Waiter>waiter).hot[i]).has_message():
            return True
    return False


@cython.final
cdef class Waiter:
    """Waits for the messages of many rings at once, for one thread or event loop. `bell` is heard when producers ring `ringer`.

    Rings that had messages lately are *hot* and polled; the others are *cold*: armed (`sleeping` is 1), they cost nothing.
    """
    cdef readonly int bell, ringer
    cdef list receivers
    cdef void** hot
    cdef int hot_count, room
    cdef mu_spin policy
    cdef public int64_t slept_since, patience              # ns; how long `exchange` waits, negative: for ever

    def __init__(self):
        (self.bell, self.ringer), self.receivers, self.patience = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC), [], -1
        self.policy.late = (os.getpid() * 2654435761 >> 28 & 15) * 8000000
        self.policy.policy = POLICIES.index(os.environ.get("MUKERNEL_WAITING", ""))

    def __dealloc__(self):
        free(self.hot)
        if self.ringer:                                    # 0: there was no file left for them
            close(self.bell)
            close(self.ringer)

    def add(self, Receiver receiver):
        self.receivers.append(receiver)
        if len(self.receivers) > self.room:
            self.room = 2 * self.room + 8
            self.hot = <void**>realloc(self.hot, self.room * sizeof(void*))
        self.heat(receiver)

    def remove(self, Receiver receiver):
        self.receivers.remove(receiver)
        self.cool(receiver)
        mu_store32(&receiver.shared.sleeping, 0)

    cdef void heat(self, Receiver receiver):
        self.hot[self.hot_count] = <void*>receiver
        self.hot_count += 1
        receiver.armed, receiver.idle = False, 0
        mu_store32(&receiver.shared.sleeping, 0)

    cdef void cool(self, Receiver receiver):
        cdef int i
        for i in range(self.hot_count):
            if self.hot[i] == <void*>receiver:
                self.hot_count -= 1
                self.hot[i] = self.hot[self.hot_count]
                receiver.armed = True
                return

    cpdef list ready(self):
        """The hot receivers that have messages; None where none has."""
        cdef int i
        found = None
        for i in range(self.hot_count):
            if (<Receiver>self.hot[i]).has_message():
                (<Receiver>self.hot[i]).idle = 0
                if found is None:
                    found = []
                found.append(<Receiver>self.hot[i])
        return found

    cpdef bint spin(self, int64_t limit):
        """Wait awake, at most `limit` ns (negative: as long as it is worth it); True when there is a message."""
        cdef bint found
        if self.hot_count == 0:
            return False
        self.slept_since = mu_now()
        with nogil:
            found = spin_wait(&self.policy, any_message, <void*>self, limit if limit >= 0 else 1 << 60)
        if found: self.slept_since = 0
        return found

    cpdef bint arm(self):
        """Ask every producer to ring. True when it is safe to sleep; False (and disarmed) when a message has come."""
        cdef int i
        for i in range(self.hot_count):
            mu_store32(&(<Receiver>self.hot[i]).shared.sleeping, 1)
        mu_fence()
        if any_message(<void*>self):
            self.disarm(False)
            return False
        return True

    cpdef disarm(self, bint rung):
        """Awake again. `rung`: a bell was heard, so the cold rings are looked at, too; one that rang will not ring again."""
        cdef int i = 0
        cdef int64_t rung_at = 0
        cdef Receiver receiver
        if self.slept_since:                               # was there a message, and would spinning have caught it?
            for i in range(self.hot_count):
                receiver = <Receiver>self.hot[i]
                if receiver.has_message() and receiver.shared.rung > rung_at:
                    rung_at = receiver.shared.rung
            spin_slept(&self.policy, self.slept_since, rung_at, mu_now())
            self.slept_since, i = 0, 0
        if rung:
            for receiver in self.receivers:
                if receiver.armed and (receiver.has_message() or not mu_load32(&receiver.shared.sleeping)):
                    self.heat(receiver)
        while i < self.hot_count:
            receiver = <Receiver>self.hot[i]
            receiver.idle += 1
            if receiver.idle > 64 and not receiver.has_message():
                self.cool(receiver)
                mu_store32(&receiver.shared.sleeping, 1)   # from now on its producer rings
                mu_fence()
                if receiver.has_message():
                    self.heat(receiver)
            else:
                mu_store32(&receiver.shared.sleeping, 0)
                i += 1

    cpdef bint wait(self, int64_t limit) except -1:
        """Block the thread until a message is there: True; or for `limit` ns (negative: for ever): False."""
        cdef int64_t until = mu_now() + limit, left = limit
        if any_message(<void*>self) or self.spin(limit):
            return True
        while True:
            if self.arm():
                self.wait_for_bell(left)
            if any_message(<void*>self):
                return True
            if limit >= 0:
                left = until - mu_now()
                if left <= 0:
                    return False

    cpdef Message exchange(self, Sender sender, Receiver receiver, uint64_t call, body, uint16_t method):
        """Send a plain call and block until a message comes back, which is taken; None when there was no room for it, and
        BlockingIOError when it was sent, and `patience` has ended."""
        if not sender.send(0, call, body, method):
            return None
        while (message := receiver.receive()) is None:
            if not self.wait(self.patience):
                raise BlockingIOError
        return message

    cpdef wait_for_bell(self, int64_t limit=-1):
        cdef int rung
        PyErr_CheckSignals()                               # one that came while we spun would not end the sleep
        with nogil:
            rung = mu_sleep(self.bell, limit)
        if rung > 0:
            mu_hush(self.bell)
        self.disarm(rung > 0)
        if rung < 0:
            PyErr_CheckSignals()
