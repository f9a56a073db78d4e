"""No text, however it is made, takes more time or memory than its size explains."""

import os
import time
from pathlib import Path

import pytest

from heroscript import ParseError, PlayBook
from heroscript.errors import TooLarge
from heroscript.parser import Limits
from tests.heroscript.test_playbook import write


@pytest.mark.parametrize(
    "words",
    [
        {f"W{number}": f"@W{number + 1}x@W{number + 1}x" for number in range(60)},
        {"W0": "x" * 100_000_000},
        {str(number): "" for number in range(1001)},
    ],
)
def test_words_do_not_fill_the_memory(words: dict[str, str]) -> None:
    """Words that hold words, a huge one, or too many are refused before they are put in."""
    with pytest.raises(TooLarge):
        PlayBook().add("!!a.b k:@W0", replace=words)


def test_reads_no_more_than_its_limits(tmp_path: Path) -> None:
    """Actions and bytes of all files together, those that are included too; what is over is not even read."""
    write(tmp_path, {"a.hero": "!!a.b\n" * 5, "main.hero": "!!x.y\n!!play.include path:a.hero\n"})
    (tmp_path / "huge.hero").touch()
    os.truncate(tmp_path / "huge.hero", 1 << 40)
    enough = Limits(actions=7, bytes=100)
    book = PlayBook(limits=enough, roots=[tmp_path])
    assert len(book.add(path=tmp_path / "main.hero", follow=lambda _: True)) == 7
    for limits in (Limits(actions=6), Limits(bytes=60)):
        book = PlayBook(limits=limits, roots=[tmp_path])
        with pytest.raises(TooLarge, match="the most allowed"):
            book.add(path=tmp_path / "main.hero", follow=lambda _: True)
        assert len(book) == 0
    for given in ({"text": "!!a.b\n" * 1_000_000}, {"path": tmp_path / "huge.hero"}, {"path": tmp_path}):
        began = time.process_time()
        with pytest.raises(TooLarge):
            PlayBook(limits=enough).add(**given)
        assert time.process_time() - began < 1


def test_keeps_a_bounded_number_of_mistakes() -> None:
    """A text that is wrong all over tells its first ten thousand."""
    with pytest.raises(ParseError) as raised:
        PlayBook("!!a.b @\n" * 20_000)
    assert len(raised.value.mistakes) == 10_000 and raised.value.mistakes[-1].line == 10_000


def test_merging_many_parameters_takes_linear_time() -> None:
    """Also when every action brings keys and arguments of its own."""
    book = PlayBook("".join(f"!!a.b k{number}:1 x/{number}:2 arg{number}\n" for number in range(20_000)))
    began = time.process_time()
    merged = book.params_get("a.*")
    assert time.process_time() - began < 2
    assert len(merged) == 40_000 and len(merged.args) == 20_000
    assert merged.get("x/19999") == "2" and merged.get("X,/7") == "2" and not merged.exists("x/20000")
