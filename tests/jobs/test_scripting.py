"""The sandbox: what a script can do, what it cannot, and what becomes of one that goes too far."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import ScriptFailed, ScriptLimit, ScriptsUnavailable
from jobs.scripts.engine import MontyEngine, ScriptLimits

INPUTS: dict[str, Any] = {"value": 2, "local": {"n": 1}, "state": {}}


@pytest.fixture
async def engine() -> AsyncIterator[MontyEngine]:
    """An engine with one worker and small limits."""
    made = MontyEngine(ScriptLimits(output_bytes=2000, waiting_per_user=5))
    yield made
    await made.close()


async def test_the_last_expression_is_the_answer(engine: MontyEngine) -> None:
    """A script sees its variables, answers with its last expression, and what it kept comes back."""
    text = "local['n'] += value\nif local['n'] > 2:\n    print('big')\n(  # a comment\n  local['n'] * 10\n)"
    outcome = await engine.run(text, INPUTS, ("local",), "anna")
    assert (outcome.value, outcome.kept, outcome.printed) == (30, {"local": {"n": 3}}, "big\n")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", None),
        ("x = 1", None),
        ("'é'; value", 2),
        ("def f(a):\n    return a + 1\nf(value)", 3),
        ("[1, {'a': None}]", [1, {"a": None}]),
    ],
)
async def test_scripts_of_every_shape(engine: MontyEngine, text: str, answer: Any) -> None:
    """None without an expression at the end; several statements on a line; functions; JSON of any depth."""
    assert (await engine.run(text, INPUTS, (), "anna")).value == answer


@pytest.mark.parametrize(
    "text",
    [
        "while True: pass",
        "'x' * 10**9",
        "9**9**9",
        "def f(): return f()\nf()",
        "'x' * 3000",
        "print('x' * 3000)",
        "[0] * 10**8",
        "for n in range(200):\n  try:\n    open(str(n))\n  except Exception:\n    pass",
    ],
)
async def test_one_that_uses_too_much_is_stopped(engine: MontyEngine, text: str) -> None:
    """Time, memory, depth, answer and print are bounded, and the next script runs."""
    with pytest.raises(ScriptLimit):
        await engine.run(text, INPUTS, (), "anna")
    assert (await engine.run("value", INPUTS, (), "anna")).value == 2


@pytest.mark.parametrize(
    "text",
    [
        "1 / 0",
        "x = (",
        "unknown",
        "open('/etc/passwd').read()",
        "import os\nos.system('id')",
        "import subprocess",
        "import socket",
        "().__class__.__bases__[0].__subclasses__()",
        "(lambda: 0).__globals__",
        "float('nan')",
        "{1, 2}",
        "print",
    ],
)
async def test_one_that_fails_says_why(engine: MontyEngine, text: str) -> None:
    """What it may not reach, what does not parse, what it raises, and answers that are not JSON."""
    with pytest.raises(ScriptFailed):
        await engine.run(text, INPUTS, (), "anna")


CANARY = "the-canary-sings"
# What is tried to get out of the sandbox; `{file}` holds the canary, and so does the environment.
ESCAPES = (
    *("open('{file}').read()", "open('{file}', 'w')", "with open('{file}') as f:\n    f.read()", "input()", "exit()"),
    *("__import__('os').environ", "__builtins__", "__builtins__['open']", "globals()", "locals()", "vars()", "dir()"),
    *(
        "import os\nos.environ",
        "import os\nos.environ['CANARY']",
        "import os\nos.getenv('CANARY')",
        "import sys\nsys.modules",
    ),
    *("from os import environ\nenviron", "import os.path", "import importlib", "import ctypes", "import builtins"),
    *(
        "import socket\nsocket.socket()",
        "import subprocess\nsubprocess.run('id')",
        "import threading",
        "import asyncio",
    ),
    *("from pathlib import Path\nPath('{file}').read_text()", "from pathlib import Path\nlist(Path('/').iterdir())"),
    *("from pathlib import Path\nPath('{file}').unlink()", "from pathlib import Path\nPath('{file}').write_text('x')"),
    *("eval('1+1')", "exec('x=1')", "compile('1', '', 'eval')", "getattr('', '__class__')", "setattr(1, 'a', 2)"),
    *("''.__class__", "().__class__.__mro__", "[].__class__.__base__.__subclasses__()", "type('X', (), {{}})"),
    *("type(1).__subclasses__()", "(lambda: 0).__code__", "(lambda: 0).__globals__", "(x for x in ()).gi_frame"),
    *("def f(): pass\nf.__globals__", "def f(): pass\nf.__code__", "print.__self__", "len.__module__", "open.__self__"),
    *("'{{0.__class__}}'.format(1)", "'{{0.__class__.__init__.__globals__}}'.format(1)", "f'{{().__class__}}'"),
    *("'%(a)s' % __builtins__", "try:\n    1/0\nexcept Exception as e:\n    e.__traceback__.tb_frame.f_globals"),
    *("class A:\n    pass\nA().__dict__", "class A:\n    def __del__(self):\n        open('{file}')\nA()"),
    *(
        "import gc",
        "import inspect",
        "import pickle",
        "import marshal",
        "import mmap",
        "import signal",
        "import resource",
    ),
    *("async def f():\n    open('{file}')\nf()", "breakpoint()", "help()", "memoryview(b'x')", "object()", "super()"),
    *("import typing\ntyping.sys", "import re\nre.sys", "import json\njson.codecs", "import datetime\ndatetime.sys"),
    *("value.__class__", "local.__class__", "local['f'] = open", "[open][0]('{file}')", "[*map(open, ['{file}'])]"),
)
INSIDES = ("class", "globals", "code", "builtins", "subclasses", "getattribute", "reduce", "init", "dict")
ESCAPES += tuple(
    f"({one}).__{name}__" for one in ("value", "''", "()", "len", "open", "lambda: 0", "print") for name in INSIDES
)


async def test_nothing_gets_out(engine: MontyEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, the environment, modules, frames and classes: refused, or harmless; file and worker stay."""
    monkeypatch.setenv("CANARY", CANARY)
    file = tmp_path / "canary"
    file.write_text(CANARY)
    await engine.run("1", INPUTS, (), "anna")
    for escape in ESCAPES:
        try:
            outcome = await engine.run(escape.format(file=file), INPUTS, ("local",), "anna")
        except (ScriptFailed, ScriptLimit) as error:
            assert CANARY not in str(error), escape
        else:
            assert CANARY not in repr(outcome) and "object at 0x" not in repr(outcome), escape
    assert file.read_text() == CANARY and os.listdir(tmp_path) == ["canary"]
    assert (await engine.run("value", INPUTS, (), "anna")).value == 2


