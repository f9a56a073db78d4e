"""Drives a coroutine whose first stretch was run by hand, outside of any task's own turn."""

import types
from collections.abc import Coroutine, Generator
from typing import Any


@types.coroutine
def go_on(work: Coroutine[Any, Any, Any], awaited: Any) -> Generator[Any, Any, Any]:
    """Await the rest of a coroutine that has been started by hand and now waits for `awaited`."""
    while True:
        try:
            yield awaited
        except BaseException as error:
            # What it waited for failed, or it is cancelled: it may know what to do about it, and wait for that.
            try:
                awaited = work.throw(error)
            except StopIteration as done:
                return done.value
        else:
            return (yield from work.__await__())
