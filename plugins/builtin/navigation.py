"""Plugin: back, forward, up, home, and lists of child and linked sets. Source: sessions.md 2.8."""

from typing import Any

from plugins.hooks import Action, Command, Exit, Move, Pallet, hookimpl

_WAYS = (("back", "Go back"), ("forward", "Go forward"), ("up", "Go up"), ("home", "Go home"))
_LISTS = (("children", "child"), ("links", "link"))
PAGE = 50


@hookimpl
def session_pallet(pallet: Pallet) -> list[Command]:
    """Offer each way that leads somewhere else and that the user may take."""
    place = pallet.place
    commands = []
    for number, (way, name) in enumerate(_WAYS):
        exit: Exit | None = getattr(place, way)
        if exit is not None:
            commands.append(Command(f"navigation.{way}", name, f"to {exit.name}", sort=10 + number))
    if place.has_children:
        commands.append(Command("navigation.children", "Go to children", "the sets below this one", "json", 15))
    if place.has_links:
        commands.append(Command("navigation.links", "Go to links", "the sets linked from here", "json", 16))
    return commands


@hookimpl
async def session_action(action: Action) -> dict[str, Any] | None:
    """Move the session, or answer with a page of sets to go to; `value` or `args` may give the page's cursor."""
    plugin, _, what = action.token_id.partition(".")
    if plugin != "navigation":
        return None
    action.handled = True
    for name, kind in _LISTS:
        if what == name:
            return await _page(action, kind)
    action.move = Move(to=what)
    return {"to": what}


async def _page(action: Action, kind: str) -> dict[str, Any]:
    after = action.args.get("after")
    listing = await action.run(
        "session.ls", {"set_id": action.session.working_set_id, "kind": kind, "limit": PAGE, "after": after}
    )
    calls = [
        {
            "name": entry.name,
            "method": "session.cd",
            "params": {"session_id": action.session.id, "set_id": entry.set_id},
        }
        for entry in listing.entries
    ]
    onward = None
    if listing.next is not None:
        onward = {
            "method": "session.action",
            "params": {
                "session_id": action.session.id,
                "token_id": action.token_id,
                "args": {"after": list(listing.next)},
            },
        }
    return {"sets": calls, "next": onward}
