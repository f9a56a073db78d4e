"""How fast heroscript is read, ordered and written: `python -m benchmarks.heroscript [ACTIONS ...]`.

Prints, for each size, the whole process from start to end, the actions a second, the peak memory, and the times of
`heroscript()` and `filtersort`. The text is that of the conformance corpus's generator when it lies beside the
project, else of the same mix made here.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

GENERATOR = Path(__file__).parents[2] / "shared" / "heroscript" / "gen_playbook.py"
SIZES = (10_000, 20_000, 100_000)
PRIORITIES = {1: "core:*", 5: "site:*", 10: "git:*", 40: "tmux:configure", 60: "dns:*"}
WORDS = "amber birch cedar delta ember fjord grove harbour island jetty kelp lagoon".split()


def own_text(actions: int) -> str:
    """Make a playbook: 3 to 6 parameters an action, some lists, blocks, comments, arguments and non-ASCII letters."""
    rng = random.Random(1)

    def words(low: int, high: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(low, high)))

    def value() -> str:
        makers: list[Callable[[], str]] = [
            lambda: rng.choice(WORDS) + str(rng.randint(0, 999)),
            lambda: f"'{words(2, 7)}'",
            lambda: f"'{words(2, 7)}'",
            lambda: f'"{words(3, 3)}"',
            lambda: f"'https://host.example/{rng.choice(WORDS)}'",
            lambda: f"/tmp/{rng.choice(WORDS)}",
            lambda: ", ".join(f"'{word}'" for word in rng.sample(WORDS, 3)),
            lambda: ",".join(rng.sample(WORDS, 3)),
            lambda: rng.choice(["true", "0", "10GB", "'+1h'", "'héllo wörld'", "'日本語 テキスト'"]),
        ]
        return rng.choice(makers)()

    def item(number: int, is_inline: bool) -> str:
        if rng.random() < 0.08:
            lines = "".join(f"        {words(3, 9)}\n" for _ in range(rng.randint(2, 5)))
            return f"\n    key{number}:'\n{lines}        '"
        comment = f" // {rng.choice(WORDS)}" if not is_inline and rng.random() < 0.05 else ""
        return f"{' ' if is_inline else chr(10) + '    '}key{number}:{value()}{comment}"

    parts = []
    for number in range(actions):
        if rng.random() < 0.1:
            parts.append(f"// action {number}: {words(4, 4)}\n")
        parts.append(f"!!{rng.choice(['site', 'git', 'tmux', 'dns', 'core'])}.{rng.choice(['add', 'define', 'start'])}")
        parts.append(f" {rng.choice(WORDS)}" if rng.random() < 0.1 else "")
        is_inline = rng.random() < 0.3
        for key in range(rng.randint(3, 6)):
            parts.append(item(key, is_inline))
            is_inline = is_inline and not parts[-1].endswith("\n        '")  # nothing stands behind a block
        parts.append("\n\n")
    return "".join(parts)


def corpus_text(actions: int) -> str:
    """Give the text of the corpus's generator, or of our own."""
    if not GENERATOR.exists():
        return own_text(actions)
    command = [sys.executable, str(GENERATOR), str(actions), "1"]
    return subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout


def measure_here(path: str) -> None:
    """Read the file, then time ordering and writing it; prints the figures as JSON."""
    from heroscript import PlayBook, parse

    if len(sys.argv) > 3:
        parse(Path(path).read_text("utf-8"))
        return
    book = PlayBook(Path(path).read_text("utf-8"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    times = {}
    for name, work in (("filtersort", lambda: book.filtersort(PRIORITIES)), ("heroscript", book.heroscript)):
        began = time.perf_counter()
        work()
        times[name] = time.perf_counter() - began
    print(json.dumps({"actions": len(book), "peak_mb": peak, **times}))


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(sizes: list[int]) -> None:
    """Measure every size in processes of its own, taking the best of three."""
    print("actions   text MB   process s   cpu s   actions/s   peak MB   filtersort s   heroscript() s")
    for size in sizes:
        with tempfile.NamedTemporaryFile("w", suffix=".hero", encoding="utf-8") as file:
            text = corpus_text(size)
            file.write(text)
            file.flush()
            command = [sys.executable, "-m", "benchmarks.heroscript", "--measure", file.name]
            process, cpu = [], []
            for _ in range(3):
                began, used = time.perf_counter(), _children_cpu_s()
                subprocess.run([*command, "parse only"], check=True)
                process.append(time.perf_counter() - began)
                cpu.append(_children_cpu_s() - used)
            found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        best = min(process)
        print(
            f"{found['actions']:>7} {len(text.encode()) / 1e6:>9.1f} {best:>11.2f} {min(cpu):>7.2f}"
            f" {found['actions'] / best:>11,.0f} {found['peak_mb']:>9}"
            f" {found['filtersort']:>14.3f} {found['heroscript']:>17.2f}"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure_here(sys.argv[2])
    else:
        main([int(size) for size in sys.argv[1:]] or list(SIZES))
