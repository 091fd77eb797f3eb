# cython: language_level=3
"""Inline calls that can be counted and redirected, at nearly the price of the call itself.

An `InlineMethod` stands where a bound method would: calling it calls the instance. A coroutine that it returns is counted
in `InFlight` from its first step to its last, so that a swap knows when the old instance is drained, and a stop can end
it. Callers may keep an `InlineMethod`; when its plug-in is swapped or moved, its target is what changes.
"""
cimport cython
from cpython.object cimport PyObject

from .waiting_calls import WaitingCalls

cdef extern from *:
    """
    #include <stddef.h>
    typedef PyObject *(*mu_vectorcall)(PyObject *, PyObject **, size_t, PyObject *);
    static int mu_make_vectorcallable(PyTypeObject *type, Py_ssize_t offset) {
        type->tp_vectorcall_offset = offset;
        type->tp_call = PyVectorcall_Call;
        #ifdef Py_TPFLAGS_HAVE_VECTORCALL
        type->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
        #endif
        PyType_Modified(type);
        return 0;
    }
    static int mu_raised(void) { return -1; }
    static int mu_set_send(PyTypeObject *type, sendfunc send) {
        type->tp_as_async->am_send = send;
        PyType_Modified(type);
        return 0;
    }
    """
    ctypedef PyObject* (*mu_vectorcall)(PyObject*, PyObject**, size_t, PyObject*) noexcept
    ctypedef enum PySendResult:
        PYGEN_RETURN, PYGEN_ERROR, PYGEN_NEXT
    ctypedef PySendResult (*sendfunc)(PyObject*, PyObject*, PyObject**) noexcept
    ctypedef struct PyTypeObject:
        pass
    int mu_make_vectorcallable(PyTypeObject*, Py_ssize_t)
    int mu_set_send(PyTypeObject*, sendfunc)
    int mu_raised() except -1
    PySendResult PyIter_Send(PyObject*, PyObject*, PyObject**)
    PyObject* PyObject_Vectorcall(PyObject*, PyObject**, size_t, PyObject*)
    int PyCoro_CheckExact(PyObject*)
    void Py_INCREF(PyObject*)
    void Py_DECREF(PyObject*)
    void PyErr_SetObject(PyObject*, PyObject*)
    void PyErr_Fetch(PyObject**, PyObject**, PyObject**)
    void PyErr_Restore(PyObject*, PyObject*, PyObject*)


cdef class InFlight:
    """Counts the inline calls of one instance that are under way. `when_idle` is called when the last one ends."""
    cdef public long running
    cdef public long calls
    cdef public object when_idle
    cdef public object waiting          # the WaitingCalls among them

    def __init__(self):
        self.waiting = WaitingCalls()

    cdef void leave(self) noexcept:
        self.running -= 1
        if self.running == 0 and self.when_idle is not None:
            callback, self.when_idle = self.when_idle, None
            callback()


@cython.final
cdef class InlineMethod:
    """Calls `target`; while `closed` is set, a call waits in `closed(coroutine)` instead, which starts it again.

    The route that made it is the only writer of `target` and `closed`.
    """
    cdef mu_vectorcall vectorcall
    cdef public object target
    cdef public object closed
    cdef public InFlight in_flight
    cdef public str __name__
    cdef public str __doc__

    def __init__(self, target, InFlight in_flight, name="", documentation=""):
        self.target, self.in_flight, self.vectorcall = target, in_flight, call_method
        self.__name__, self.__doc__ = name, documentation


cdef PyObject* call_method(PyObject* callable, PyObject** args, size_t nargsf, PyObject* names) noexcept:
    cdef InlineMethod method = <InlineMethod>callable
    cdef PyObject* result = PyObject_Vectorcall(<PyObject*>method.target, args, nargsf, names)
    cdef Tracked tracked
    if result == NULL or not PyCoro_CheckExact(result):
        return result
    tracked = Tracked.__new__(Tracked)
    tracked.coroutine = <object>result
    Py_DECREF(result)
    tracked.method = method
    Py_INCREF(<PyObject*>tracked)
    return <PyObject*>tracked


