"""What is taken away in pieces: no transaction changes more rows the more there are. Few go at once, as ever."""

from store import Tx

PIECE = 200  # rows, or things with a few rows each: some milliseconds


def are_many(tx: Tx, table: str, column: str, value: str) -> bool:
    """Tell whether there are more rows of this value than are taken away at once."""
    found = tx.one(f"SELECT 1 FROM {table} WHERE {column} = ? LIMIT 1 OFFSET ?", value, PIECE)  # noqa: S608 (constants)
    return found is not None
