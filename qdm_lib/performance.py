"""A setting of the process that makes training and sampling on a CPU faster; it changes no value."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # names and numbers of glibc's mallopt(3)


def keep_memory() -> bool:
    """Let the process keep the memory it frees, instead of handing it back to the system and asking again.

    glibc fetches every large block anew and gives it back when it is freed. A training step frees and fetches
    hundreds of such blocks, and the system fills each fresh page with zeros on first touch. On a machine where
    that is slow, it can take longer than the arithmetic. With this setting, blocks come from memory that the
    process already has; its peak may grow a little, because freed memory is kept.

    Returns True where it worked: on Linux with glibc. Elsewhere it does nothing and returns False.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
