# cython: language_level=3
"""The buffer protocol for a class whose instances have a memoryview, `view`: before Python 3.12 only C can give it.

From then on `__buffer__` does, and this is not compiled.
"""

cdef extern from *:
    """
    // The owner of what is got is the view, which lets go of it, and not what Cython has put there.
    static int mu_get_buffer(PyObject *view, Py_buffer *buffer, int flags) {
        Py_CLEAR(buffer->obj);
        return PyObject_GetBuffer(view, buffer, flags);
    }
    """
    int mu_get_buffer(object view, Py_buffer *buffer, int flags) except -1


cdef class Exported:
    """What asks for the memory of an instance gets that of its `view`, which is held as long as it is looked into."""

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        mu_get_buffer(self.view, buffer, flags)
