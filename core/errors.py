"""What the world can refuse.

CoreError
├── NotFound               unknown, or not readable by the caller: the same answer
│   ├── SetNotFound
│   │   └── NoWay          nothing to go back, forward or up to
│   ├── TokenNotFound
│   ├── UserNotFound
│   ├── GroupNotFound
│   ├── TypeNotFound
│   ├── AttributeNotFound
│   ├── ScriptNotFound
│   ├── RemoteNotFound
│   ├── ActivityNotFound
│   ├── RuleNotFound
│   └── GiftNotFound
├── NotWritable            readable, but not the caller's to change
├── AttributeNotWritable   the attribute cannot be written here and now, by this caller
├── AttributeNotReadable   the attribute cannot be read here and now, by this caller
├── BadValue               the value does not fit its attribute
├── BadAttribute           the attribute cannot be declared so
├── BadRule                the rule, or what it decides by, makes no sense
├── BadScript              the script does not parse, or remembers too much
├── BadRemote              the remote's definition makes no sense
├── TypeClosed             the type is frozen, retired, standard, or not the caller's to use
├── SourceClosed           the script or remote is retired: nothing new may use it
├── ChecksumMismatch       the token was changed since the caller looked
├── PassageChanged         rules that ask outside have not been asked: ask them and try again
├── Refused                a place or a rule says no
│   ├── EnterRefused
│   ├── LeaveRefused
│   └── EventRefused
├── NameTaken              something of that name exists
│   └── UserExists             a user of that name exists
├── BadName                the name cannot be used
├── SetCycle               a set would become its own ancestor
├── SetNotEmpty            the set still has children, or visitors from other users
├── HomeStays              the set is a user's home
├── AlreadyMember          the token stands in that set already
├── NotMember              the token does not stand in that set
├── TokenInUse             the token defines a set or is a user's: it cannot be deleted or given away
├── TooMany                a set, token or type has as many of these as it may have
├── QuotaExceeded          a user keeps as much as one may
├── StillUsed              something else refers to it
├── OwnGroup               the group is a user's own: it stays, and they stay an admin of it
└── UndeclaredCall         a job made a core call it did not declare
"""

from typing import ClassVar


class CoreError(Exception):
    """The core refused the call."""

    code: ClassVar[str]  # the name of the code that a client is told
    kind: ClassVar[str]  # what a client can tell it by; one without is an error of the server's
    is_retryable: ClassVar[bool] = False


class NotFound(CoreError):
    """There is no such thing, or it is not yours to see."""

    code = "NOT_FOUND"
    noun = "thing"

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f"No {self.noun} {id!r} that you can see. Ids are listed by session.ls and sessions.list.")


class SetNotFound(NotFound):
    """There is no such set, or it is not yours to see."""

    kind = "SET_NOT_FOUND"
    noun = "set"


class NoWay(SetNotFound):
    """There is no set to go to in that direction."""

    def __init__(self, direction: str) -> None:
        self.id = direction
        CoreError.__init__(self, f"There is no set to go to {direction} from here. Look around with session.ls.")


class TokenNotFound(NotFound):
    """There is no such token here, or it is not yours to see."""

    kind = "TOKEN_NOT_FOUND"
    noun = "token"


class UserNotFound(NotFound):
    """There is no such user."""

    kind = "USER_NOT_FOUND"
    noun = "user"


class GroupNotFound(NotFound):
    """There is no such group, or you are not in it."""

    kind = "GROUP_NOT_FOUND"
    noun = "group"


class TypeNotFound(NotFound):
    """There is no such type."""

    kind = "TYPE_NOT_FOUND"
    noun = "type"


class AttributeNotFound(NotFound):
    """The token has no such attribute, or it is not yours to see."""

    kind = "ATTRIBUTE_NOT_FOUND"
    noun = "attribute"


class ScriptNotFound(NotFound):
    """There is no such script, or it is not yours to use."""

    kind = "SCRIPT_NOT_FOUND"
    noun = "script"


class RemoteNotFound(NotFound):
    """There is no such remote, or it is not yours to use."""

    kind = "REMOTE_NOT_FOUND"
    noun = "remote"


class ActivityNotFound(NotFound):
    """There is no such activity, or it is not yours to see or answer."""

    kind = "ACTIVITY_NOT_FOUND"
    noun = "activity"


class RuleNotFound(NotFound):
    """There is no such rule, or it is not yours."""

    kind = "RULE_NOT_FOUND"
    noun = "rule"


