"""How long texts of one kind take to read: `python -m benchmarks.shapes [MEGABYTES ...]`.

Prints, for each kind and size, the seconds of a core that reading took, and the peak memory of the process that did it.
Twice the text should take twice the time, whatever it is made of.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable

from heroscript import ParseError, parse

SIZES = ("12.5", "25", "50", "100")


def _again(piece: str) -> Callable[[int], str]:
    return lambda characters: piece * (characters // len(piece))


SHAPES: dict[str, Callable[[int], str]] = {
    "many actions": _again("!!site.page name:alpha title:'two words' // c\n    path:/tmp/x tags:a,b,c\n\n"),
    "many parameters": lambda size: (
        "!!a.b\n"
        + "".join(f"  key{number}:value{number} other{number}:'two words {number}'\n" for number in range(size // 57))
    ),
    "many arguments": lambda size: "!!a.b " + " ".join(f"a{number}" for number in range(size // 9)),
    "one value": lambda size: "!!a.b k:'" + "x y " * (size // 4) + "' j:1\n",
    "one block": lambda size: (
        f"!!a.b\n  k:'\n{_again('    some line of a text, it is long' + chr(10))(size)}    '\n  j:1\n"
    ),
    "one comment": lambda size: f"// {'comment ' * (size // 8)}\n!!a.b k:1\n",
    "many blocks": _again("!!a.b\n  k:'\n    one\n    '\n"),
    "open quotes": _again("!!a.b k:'x y\n"),
}


def measure(shape: str, megabytes: str) -> None:
    """Read one text and print what it took."""
    text = SHAPES[shape](int(float(megabytes) * 1_000_000))
    began = time.process_time()
    try:
        read = f"{len(parse(text).actions):,} actions"
    except ParseError as error:
        read = f"{len(error.mistakes):,} mistakes"
    took = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"| {shape} | {len(text) / 1e6:.1f} | {took:.2f} | {peak:,} | {read} |", flush=True)


def main(arguments: list[str]) -> None:
    """Measure every shape in every size, each in a process of its own."""
    if arguments[:1] == ["--one"]:
        measure(*arguments[1:])
        return
    print("| text | MB | cpu s | peak MB | read |\n|---|---|---|---|---|", flush=True)
    for shape in SHAPES:
        for size in arguments or SIZES:
            subprocess.run([sys.executable, "-m", "benchmarks.shapes", "--one", shape, size], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
