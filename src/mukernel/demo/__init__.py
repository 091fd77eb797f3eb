"""A code search built of plug-ins, for `mukernel demo`: each is written against the public API alone."""
