"""Commands outside: they end with all they started, however that hides, and every line they write is one line."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from jobs import processes

# Each writes the ids of everything it starts into the file `$1`, and would not end by itself.
READY = 'until [ -s "$1" ]; do sleep 0.05; done; echo ready; sleep 600; sleep 600'
ESCAPES = {
    "child": f'sleep 600 & echo $! >>"$1"; {READY}',
    "session": f'setsid sh -c \'echo $$ >>"$0"; sleep 600\' "$1" & {READY}',
    "daemon": f'(setsid sh -c \'echo $$ >>"$0"; exec sleep 600\' "$1" </dev/null >/dev/null 2>&1 &); {READY}',
    "deaf": f'trap "" TERM; sh -c \'trap "" TERM; echo $$ >>"$0"; sleep 600; sleep 600\' "$1" & {READY}',
}


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Path]:
    """Return a file for process ids; what is in it at the end is killed."""
    file = tmp_path / "pids"
    file.touch()
    yield file
    for pid in file.read_text().split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def alive(file: Path) -> list[int]:
    """Return which of the processes live."""
    living = []
    for text in file.read_text().split():
        with suppress(FileNotFoundError):
            state = Path(f"/proc/{text}/stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z":
                living.append(int(text))
    return living


async def started(script: str, file: Path) -> "asyncio.Task[processes.Finished]":
    """Start a command and return its task once it has said that it is ready."""
    ready = asyncio.Event()
    run = processes.run(
        ("sh", "-c", script, "sh", str(file)), cwd=None, env=None, on_line=lambda line: line == "ready" and ready.set()
    )
    task = asyncio.ensure_future(run)
    await asyncio.wait_for(ready.wait(), 20)
    assert alive(file)
    return task


@pytest.mark.parametrize("escape", ESCAPES)
async def test_a_stopped_command_ends_with_all_it_started(
    pids: Path, escape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session of its own, a double fork, or deaf ears do not help: nothing lives on, and stopping does not hang."""
    monkeypatch.setattr(processes, "TERM_GRACE_S", 0.3)
    task = await started(ESCAPES[escape], pids)
    task.cancel()
    await asyncio.wait({task}, timeout=20)
    assert task.cancelled()
    assert alive(pids) == []


@pytest.mark.parametrize("escape", ESCAPES)
def test_nothing_outlives_a_killed_server(pids: Path, escape: str) -> None:
    """The same for a process that is killed while the command runs."""
    server = subprocess.Popen(
        [sys.executable, __file__, ESCAPES[escape], str(pids)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    assert alive(pids)
    server.kill()
    server.stdout.read()  # ends when the last process that holds it has
    server.wait()
    server.stdout.close()
    for _ in range(400):
        if not alive(pids):
            return
        subprocess.run(["sleep", "0.05"], check=True)
    raise AssertionError("a process lives on")


async def test_a_command_has_ended_when_it_has_ended(pids: Path) -> None:
    """What it leaves behind is killed, and is not waited for."""
    script = 'sleep 600 & echo $! >>"$1"; echo done; exit 3'
    run = processes.run(("sh", "-c", script, "sh", str(pids)), cwd=None, env=None, on_line=lambda line: None)
    finished = await asyncio.wait_for(run, 20)
    assert finished == processes.Finished(3, "done\n")
    assert alive(pids) == []


async def test_a_command_ended_by_a_signal_says_so() -> None:
    """The status is 128 and the signal, and 127 for what cannot be run."""
    for script, status in (("kill -KILL $$", 137), ("kill -TERM $$", 143)):
        finished = await processes.run(("sh", "-c", script), cwd=None, env=None, on_line=lambda line: None)
        assert finished.status == status
    finished = await processes.run(("no-such-command",), cwd=None, env=None, on_line=lambda line: None)
    assert finished.status == 127 and "no-such-command" in finished.output


async def test_a_line_is_one_line() -> None:
    """However it is written: in pieces, with half characters between them, long, or without an end."""
    script = """
import sys, time
half, other = "é".encode()[:1], "é".encode()[1:]
for piece in (half, other + b"!\\r\\n", b"10%\\r20%\\r", b"\\xff\\n", b"x" * 100_000 + b"\\n", b"end"):
    sys.stdout.buffer.write(piece)
    sys.stdout.flush()
    time.sleep(0.1)
"""
    lines: list[str] = []
    finished = await processes.run((sys.executable, "-c", script), cwd=None, env=None, on_line=lines.append)
    assert finished.status == 0
    assert [line for line in lines if "x" not in line] == ["é!", "10%", "20%", "�", "end"]
    assert "".join(line for line in lines if "x" in line) == "x" * 100_000


def main() -> None:
    """Be a server that runs a command: for the test that kills it."""

    async def run() -> None:
        await processes.run(
            ("sh", "-c", sys.argv[1], "sh", sys.argv[2]),
            cwd=None,
            env=None,
            on_line=lambda line: print(line, flush=True),
        )

    asyncio.run(run())


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
