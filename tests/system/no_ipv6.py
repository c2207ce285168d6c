"""RUN, PROGRAM, ARGUMENTS: a program as on a kernel without IPv6. To it socket(AF_INET6) fails with EAFNOSUPPORT."""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

RUN = [sys.executable, __file__]
SOCKET = {"x86_64": 41, "aarch64": 198}[platform.machine()]  # the system call's number
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, FILTER = 22, 38, 2
LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # of a word of struct seccomp_data; else skip; the verdict
NUMBER_AT, ARGUMENT_AT = 0, 16
ALLOW, ERROR = 0x7FFF0000, 0x00050000


def forbid():
    program = b"".join(
        struct.pack("=HBBI", *line)
        for line in (
            (LOAD, 0, 0, NUMBER_AT),
            (IF_EQUAL, 0, 3, SOCKET),
            (LOAD, 0, 0, ARGUMENT_AT),
            (IF_EQUAL, 0, 1, socket.AF_INET6),
            (RETURN, 0, 0, ERROR | errno.EAFNOSUPPORT),
            (RETURN, 0, 0, ALLOW),
        )
    )
    lines = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(lines)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, FILTER, head, 0, 0)):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    forbid()
    os.execv(sys.argv[1], sys.argv[1:])
