"""The public half of the conformance corpus, when it lies beside the project."""

from typing import Any

import pytest

from play.conformance import actual
from tests.play.corpus import CORPUS, entries, is_met, survives_the_round_trip

ENTRIES = entries()


def test_says_whether_the_corpus_is_there() -> None:
    """Either every entry below is run, or the corpus is absent and the project's own cases are all there is."""
    print(f"corpus {CORPUS}: {len(ENTRIES)} entries" if ENTRIES else f"corpus {CORPUS} is absent: own cases only")
    assert bool(ENTRIES) == CORPUS.exists()


@pytest.mark.parametrize("entry", [pytest.param(entry, id=f"{entry['kind']}-{entry['id']}") for entry in ENTRIES])
def test_meets_the_policy_of_an_entry(entry: dict[str, Any]) -> None:
    """What is made of an entry is what its policy asks for; a text that is read can be written and read again."""
    made = actual(entry["kind"], entry["input"])
    assert is_met(entry, made), made
    if made["ok"] and entry["kind"] in ("playbook", "params"):
        assert survives_the_round_trip(entry)
