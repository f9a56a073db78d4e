"""What the world can refuse.

CoreError
├── NotFound               unknown, or not readable by the caller: the same answer
│   ├── SetNotFound
│   │   └── NoWay          nothing to go back, forward or up to
│   ├── TokenNotFound
│   └── UserNotFound
├── NotWritable            readable, but not the caller's to change
├── Refused                a place says no
│   ├── EnterRefused
│   └── LeaveRefused
├── NameTaken              a user of that name exists
├── BadName                the name cannot be used
├── SetCycle               a set would become its own ancestor
├── SetNotEmpty            the set still has children, or visitors from other users
├── AlreadyMember          the token stands in that set already
├── NotMember              the token does not stand in that set
├── TokenInUse             the token defines a set or is a user's: it cannot be deleted
└── UndeclaredCall         a job made a core call it did not declare
"""


class CoreError(Exception):
    """The core refused the call."""


class NotFound(CoreError):
    """There is no such thing, or it is not yours to see."""

    noun = "thing"

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f"No {self.noun} {id!r} that you can see. Ids are listed by session.ls and sessions.list.")


class SetNotFound(NotFound):
    """There is no such set, or it is not yours to see."""

    noun = "set"


class NoWay(SetNotFound):
    """There is no set to go to in that direction."""

    def __init__(self, direction: str) -> None:
        self.id = direction
        CoreError.__init__(self, f"There is no set to go to {direction} from here. Look around with session.ls.")


class TokenNotFound(NotFound):
    """There is no such token here, or it is not yours to see."""

    noun = "token"


class UserNotFound(NotFound):
    """There is no such user."""

    noun = "user"


class NotWritable(CoreError):
    """You may read this but not change it."""

    def __init__(self, id: str, name: str) -> None:
        self.id = id
        super().__init__(f"You may read {name!r} but not change it: ask its owner for the right to write.")


class Refused(CoreError):
    """A place said no. Nothing was changed."""

    verb = "use"

    def __init__(self, set_id: str, set_name: str, rule: str, message: str) -> None:
        self.set_id = set_id
        self.set_name = set_name
        self.rule = rule
        self.message = message
        super().__init__(f"{set_name!r} does not let you {self.verb}: {message}")


class EnterRefused(Refused):
    """A set refused to be entered."""

    verb = "in"


class LeaveRefused(Refused):
    """A set refused to be left."""

    verb = "out"


class NameTaken(CoreError):
    """The name is taken."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"The name {name!r} is taken: choose another.")


class BadName(CoreError):
    """The name cannot be used."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(f"The name {name[:80]!r} cannot be used: {reason}")


class SetCycle(CoreError):
    """A set cannot become its own ancestor."""

    def __init__(self, set_id: str) -> None:
        self.set_id = set_id
        super().__init__("A set cannot become a child of itself or of a set below it.")


class SetNotEmpty(CoreError):
    """The set still holds child sets or other users' sessions."""

    def __init__(self, set_id: str, what: str) -> None:
        self.set_id = set_id
        super().__init__(f"The set still holds {what}: move or delete them first.")


class AlreadyMember(CoreError):
    """The token stands in that set already."""

    def __init__(self, set_id: str, token_id: str) -> None:
        self.set_id, self.token_id = set_id, token_id
        super().__init__("The token stands in that set already.")


class NotMember(CoreError):
    """The token does not stand in that set, or cannot be taken out."""

    def __init__(self, set_id: str, token_id: str) -> None:
        self.set_id, self.token_id = set_id, token_id
        super().__init__("The token does not stand in that set, or its place there is permanent.")


class TokenInUse(CoreError):
    """The token cannot be deleted."""

    def __init__(self, token_id: str) -> None:
        self.token_id = token_id
        super().__init__("The token defines a set or belongs to a user: delete the set first.")


class UndeclaredCall(CoreError):
    """A job made a core call it did not declare."""

    def __init__(self, job: str, call: str) -> None:
        self.job, self.call = job, call
        super().__init__(f"Job {job!r} made the core call {call!r} without declaring it: add it to its calls.")
