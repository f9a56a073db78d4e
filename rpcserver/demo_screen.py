"""How the demo looks: what was asked, a table of what came back, the commands offered, the notices pushed."""

import json
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rpcserver.client import Event
from rpcserver.models import ListedCommand, ListedToken, Listing, SessionRecord

MAX_PREVIEW = 34
MAX_NAME = 26
QUIET = ("session_id", "set_id", "token_id")  # shown short: nobody reads an id to its end


class Screen:
    """Standard output, for a person."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._step = 0

    def say(self, text: str) -> None:
        """Print a line; text may hold rich markup."""
        self._console.print(text)

    def step(self, text: str) -> None:
        """Begin a step."""
        self._step += 1
        self._console.print()
        self._console.rule(f"[bold]{self._step}. {escape(text)}", align="left", style="dim")

    def asked(self, method: str, params: dict[str, Any]) -> None:
        """Show a call."""
        shown = {name: short(value) if name in QUIET else value for name, value in params.items()}
        self._console.print(f"[cyan]-> {method}[/] {escape(json.dumps(shown, ensure_ascii=False))}")

    def answered(self, text: str) -> None:
        """Show an answer that needs no table."""
        self._console.print(f"[green]<- [/]{escape(text)}")

    def heard(self, event: Event) -> None:
        """Show a pushed notice."""
        names = ("function", "change", "set_id", "session_id")
        facts = " ".join(str(short(event.data[name])) for name in names if event.data.get(name))
        self._console.print(f"   [magenta]! {event.topic}[/] [dim]{escape(facts)}[/]")

    def failed(self, message: str) -> None:
        """Say what went wrong, on standard error."""
        Console(stderr=True, highlight=False).print(f"[red]rpcserver demo:[/] {escape(message)}")

    def listing(self, listing: Listing, limit: int) -> None:
        """Show where the session stands, what stands there and what can be done."""
        place = listing.current_set
        above = f", below {place.parent.set_name}" if place.parent else ""
        self.answered(f"in {place.set_name!r}{above}, by {place.set_author.name}")
        if listing.contents is not None:
            self._console.print(_tokens(listing.contents.tokens[:limit]))
            if listing.contents.next_cursor:
                self.say("   [dim]and more: the answer holds the call for the next page[/]")
        self.commands(listing.commands)

    def commands(self, commands: list[ListedCommand] | None) -> None:
        """Show a command pallet; None: as it was."""
        if commands is not None:
            # A guest's command is known by its id; one that is a token by its name.
            shown = [one.name if one.source.startswith("set_") else one.id for one in commands]
            offered = ", ".join(f"[yellow]{escape(name)}[/]" for name in shown)
            self.say(f"   commands: {offered}")

    def token(self, token: ListedToken) -> None:
        """Show one token with the beginning of its file."""
        self.answered(f"{token.name}, {token.type}, {token.attributes.get('media_type', '?')}")
        for line in str(token.attributes.get("preview", "")).splitlines()[:6]:
            self.say(f"   [dim]{escape(line)}[/]")

    def sessions(self, records: list[SessionRecord]) -> None:
        """Show sessions."""
        table = _table("name", "state", "context", "history", "revision")
        for record in records:
            depth, revision = str(record.history_depth), str(record.revision)
            table.add_row(escape(record.name), record.state, record.context_name, depth, revision)
        self._console.print(table)

    def record(self, record: SessionRecord) -> None:
        """Show one session's record."""
        table = _table("of the session", "is")
        for name in ("name", "state", "working_set", "command_pallet", "session_data", "history_depth", "revision"):
            table.add_row(name, escape(str(getattr(record, name))))
        self._console.print(table)


def short(value: Any) -> Any:
    """Return an id by its end, which tells it from its neighbours."""
    is_id = isinstance(value, str) and len(value) > 16 and value.split("_")[0] in ("s", "set", "t", "j")
    return f"{value.split('_')[0]}_..{value[-5:]}" if is_id else value


def _tokens(tokens: list[ListedToken]) -> Table:
    table = _table("name", "type", "size", "begins with")
    for token in tokens:
        size = token.attributes.get("size")
        preview = _first_words(str(token.attributes.get("preview", "")))
        name = token.name if len(token.name) <= MAX_NAME else token.name[: MAX_NAME - 2] + ".."
        table.add_row(escape(name), token.type, "" if size is None else f"{size:,}", f"[dim]{escape(preview)}[/]")
    return table


def _first_words(preview: str) -> str:
    lines = (line.lstrip("rR\"'#! \t") for line in preview.splitlines())
    return next((line for line in lines if line), "")[:MAX_PREVIEW]


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, no_wrap=True, justify="right" if column == "size" else "left")
    return table
