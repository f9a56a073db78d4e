"""Runs a command so that it and everything it starts ends when the server does, however the server ends.

Started as `python -I -S leash.py COMMAND ...`: a process of its own between the server and the command. The kernel
signals it when the server's thread that started it is gone (PR_SET_PDEATHSIG); it then kills its process group.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run the command given as arguments and return its exit status, 128 + N when signal N ended it."""
    server = os.getppid()
    signal.signal(signal.SIGUSR1, _kill_group)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() != server:
        return 1  # the server ended before we could listen for it
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        _become(sys.argv[1:])
    # SIGTERM comes to the whole group: the command decides what it does with it, and we wait for that.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if status >= 0 else 128 - status


def _become(command: list[str]) -> None:
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


def _kill_group(number: int, frame: object) -> None:
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
