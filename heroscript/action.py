"""`Action`: one `!!actor.name` with its parameters."""

from dataclasses import dataclass, field
from enum import Enum

from heroscript.params import Params
from heroscript.writer import action_text

DEFAULT_PRIORITY = 50


class ActionType(Enum):
    """What the number of `!` in front of an action means. Source: heroscript.md 2."""

    DAL = 1
    SAL = 2
    MACRO = 3
    WAL = 4

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(slots=True)
class Action:
    """One action of a playbook. Two are equal when everything that was written is; where it was written does not count.

    `id` counts from 1 over the whole playbook. `given_id` is the value of a parameter `id`, which is reserved.
    `done` and `result` are for whoever executes it.
    """

    id: int
    actor: str
    name: str
    type: ActionType
    params: Params
    comments: str = ""
    priority: int = DEFAULT_PRIORITY
    done: bool = False
    result: Params | None = None
    file: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)
    given_id: str | None = field(default=None, compare=False)

    @property
    def title(self) -> str:
        """`actor.name`."""
        return f"{self.actor}.{self.name}"

    def heroscript(self) -> str:
        """Write the action so that reading it gives the same again, comments included."""
        head = f"{'!' * self.type.value}{self.actor}.{self.name} id:{self.id}"
        return action_text(head, self.comments, self.params.items(), self.params.args, self.params.arg_comments)

    def __str__(self) -> str:
        text = self.heroscript()
        return f"{text}\nResult:\n{self.result.heroscript()}\n" if self.result is not None else text
