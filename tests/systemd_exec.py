"""Becomes the program, as systemd would start it: `python -ISE tests/systemd_exec.py FDS RULES -- PROGRAM ...`.

FDS are the file descriptors to hand over, separated by commas; they become 3 and on, and LISTEN_PID is set. RULES is a file
with what of the unit's sandbox a process can do to itself, or `-`: no new privileges, no memory both writable and executable,
and the unit's system calls and address families by seccomp. `tests/systemd_harness.py` writes it. Nothing but the standard
library, and no more of it than needed: this runs before every start.
"""

import ctypes
import json
import os
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 38, 65, 1
ALLOW, ERRNO_EPERM = 0x7FFF0000, 0x00050001
EQUAL = 4


class _Argument(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def hand_over(fds: list[int]) -> None:
    """File descriptors to 3 and on, inheritable."""
    high = [os.dup(fd) for fd in fds]
    while min(high, default=100) < 3 + len(fds):
        high = [os.dup(fd) for fd in high]
    for number, fd in enumerate(high):
        os.dup2(fd, 3 + number, inheritable=True)
    os.closerange(3 + len(fds), 1024)
    if fds:
        os.environ["LISTEN_PID"] = str(os.getpid())


def confine(rules: dict[str, list[str]]) -> None:
    """What cannot be undone until the process ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option in ((PR_SET_NO_NEW_PRIVS, 1), (PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)):
        if libc.prctl(*option, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {option}")
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(ERRNO_EPERM)))
    for name in rules["calls"]:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number == -1:
            continue  # of another machine
        for family in rules["families"] if name == "socket" else [None]:
            compared = (_Argument * 1)(_Argument(0, EQUAL, int(family), 0)) if family is not None else None
            seccomp.seccomp_rule_add_array(context, ctypes.c_uint32(ALLOW), number, 1 if compared else 0, compared)
    if seccomp.seccomp_load(context) != 0:
        raise OSError("seccomp")


def main(fds: str, rules: str, _: str, *program: str) -> None:
    hand_over([int(fd) for fd in fds.split(",") if fd])
    if rules != "-":
        with open(rules, encoding="utf-8") as file:
            confine(json.load(file))
    os.execvp(program[0], program)


if __name__ == "__main__":
    main(*sys.argv[1:])
