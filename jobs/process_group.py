"""Runs a command so that all it ever starts ends with it, and with the server, however the server ends.

Started as `python -I -S process_group.py SERVER_PID COMMAND ...`: a process between the server and the command. What
loses its parent below it becomes its own child (PR_SET_CHILD_SUBREAPER), so neither a session of its own nor a double
fork leads out of its reach. When the command ends, what it left behind is killed. SIGTERM is passed on to everything
below; SIGUSR1 kills everything, and is also what the kernel sends when the server is gone (PR_SET_PDEATHSIG).
"""

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PASSED_ON = 128 + signal.SIGTERM


def main() -> int:
    """Run the command given as arguments and return its exit status, 128 + N when signal N ended it."""
    prctl = ctypes.CDLL(None).prctl
    signal.signal(signal.SIGUSR1, _server_is_gone)
    signal.signal(signal.SIGTERM, _pass_on)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() != int(sys.argv[1]):
        return 1  # the server ended before we could listen for it
    child = os.fork()
    if child == 0:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # in case somebody kills us
        _become(sys.argv[2:])
    status = None
    while status is None:
        pid, ended = os.wait()
        if pid == child:
            status = os.waitstatus_to_exitcode(ended)
    _kill_all()
    return status if status >= 0 else 128 - status


def _become(command: list[str]) -> None:
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


def _pass_on(number: int, frame: object) -> None:
    below = _below()
    for pid in below:
        _signal_group(pid, signal.SIGTERM)
    if not below:
        os._exit(PASSED_ON)  # not begun yet


def _server_is_gone(number: int, frame: object) -> None:
    _kill_all()
    os._exit(128 + signal.SIGKILL)


def _kill_all() -> None:
    """Kill everything below, and wait until it is gone."""
    while below := _below():
        for pid in below:
            _signal_group(pid, signal.SIGSTOP)  # what stands still starts nothing more
        for pid in _below():
            _signal_group(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.002)


def _below() -> set[int]:
    """Return every living process that descends from this one."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
                if state not in (b"Z", b"X"):  # a zombie has no children, and nothing that could be ended
                    children.setdefault(int(parent), []).append(int(name))
    found: set[int] = set()
    waiting = [os.getpid()]
    while waiting:
        nearest = children.get(waiting.pop(), [])
        found.update(nearest)
        waiting += nearest
    return found


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(main())
