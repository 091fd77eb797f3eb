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
    // The error that is being raised, taken and given back as it was, with its traceback.
    static PyObject *mu_take_error(void) {
    #if PY_VERSION_HEX >= 0x030C0000
        return PyErr_GetRaisedException();
    #else
        PyObject *kind, *error, *trace;
        PyErr_Fetch(&kind, &error, &trace);
        PyErr_NormalizeException(&kind, &error, &trace);
        if (trace != NULL) PyException_SetTraceback(error, trace);
        Py_XDECREF(kind);
        Py_XDECREF(trace);
        return error;
    #endif
    }
    static void mu_raise(PyObject *error) {
        Py_INCREF(error);
    #if PY_VERSION_HEX >= 0x030C0000
        PyErr_SetRaisedException(error);
    #else
        Py_INCREF(Py_TYPE(error));
        PyErr_Restore((PyObject *)Py_TYPE(error), error, PyException_GetTraceback(error));
    #endif
    }
    // What calling the bound method does, without the way through it: who calls left room for `self`.
    static inline PyObject *mu_call(PyObject *target, PyObject **args, size_t count, PyObject *names) {
        PyObject *function, *result, *there;
        vectorcallfunc call;
        if (!PyMethod_Check(target) || !(count & PY_VECTORCALL_ARGUMENTS_OFFSET))
            return PyObject_Vectorcall(target, args, count, names);
        function = PyMethod_GET_FUNCTION(target);
        call = PyVectorcall_Function(function);
        if (call == NULL) return PyObject_Vectorcall(target, args, count, names);
        there = args[-1];
        args[-1] = PyMethod_GET_SELF(target);
        result = call(function, args - 1, PyVectorcall_NARGS(count) + 1, names);
        args[-1] = there;
        return result;
    }
    static inline PySendResult mu_send(PyObject *coroutine, PyObject *value, PyObject **result) {
        return Py_TYPE(coroutine)->tp_as_async->am_send(coroutine, value, result);
    }
    // Most calls end at their first step: their objects are used again, and the garbage collector sees only those
    // that suspend, since before that nothing can be part of a cycle but by its own arguments.
    #define MU_SPARES 256
    static PyObject *mu_spare[MU_SPARES];
    static int mu_spares = 0;
    static PyObject *mu_take_spare(PyTypeObject *type, Py_ssize_t items) {
        PyObject *made;
        if (mu_spares == 0) made = (PyObject *)PyObject_GC_New(PyObject, type);
        else made = PyObject_Init(mu_spare[--mu_spares], type);
        return made;                    // every field is an object, which `__new__` sets to None
    }
    static void mu_give_spare(void *object) {
        if (mu_spares < MU_SPARES) mu_spare[mu_spares++] = (PyObject *)object;
        else PyObject_GC_Del(object);
    }
    static int mu_set_steps(PyTypeObject *type, sendfunc send) {
        type->tp_as_async->am_send = send;
        type->tp_alloc = mu_take_spare;
        type->tp_free = mu_give_spare;
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
    int mu_set_steps(PyTypeObject*, sendfunc)
    void PyObject_GC_Track(PyObject*)
    PySendResult mu_send(PyObject*, PyObject*, PyObject**)
    PyObject* mu_call(PyObject*, PyObject**, size_t, PyObject*)
    object mu_take_error()
    void mu_raise(object)
    int PyCoro_CheckExact(PyObject*)
    void Py_INCREF(PyObject*)
    void Py_DECREF(PyObject*)


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
    cdef PyObject* result = mu_call(<PyObject*>method.target, args, nargsf, names)
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
@cython.no_gc
cdef class UnderWay:
    """Stands for one call that is counted: when it is let go of, for whatever reason, the call is under way no more."""
    cdef InFlight in_flight

    def __dealloc__(self):
        self.in_flight.waiting.leave(<size_t><void*>self)
        self.in_flight.leave()


cdef UnderWay under_way(InFlight in_flight, bint waits):
    """Of a call that is counted already. `waits`: it gave the loop a turn, so a stop may end it."""
    cdef UnderWay made = UnderWay.__new__(UnderWay)
    made.in_flight = in_flight
    if waits:
        in_flight.waiting.enter(<size_t><void*>made)
    return made


@cython.final
cdef class Tracked:
    """A coroutine that is counted from its first step to its last. It is a `collections.abc.Coroutine`."""
    cdef object coroutine
    cdef InlineMethod method            # until its first step
    cdef UnderWay under_way             # while it is suspended

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    cdef enter(self):
        cdef InlineMethod method = self.method
        if method is not None:
            self.method = None
            PyObject_GC_Track(<PyObject*>self)
            if method.closed is not None:
                self.coroutine = method.closed(method, self.coroutine)
            else:
                method.in_flight.running += 1
                method.in_flight.calls += 1
                self.under_way = under_way(method.in_flight, True)

    cdef leave(self, error):
        """It is over, by `error`; returns that, or what its caller is to get in its stead."""
        cdef UnderWay call = self.under_way
        self.under_way = None
        instead = None if call is None else call.in_flight.waiting.leave(<size_t><void*>call, error)
        return error if instead is None else instead

    def send(self, value):
        self.enter()
        try:
            return self.coroutine.send(value)
        except BaseException as error:
            raise self.leave(error)

    def throw(self, *what):
        self.enter()
        try:
            return self.coroutine.throw(*what)
        except BaseException as error:
            raise self.leave(error)

    def close(self):
        self.method = None
        try:
            self.coroutine.close()
        finally:
            self.under_way = None

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
    """What `send` does. A call that ends at its first step, as most do, makes no `UnderWay`.

    Letting go of an `UnderWay` runs code, and leaves an error that is set as it is, as every deallocation does.
    """
    cdef Tracked tracked = <Tracked>object_
    cdef InFlight in_flight = None
    cdef PySendResult outcome
    if tracked.method is not None:
        if tracked.method.closed is None:
            in_flight, tracked.method = tracked.method.in_flight, None
            in_flight.running += 1
            in_flight.calls += 1
        else:
            try:
                tracked.enter()
            except BaseException as problem:
                result[0] = NULL
                mu_raise(problem)
                return PYGEN_ERROR
    outcome = mu_send(<PyObject*>tracked.coroutine, value, result)
    if in_flight is None:
        if outcome == PYGEN_RETURN:
            tracked.under_way = None
        elif outcome == PYGEN_ERROR:
            mu_raise(tracked.leave(mu_take_error()))
    elif outcome == PYGEN_RETURN and in_flight.when_idle is None:
        in_flight.running -= 1
    elif outcome == PYGEN_NEXT:
        tracked.under_way = under_way(in_flight, True)
        PyObject_GC_Track(object_)
    else:
        under_way(in_flight, False)     # let go of at once
    return outcome


cdef Py_ssize_t offset_of_vectorcall():
    cdef InlineMethod method = InlineMethod.__new__(InlineMethod)
    return <char*>&method.vectorcall - <char*><PyObject*>method


mu_make_vectorcallable(<PyTypeObject*>InlineMethod, offset_of_vectorcall())
mu_set_steps(<PyTypeObject*>Tracked, send_tracked)

from collections.abc import Coroutine

Coroutine.register(Tracked)
