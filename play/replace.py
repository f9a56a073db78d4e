"""Replacing words in a text before it is read. Source: heroscript specification, section 6."""

from collections.abc import Mapping

from play.errors import TooLarge

_MAX_WORDS = 1000
_MAX_CHARACTERS = 64 * 1024 * 1024  # a few words that hold each other would fill any memory


def replaced(text: str, words: Mapping[str, str], max_characters: int = _MAX_CHARACTERS, file: str = "") -> str:
    """Put every word, one after another, in the place of `@key`, `${key}` and `{key}`.

    A key that itself begins with `@ $ [ {` is replaced as it stands. No boundaries: `@NAMES` is the word of `NAME`
    and an `S`. What one word brings in, those after it replace.

    Args:
        max_characters: how long the text may grow; longer than it is already it may always be.
        file: the name that errors carry.

    Raises:
        TooLarge: there are more than 1,000 words, or the text would grow too long; it says in which line that began.
    """
    if len(words) > _MAX_WORDS:
        raise TooLarge(f"There are {len(words)} words to be replaced, the most allowed are {_MAX_WORDS}.")
    for key, word in words.items():
        if key:
            for target in (key,) if key[0] in "@$[{" else ("@" + key, "${" + key + "}", "{" + key + "}"):
                grown = len(text) + text.count(target) * (len(word) - len(target))
                if grown > max(max_characters, len(text)):
                    line = text.count("\n", 0, text.find(target)) + 1
                    raise TooLarge(
                        f"{file or '<text>'}:{line}: with the word {key[:40]!r} in its places the playbook has more"
                        f" than the {max_characters} characters there is room for: split it."
                    )
                text = text.replace(target, word)
    return text
