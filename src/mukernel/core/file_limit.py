"""How many files the kernel's process may open: it keeps a few for every process and every channel."""

import resource


def raise_file_limit() -> int:
    """Let this process open as many files as it is allowed (RLIMIT_NOFILE, soft to hard); return how many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
