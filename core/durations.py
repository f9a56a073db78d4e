"""How long something may take or wait, in seconds: from a millisecond to a hundred years. Clients load it, too."""

from typing import Annotated

from pydantic import AfterValidator, Field

SHORTEST_S = 0.001
LONGEST_S = 100 * 365 * 24 * 3600.0


def is_duration(seconds: float) -> bool:
    """Tell whether so many seconds are a duration."""
    return SHORTEST_S <= seconds <= LONGEST_S


def none_or_some(seconds: float) -> float:
    """Return the seconds: none, or a duration. Raises ValueError."""
    if seconds and not is_duration(seconds):
        raise ValueError(f"it is 0, or from {SHORTEST_S:g} to {LONGEST_S:.0f} seconds")
    return seconds


Duration = Annotated[float, Field(ge=SHORTEST_S, le=LONGEST_S)]
Pause = Annotated[float, Field(ge=0, le=LONGEST_S), AfterValidator(none_or_some)]