class GiftNotFound(NotFound):
    """There is no such gift, or it is not yours."""

    kind = "GIFT_NOT_FOUND"
    noun = "gift"


class NotWritable(CoreError):
    """You may read this but not change it."""

    code = "FORBIDDEN"
    kind = "FORBIDDEN"

    def __init__(self, id: str, name: str) -> None:
        self.id = id
        super().__init__(f"You may read {name!r} but not change it: ask its owner for the right to write.")


class AttributeNotWritable(CoreError):
    """The attribute cannot be written."""

    code = "FORBIDDEN"
    kind = "ATTRIBUTE_NOT_WRITABLE"

    def __init__(self, attribute: str, reason: str) -> None:
        self.attribute, self.reason = attribute, reason
        super().__init__(f"The attribute {attribute!r} cannot be written: {reason}.")


class AttributeNotReadable(CoreError):
    """The attribute cannot be read; `is_owner`: by the one whose token it is, either."""

    code = "FORBIDDEN"
    kind = "ATTRIBUTE_NOT_READABLE"

    def __init__(self, attribute: str, reason: str, *, is_owner: bool = False) -> None:
        self.attribute, self.reason, self.is_owner = attribute, reason, is_owner
        super().__init__(f"The attribute {attribute!r} cannot be read: {reason}.")


class BadValue(CoreError):
    """The value does not fit the attribute."""

    code = "INVALID_PARAMS"
    kind = "BAD_VALUE"

    def __init__(self, attribute: str, reason: str) -> None:
        self.attribute, self.reason = attribute, reason
        super().__init__(f"The value does not fit {attribute!r}: {reason}.")


class BadAttribute(CoreError):
    """The attribute cannot be declared so."""

    code = "INVALID_PARAMS"
    kind = "BAD_ATTRIBUTE"

    def __init__(self, attribute: str, reason: str) -> None:
        self.attribute, self.reason = attribute, reason
        super().__init__(f"The attribute {attribute!r} cannot be declared so: {reason}.")


class BadRule(CoreError):
    """The rule makes no sense."""

    code = "INVALID_PARAMS"
    kind = "BAD_RULE"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"The rule cannot be used: {reason}.")


class BadScript(CoreError):
    """The script cannot be used."""

    code = "INVALID_PARAMS"
    kind = "BAD_SCRIPT"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"The script cannot be used: {reason}.")


class BadRemote(CoreError):
    """The remote makes no sense."""

    code = "INVALID_PARAMS"
    kind = "BAD_REMOTE"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"The remote cannot be used: {reason}.")


class TypeClosed(CoreError):
    """The type does not allow it."""

    code = "CONFLICT"
    kind = "TYPE_CLOSED"

    def __init__(self, type: str, reason: str) -> None:
        self.type, self.reason = type, reason
        super().__init__(f"The type {type!r} {reason}.")


class SourceClosed(CoreError):
    """The script or remote is retired."""

    code = "CONFLICT"
    kind = "SOURCE_CLOSED"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"The {kind} {name!r} is retired: nothing new may use it.")


class ChecksumMismatch(CoreError):
    """The token was changed since you looked."""

    code = "CONFLICT"
    kind = "CHECKSUM_MISMATCH"

    def __init__(self, revision: int) -> None:
        self.revision = revision
        super().__init__("The token was changed since you looked: read it again and decide anew.")


class PassageChanged(CoreError):
    """What must be asked before the move changed meanwhile. Try again."""

    code = "CONFLICT"
    kind = "PASSAGE_CHANGED"
    is_retryable = True

    def __init__(self) -> None:
        super().__init__("The rules of the place changed while they were asked: try again.")


class Refused(CoreError):
    """A place said no. Nothing was changed."""

    code = "REFUSED"
    verb = "use"

    def __init__(self, set_id: str | None, set_name: str, rule: str, message: str, refusals: int = 1) -> None:
        self.set_id = set_id
        self.set_name = set_name
        self.rule = rule
        self.message = message
        self.refusals = refusals
        super().__init__(f"{set_name!r} does not let you {self.verb}: {message}")


class EnterRefused(Refused):
    """A set refused to be entered."""

    kind = "ENTER_REFUSED"
    verb = "in"


class LeaveRefused(Refused):
    """A set refused to be left."""

    kind = "LEAVE_REFUSED"
    verb = "out"