async def test_a_worker_that_dies_fails_that_script_alone() -> None:
    """A killed worker is an error of the script it ran; the next one gets another."""
    engine = MontyEngine(ScriptLimits(timeout_s=30))  # longer than the kill can take
    before = _children()
    await engine.run("1", {}, (), "anna")
    workers = [pid for pid in _children() - before if "monty" in _command(pid)]
    assert len(workers) == 1
    assert os.getpriority(os.PRIO_PROCESS, workers[0]) > os.getpriority(os.PRIO_PROCESS, 0)
    running = asyncio.create_task(engine.run("while True: pass", {}, (), "anna"))
    await asyncio.to_thread(_until_busy, workers[0])
    os.kill(workers[0], signal.SIGKILL)
    with pytest.raises(ScriptFailed, match="worker died"):
        await running
    assert (await engine.run("1 + 1", {}, (), "anna")).value == 2
    await engine.close()


async def test_a_user_has_so_many_waiting(engine: MontyEngine) -> None:
    """One runs and five wait; more are refused at once, and others' scripts are not."""
    loops = [asyncio.create_task(engine.run("while True: pass", {}, (), "anna")) for _ in range(6)]
    await asyncio.sleep(0)
    with pytest.raises(ScriptLimit, match="wait already"):
        await engine.run("1", {}, (), "anna")
    assert (await engine.run("1", {}, (), "bob")).value == 1
    stopped = await asyncio.gather(*loops, return_exceptions=True)
    assert all(isinstance(one, ScriptLimit) for one in stopped)


async def test_one_users_scripts_run_one_after_another() -> None:
    """Even where two could run at once: his second waits for his first, another's does not."""
    engine = MontyEngine(ScriptLimits(timeout_s=0.5, processes=2))
    ended: list[str] = []

    async def run(name: str, text: str, user: str) -> None:
        try:
            await engine.run(text, {}, (), user)
        except ScriptLimit:
            name += " (stopped)"
        ended.append(name)

    await engine.run("1", {}, (), "carl")
    await asyncio.gather(run("first", "while True: pass", "anna"), run("second", "1", "anna"), run("other", "1", "bob"))
    assert ended == ["other", "first (stopped)", "second"]
    await engine.close()


async def test_without_the_sandbox_a_script_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without the extra answers with an error that names it."""
    monkeypatch.setitem(__import__("sys").modules, "pydantic_monty", None)
    engine = MontyEngine(ScriptLimits())
    with pytest.raises(ScriptsUnavailable, match=r"rpcserver\[scripts\]"):
        await engine.run("1", {}, (), "anna")
    await engine.close()


def _children() -> set[int]:
    own = Path(f"/proc/{os.getpid()}/task")
    found = [path.read_text().split() for path in own.glob("*/children")]
    return {int(pid) for pids in found for pid in pids}


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def _until_busy(pid: int) -> None:
    # The worker has begun to compute when it has used processor time of its own.
    def used() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    start = used()
    while used() <= start:
        os.sched_yield()
