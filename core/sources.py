"""What may stand behind an attribute: a value, a script, or a remote. Source: sessions.md 4.4."""

from dataclasses import dataclass
from typing import Any, Literal

from core import remotes, scripts
from core.calls import Scene
from core.errors import RemoteNotFound, ScriptNotFound, SourceClosed
from core.limits import source_of

Kind = Literal["value", "script", "remote"]


@dataclass(frozen=True, slots=True)
class Source:
    """A value, or who is asked for it: then `value` is the id of the script or remote."""

    kind: Kind
    value: Any

    def kept_as(self, attribute: str) -> str:
        """Return under which name the last answer is kept: a remote's is one for all attributes it stands behind."""
        return f"remote:{self.value}" if self.kind == "remote" else attribute

    @classmethod
    def of(cls, held: Any) -> "Source":
        """Return what an attribute's value means; `{"value": x}` is x, for an x that would mean something else."""
        found = source_of(held)
        if found is not None:
            return cls("script" if found[0] == "script" else "remote", found[1])
        if isinstance(held, dict) and set(held) == {"value"}:
            return cls("value", held["value"])
        return cls("value", held)


def require(scene: Scene, kind: str, id: str) -> None:
    """Raise unless the caller may have the script or remote answer for a token or rule from now on.

    Raises ScriptNotFound, RemoteNotFound or SourceClosed.
    """
    if kind == "remote":
        remote = remotes.find(scene.tx, id)
        if remote is None or not remotes.is_usable(scene.tx, remote, scene.user_id):
            raise RemoteNotFound(id)
        if remote.is_retired:
            raise SourceClosed(kind, remote.name)
        return
    script = scripts.find(scene.tx, id)
    if script is None or not (script.owner_id == scene.user_id or script.is_shared):
        raise ScriptNotFound(id)
    if script.is_retired:
        raise SourceClosed(kind, script.name)
