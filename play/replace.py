"""Replacing words in a text before it is read. Source: heroscript specification, section 6."""

import re
from collections.abc import Mapping


def replaced(text: str, words: Mapping[str, str]) -> str:
    """Put every word in the place of `@key`, `${key}` and `{key}`.

    A key that itself begins with `@ $ [ {` is replaced as it stands. No boundaries: `@NAMES` is the word of `NAME`
    and an `S`. What a word brings in is not replaced again.
    """
    targets: dict[str, str] = {}
    for key, word in words.items():
        if key:
            for target in (key,) if key[0] in "@$[{" else ("@" + key, "${" + key + "}", "{" + key + "}"):
                targets[target] = word
    if not targets:
        return text
    longest_first = sorted(targets, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda found: targets[found[0]], text)