@cython.final
@cython.freelist(256)
cdef class Tracked:
    """A coroutine that is counted while it runs. It is a `collections.abc.Coroutine`."""
    cdef object coroutine
    cdef InlineMethod method
    cdef bint entered
    cdef bint waits                     # it gave the loop a turn, and is one of the WaitingCalls
    cdef InFlight in_flight             # set from the first step to the last

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    cdef enter(self):
        if not self.entered:
            self.entered = True
            if self.method.closed is not None:
                self.coroutine = self.method.closed(self.method, self.coroutine)
            else:
                self.in_flight = self.method.in_flight
                self.in_flight.running += 1
                self.in_flight.calls += 1

    cdef object leave(self, error=None):
        """The last step is done: what it raised, or what is to be raised in its stead."""
        cdef InFlight in_flight = self.in_flight
        if in_flight is not None:
            if self.waits:
                error = in_flight.waiting.leave(<size_t><void*>self, error) or error
            self.in_flight = None
            in_flight.leave()
        return error

    cdef wait(self):
        if not self.waits and self.in_flight is not None:
            self.waits = True
            self.in_flight.waiting.enter(<size_t><void*>self)

    def send(self, value):
        self.enter()
        try:
            result = self.coroutine.send(value)
        except BaseException as error:
            raise self.leave(error)
        self.wait()
        return result

    def throw(self, *what):
        self.enter()
        try:
            result = self.coroutine.throw(*what)
        except BaseException as error:
            raise self.leave(error)
        self.wait()
        return result

    def close(self):
        self.entered = True
        try:
            self.coroutine.close()
        finally:
            self.leave()

    def __dealloc__(self):
        if self.in_flight is not None:
            self.in_flight.running -= 1
            if self.waits:
                self.in_flight.waiting.leave(<size_t><void*>self)

    @property
    def cr_await(self):
        return self.coroutine.cr_await

    @property
    def cr_frame(self):
        return self.coroutine.cr_frame

    @property
    def cr_running(self):
        return self.coroutine.cr_running

    @property
    def cr_code(self):
        return self.coroutine.cr_code


cdef PySendResult send_tracked(PyObject* object_, PyObject* value, PyObject** result) noexcept:
    cdef Tracked tracked = <Tracked>object_
    cdef InFlight in_flight
    cdef PySendResult outcome
    cdef PyObject* kind = NULL
    cdef PyObject* error = NULL
    cdef PyObject* trace = NULL
    if not tracked.entered:
        if tracked.method.closed is None:
            tracked.entered = True
            in_flight = tracked.method.in_flight
            in_flight.running += 1
            in_flight.calls += 1
            outcome = PyIter_Send(<PyObject*>tracked.coroutine, value, result)
            if outcome == PYGEN_RETURN and in_flight.when_idle is None:
                in_flight.running -= 1
                return outcome
            tracked.in_flight = in_flight
        else:
            try:
                tracked.enter()
            except BaseException as problem:
                result[0] = NULL
                raise_again(problem)
                return PYGEN_ERROR
            outcome = PyIter_Send(<PyObject*>tracked.coroutine, value, result)
    else:
        outcome = PyIter_Send(<PyObject*>tracked.coroutine, value, result)
    if outcome == PYGEN_NEXT:
        if not tracked.waits:
            tracked.wait()
    elif outcome == PYGEN_RETURN:
        tracked.leave()
    elif not tracked.waits:
        PyErr_Fetch(&kind, &error, &trace)
        tracked.leave()
        PyErr_Restore(kind, error, trace)
    else:
        raise_again(tracked.leave(take_error()))
    return outcome


cdef object take_error():
    """The exception that is being raised."""
    try:
        mu_raised()
    except BaseException as error:
        return error


cdef void raise_again(error):
    cdef object kind = type(error)
    PyErr_SetObject(<PyObject*>kind, <PyObject*>error)


cdef Py_ssize_t offset_of_vectorcall():
    cdef InlineMethod method = InlineMethod.__new__(InlineMethod)
    return <char*>&method.vectorcall - <char*><PyObject*>method


mu_make_vectorcallable(<PyTypeObject*>InlineMethod, offset_of_vectorcall())
mu_set_send(<PyTypeObject*>Tracked, send_tracked)

from collections.abc import Coroutine

Coroutine.register(Tracked)
