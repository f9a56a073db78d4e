"""The command line in a process of its own, forked off one that has imported it: starting each anew costs a second.

Two programs in one file, which imports little: `parent SOCKET` has imported everything and forks whenever it is asked;
`run SOCKET ARGUMENTS` stands for `rpcserver` in a shell, and passes on its files, its signals and its exit status.
`tests.forked` uses both. What is tested of starting itself (the README, the wheel, services, what stands on the
import path) starts real ones.
"""

import json
import os
import signal
import socket
import sys

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FILES = 3


def ask(path: str, arguments: list[str], files: list[int], cwd: str, environment: dict[str, str]) -> socket.socket:
    """Have the command line run with these arguments and files; return where its pid and, at last, its status come."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    asked = json.dumps({"arguments": arguments, "cwd": cwd, "environment": environment}).encode()
    socket.send_fds(connection, [len(asked).to_bytes(4, "big")], files)
    connection.sendall(asked)
    return connection


def command(path: str, arguments: list[str]) -> None:
    """Stand for the command: pass signals on, and end as it ended."""
    answers = ask(path, arguments, [0, 1, 2], os.getcwd(), dict(os.environ)).makefile()
    pid = int(answers.readline())
    for number in FORWARDED:
        signal.signal(number, lambda number, _: os.kill(pid, number))
    status = int(answers.readline())
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


def parent(path: str) -> object:
    """Fork whenever asked, until the standard input ends; return in each fork what it is to run."""
    import gc
    import selectors

    import rpcserver.app
    import rpcserver.cli.admin
    import rpcserver.cli.doctor
    import rpcserver.cli.main
    import rpcserver.cli.play
    import rpcserver.cli.serve  # noqa: F401

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    woken, wake = socket.socketpair()
    for one in (woken, wake):
        one.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    selector = selectors.DefaultSelector()
    for source in (0, listener, woken):
        selector.register(source, selectors.EVENT_READ)
    running = {}  # by connection
    gc.collect()
    gc.freeze()  # what a fork's collector does not look at is not copied
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            if key.fileobj == 0:
                for pid in running.values():
                    os.kill(pid, signal.SIGKILL)
                return None
            if key.fileobj is woken:
                woken.recv(4096)
            elif key.fileobj is listener:
                connection, _ = listener.accept()
                head, files, _, _ = socket.recv_fds(connection, 4, _FILES)
                asked = _whole(connection, int.from_bytes(head, "big"))
                pid = os.fork()
                if pid == 0:
                    selector.close()
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for one in (listener, woken, wake, connection, *running):
                        one.close()
                    return _become(json.loads(asked), files)
                for file in files:
                    os.close(file)
                running[connection] = pid
                connection.sendall(f"{pid}\n".encode())
                selector.register(connection, selectors.EVENT_READ)
            elif key.fileobj in running:  # whoever asked is gone, killed perhaps
                os.kill(running[key.fileobj], signal.SIGKILL)
                selector.unregister(key.fileobj)
        for connection, pid in list(running.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del running[connection]
                if connection in selector.get_map():
                    selector.unregister(connection)
                    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
                connection.close()


def _whole(connection: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        got += connection.recv(size - len(got))
    return got


def _become(asked: dict, files: list[int]) -> object:
    """Take over the files, the folder and the variables of whoever asked."""
    import time

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["cwd"])
    time.tzset()
    sys.path[:0] = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["rpcserver", *asked["arguments"]]
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 (as long as the process)
    sys.stdout = open(1, "w", closefd=False, buffering=1 if os.isatty(1) else -1)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, buffering=1, errors="backslashreplace")  # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    return sys.modules["rpcserver.cli.main"].main


if __name__ == "__main__":
    if sys.argv[1] == "parent":
        main = parent(sys.argv[2])
        if main is not None:
            main()
    else:
        command(sys.argv[2], sys.argv[3:])