class EventRefused(Refused):
    """A rule refused what was about to happen; `name` is what the set or token is called that it happens to."""

    kind = "EVENT_REFUSED"
    verb = "do that"

    def __init__(
        self,
        event: str,
        name: str,
        rule: str,
        message: str,
        refusals: int = 1,
        *,
        set_id: str | None = None,
        token_id: str | None = None,
    ) -> None:
        self.event, self.token_id = event, token_id
        super().__init__(set_id, name, rule, message, refusals)


class NameTaken(CoreError):
    """The name is taken."""

    code = "CONFLICT"
    kind = "NAME_TAKEN"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"The name {name!r} is taken: choose another.")


class UserExists(NameTaken):
    """There is a user of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.args = (
            f"There is a user {name!r} already: choose another name, or give that user another credential with"
            f" `rpcserver credential create {name}`.",
        )


class BadName(CoreError):
    """The name cannot be used."""

    code = "INVALID_PARAMS"
    kind = "BAD_NAME"

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(f"The name {name[:80]!r} cannot be used: {reason}")


class SetCycle(CoreError):
    """A set cannot become its own ancestor."""

    code = "CONFLICT"
    kind = "SET_CYCLE"

    def __init__(self, set_id: str) -> None:
        self.set_id = set_id
        super().__init__("A set cannot become a child of itself or of a set below it.")


class SetNotEmpty(CoreError):
    """The set still holds child sets or other users' sessions."""

    code = "CONFLICT"
    kind = "SET_NOT_EMPTY"

    def __init__(self, set_id: str, what: str) -> None:
        self.set_id = set_id
        super().__init__(f"The set still holds {what}: move or delete them first.")


class HomeStays(CoreError):
    """The set is a user's home, which stays as long as the user does."""

    code = "CONFLICT"
    kind = "HOME_STAYS"

    def __init__(self, set_id: str) -> None:
        self.set_id = set_id
        super().__init__("The set is a user's home and stays as long as the user: take out of it what is to go.")


class AlreadyMember(CoreError):
    """The token stands in that set already."""

    code = "CONFLICT"
    kind = "ALREADY_MEMBER"

    def __init__(self, set_id: str, token_id: str) -> None:
        self.set_id, self.token_id = set_id, token_id
        super().__init__("The token stands in that set already.")


class NotMember(CoreError):
    """The token does not stand in that set, or cannot be taken out."""

    code = "CONFLICT"
    kind = "NOT_MEMBER"

    def __init__(self, set_id: str, token_id: str) -> None:
        self.set_id, self.token_id = set_id, token_id
        super().__init__("The token does not stand in that set, or its place there is permanent.")


class TokenInUse(CoreError):
    """The token cannot be deleted."""

    code = "CONFLICT"
    kind = "TOKEN_IN_USE"

    def __init__(self, token_id: str) -> None:
        self.token_id = token_id
        super().__init__("The token defines a set or belongs to a user: delete the set first.")


class TooMany(CoreError):
    """There are as many as there may be."""

    code = "CONFLICT"
    kind = "TOO_MANY"

    def __init__(self, what: str, limit: int) -> None:
        self.limit = limit
        super().__init__(f"There may be {limit} {what}, and there are: delete one first.")


class QuotaExceeded(CoreError):
    """The user keeps as much as allowed; `data.limit` names the limit, `data.used` how much."""

    code = "BUSY"
    kind = "QUOTA_EXCEEDED"

    def __init__(self, limit: str, most: int, used: int, advice: str) -> None:
        self.limit, self.most, self.used = limit, most, used
        super().__init__(f"That would be more than the {most} that {limit} allows, of which {used} are used: {advice}.")


class StillUsed(CoreError):
    """It cannot be deleted while something refers to it."""

    code = "CONFLICT"
    kind = "STILL_USED"

    def __init__(self, id: str, what: str) -> None:
        self.id = id
        super().__init__(f"It is still used by {what}: change or delete that first.")


class OwnGroup(CoreError):
    """The group is a user's own."""

    code = "CONFLICT"
    kind = "OWN_GROUP"

    def __init__(self, group_id: str) -> None:
        self.id = group_id
        super().__init__("It is a user's own group: it cannot be deleted, and they stay an admin of it.")


class UndeclaredCall(CoreError):
    """A job made a core call it did not declare."""

    code = "JOB_FAILED"
    kind = "UNDECLARED_CALL"

    def __init__(self, job: str, call: str) -> None:
        self.function, self.call = job, call
        super().__init__(f"Job {job!r} made the core call {call!r} without declaring it: add it to its calls.")
