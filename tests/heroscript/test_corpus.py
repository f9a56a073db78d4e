"""The public half of the conformance corpus when it lies beside the project, else a few entries of our own."""

from typing import Any

import pytest

from heroscript.conformance import actual
from tests.heroscript.corpus import CORPUS, entries, is_met, own_entries, survives_the_round_trip

ENTRIES = entries()


def test_says_whether_the_corpus_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    """Without the corpus the entries below are our own, and the run says so."""
    with capsys.disabled():
        if not CORPUS.exists():
            print("\nThe conformance corpus is not beside the project: only entries of our own are run.")
    assert (ENTRIES != own_entries()) == CORPUS.exists()


@pytest.mark.parametrize("entry", [pytest.param(entry, id=f"{entry['kind']}-{entry['id']}") for entry in ENTRIES])
def test_meets_the_policy_of_an_entry(entry: dict[str, Any]) -> None:
    """What is made of an entry is what its policy asks for; a text that is read can be written and read again."""
    made = actual(entry["kind"], entry["input"])
    assert is_met(entry, made), made
    if made["ok"] and entry["kind"] in ("playbook", "params"):
        assert survives_the_round_trip(entry)
