"""A world in memory: users, and calls in their names, without a writer thread in between."""

import sqlite3
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from core import users
from core.calls import CoreCall, Scene
from core.users import User
from store.migrate import apply, schema_path
from store.tx import SqliteTx
from tests.clocks import SetClock

P = ParamSpec("P")
T = TypeVar("T")


class World:
    """An empty world with as many users as one names; a call that raises leaves nothing behind."""

    def __init__(self, *names: str) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        apply(self.connection, schema_path().read_text("utf-8"), 1)
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.clock = SetClock()
        self.tx = SqliteTx(self.connection, self.clock)
        self.users: dict[str, User] = {name: users.create(Scene(self.tx, "operator"), name) for name in names}

    def scene(self, name: str) -> Scene:
        """Return the scene of a user."""
        return Scene(self.tx, self.users[name].id)

    def do(
        self, user: str, call: CoreCall[P, T] | Callable[Concatenate[Scene, P], T], /, *a: P.args, **k: P.kwargs
    ) -> T:
        """Make a call in a user's name, all of it or nothing."""
        self.connection.execute("SAVEPOINT one")
        try:
            answer = call(self.scene(user), *a, **k)
        except BaseException:
            self.connection.execute("ROLLBACK TO one")
            raise
        finally:
            self.connection.execute("RELEASE one")
        return answer

    def home(self, name: str) -> str:
        """Return the home set of a user."""
        return self.users[name].home_set_id

    def all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return rows."""
        return self.tx.all(sql, *values)

    def close(self) -> None:
        """Forget it."""
        self.connection.close()
