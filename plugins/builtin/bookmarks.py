"""Plugin: remembers sets. One bookmark a set; they stand in a private set below the user's home.

Source: sessions.md 2.9.
"""

from functools import partial
from typing import Any

from pydantic import BaseModel

from jobs import Commit, JobContext, JobError, JobSpec, job
from plugins.hooks import Action, Command, Move, Pallet, hookimpl

SHELF = "bookmarks"
MAX_SHOWN = 50


class Bookmark(BaseModel):
    """A remembered set: input of bookmarks.add, and one item of what bookmarks.list answers."""

    home_set_id: str
    set_id: str
    name: str = ""


class Shelf(BaseModel):
    """Input of bookmarks.list."""

    home_set_id: str


class Removal(BaseModel):
    """Input of bookmarks.remove."""

    home_set_id: str
    token_id: str


@job(
    "bookmarks.add",
    Bookmark,
    calls=[
        "core.set.show",
        "core.set.child",
        "core.set.create",
        "core.set.read",
        "core.token.create",
        "core.set.tokens.add",
    ],
)
async def add(job: JobContext, data: Bookmark) -> Commit[dict[str, Any]]:
    """Remember a set; one that is remembered already gives the bookmark there is."""
    return Commit(partial(_add, data=data))


@job("bookmarks.list", Shelf, lane="memory", calls=["core.set.child", "core.set.read"])
async def list_(job: JobContext, data: Shelf) -> list[dict[str, Any]]:
    """Return the bookmarks by name: token id, set id and name."""
    return await job.read(partial(_shelf, home_set_id=data.home_set_id))


@job(
    "bookmarks.remove",
    Removal,
    calls=["core.set.child", "core.set.read", "core.token.delete"],
)
async def remove(job: JobContext, data: Removal) -> Commit[str]:
    """Forget a bookmark."""
    return Commit(partial(_remove, data=data))


@hookimpl
def register_jobs() -> list[JobSpec]:
    """Bring the jobs above."""
    return [add, list_, remove]


@hookimpl
async def session_pallet(pallet: Pallet) -> list[Command]:
    """Offer to remember this set, if it is not yet, and every bookmark as a way to go."""
    shelf = await pallet.run("bookmarks.list", {"home_set_id": pallet.session.home_set_id})
    commands = [
        Command(f"bookmarks.go.{item['id']}", f"Go to {item['name']}", "a bookmark", sort=31)
        for item in shelf[:MAX_SHOWN]
        if item["set_id"] != pallet.place.set_id
    ]
    if all(item["set_id"] != pallet.place.set_id for item in shelf):
        commands.append(Command("bookmarks.add", "Bookmark this set", f"remember {pallet.place.name}", sort=30))
    if shelf:
        commands.append(Command("bookmarks.remove", "Remove a bookmark", "value: the bookmark's id", "string", 32))
    return commands


@hookimpl
async def session_action(action: Action) -> dict[str, Any] | None:
    """Remember, use or forget."""
    if not action.token_id.startswith("bookmarks."):
        return None
    home = {"home_set_id": action.session.home_set_id}
    what, _, bookmark_id = action.token_id.removeprefix("bookmarks.").partition(".")
    action.handled = True
    if what == "add":
        answer: dict[str, Any] = await action.run("bookmarks.add", {**home, "set_id": action.session.working_set_id})
        return answer
    if what == "remove":
        removed = await action.run("bookmarks.remove", {**home, "token_id": str(action.value).split(".")[-1]})
        return {"removed": removed}
    shelf = await action.run("bookmarks.list", home)
    for item in shelf:
        if item["id"] == bookmark_id:
            action.move = Move(set_id=item["set_id"])
            return {"to": item["name"]}
    raise JobError("That bookmark is gone.")


def _add(core: Any, data: Bookmark) -> dict[str, Any]:
    for item in _shelf(core, data.home_set_id):
        if item["set_id"] == data.set_id:
            return item
    place = core.named("core.set.show", set_id=data.set_id)
    shelf_id = core.named("core.set.child", set_id=data.home_set_id, name=SHELF)
    if shelf_id is None:
        shelf_id = core.named("core.set.create", name=SHELF, parent_id=data.home_set_id, is_human=False)
    name = data.name or place.name
    token_id = core.named(
        "core.token.create", type="bookmark", name=name, attributes={"set_id": data.set_id}, is_public=False
    )
    core.named("core.set.tokens.add", set_id=shelf_id, token_ids=[token_id])
    return {"id": token_id, "set_id": data.set_id, "name": name}


def _shelf(core: Any, home_set_id: str) -> list[dict[str, Any]]:
    shelf_id = core.named("core.set.child", set_id=home_set_id, name=SHELF)
    if shelf_id is None:
        return []
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page = core.named("core.set.read", set_id=shelf_id, limit=200, kind="token", after=after)
        found += [
            {"id": entry.id, "set_id": entry.attributes["set_id"], "name": entry.name}
            for entry in page.entries
            if entry.type == "bookmark"
        ]
        after = page.next
        if after is None:
            return found


def _remove(core: Any, data: Removal) -> str:
    if all(item["id"] != data.token_id for item in _shelf(core, data.home_set_id)):
        raise JobError("There is no such bookmark: give the id shown after `bookmarks.go.`.")
    core.named("core.token.delete", token_id=data.token_id)
    return data.token_id
