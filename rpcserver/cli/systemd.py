"""What a service manager and a server tell each other: readiness, the watchdog, sockets opened beforehand.

Source: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).
"""

import os
import socket

FIRST_SOCKET = 3


def notify(state: str) -> bool:
    """Tell the service manager, as `READY=1`; False when there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # the abstract namespace
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect(address)
        channel.sendall(state.encode())
    return True


def watchdog_s() -> float | None:
    """Return within how many seconds the service manager wants to hear of us, None when it does not."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC"), os.environ.get("WATCHDOG_PID")
    if not microseconds or (pid and int(pid) != os.getpid()):
        return None
    return int(microseconds) / 1_000_000


def inherited_socket() -> socket.socket | None:
    """Return the listening socket the service manager opened for us, None when it opened none.

    It stays open over a restart of ours, so that nobody who connects meanwhile is refused.
    Raises OSError when it is not one TCP socket.
    """
    count, pid = os.environ.pop("LISTEN_FDS", None), os.environ.pop("LISTEN_PID", None)
    if not count or not pid or int(pid) != os.getpid():
        return None
    if int(count) != 1:
        raise OSError(f"{count} sockets were passed on: leave one ListenStream in the .socket unit")
    listening = socket.socket(fileno=FIRST_SOCKET)
    if listening.family not in (socket.AF_INET, socket.AF_INET6) or listening.type != socket.SOCK_STREAM:
        raise OSError("the socket passed on is not TCP: write ListenStream=127.0.0.1:7717 in the .socket unit")
    listening.set_inheritable(False)
    return listening
