"""The command line. What a command needs is imported when it runs: `--help` must not load the server."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rpcserver.cli.access import credential_app, guarded, maintenance, stop_with, ticket
from rpcserver.packages import collision

app = typer.Typer(
    help="A session server: JSON-RPC 2.0 over one WebSocket.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
user_app = typer.Typer(help="Users of a data folder.", no_args_is_help=True)
app.add_typer(user_app, name="user")
jobs_app = typer.Typer(help="Jobs.", no_args_is_help=True)
app.add_typer(jobs_app, name="jobs")
plugins_app = typer.Typer(help="Plugins.", no_args_is_help=True)
app.add_typer(plugins_app, name="plugins")
app.add_typer(credential_app, name="credential")
app.command()(ticket)
app.command()(maintenance)

Data = Annotated[Path | None, typer.Option("--data", help="Data folder. [env: RPCSERVER_DATA]")]
ImportFormat = Literal["folder", "json"]
PluginFiles = Annotated[list[Path] | None, typer.Option("--plugin", help="A plugin file; may be given several times.")]


Host = Annotated[str | None, typer.Option(help="Address. [env: RPCSERVER_HOST; default: 127.0.0.1]")]
Port = Annotated[int | None, typer.Option(help="Port, 0 for a free one. [env: RPCSERVER_PORT; default: 7717]")]
Origins = Annotated[
    list[str] | None,
    typer.Option("--origin", help="Origin whose pages may connect, as https://a.example; `none`: no page may."),
]


@app.command()
def serve(
    data: Data = None,
    host: Host = None,
    port: Port = None,
    plugin: PluginFiles = None,
    origin: Origins = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM. [env: RPCSERVER_TLS_CERT]")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM. [env: RPCSERVER_TLS_KEY]")] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy does TLS and says who is calling (X-Forwarded-For).")
    ] = False,
) -> None:
    """Run the server until SIGTERM or SIGINT; one JSON line on standard output says when it is ready."""
    import signal

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # until the server is there to end in good order
    from rpcserver.cli.serve import serve as run

    safety = {"tls_cert": tls_cert, "tls_key": tls_key, "behind_proxy": behind_proxy or None}
    guarded(run, {**_serve_flags(data, host, port, plugin, origin), **safety})


@user_app.command("add")
def user_add(name: Annotated[str, typer.Argument(help="2 to 64 of a-z 0-9 _ . -")], data: Data = None) -> None:
    """Add a user and print the credential, alone on one line. It is shown this once."""
    from rpcserver.cli.admin import add_user

    print(guarded(add_user, {"data": data}, name))


@user_app.command("defer")
def user_defer(
    name: Annotated[str, typer.Argument(help="Whose long jobs shall wait.")],
    approver: Annotated[str | None, typer.Option(help="Who releases them; without one, all are let go.")] = None,
    data: Data = None,
) -> None:
    """Have a user's long jobs wait until somebody releases them."""
    from rpcserver.cli.admin import defer_user

    guarded(defer_user, {"data": data}, name, approver)


@user_app.command("list")
def user_list(data: Data = None) -> None:
    """Print the users, one JSON object a line."""
    import json

    from rpcserver.cli.admin import list_users

    for user in guarded(list_users, {"data": data}):
        print(json.dumps(user, ensure_ascii=False))


@user_app.command("freeze")
def user_freeze(name: Annotated[str, typer.Argument(help="Who shall move no more.")], data: Data = None) -> None:
    """Freeze a user: his connections close, his credentials open nothing, and no place lets him in."""
    from rpcserver.cli.admin import freeze_user

    guarded(freeze_user, {"data": data}, name, True)


@user_app.command("unfreeze")
def user_unfreeze(name: Annotated[str, typer.Argument(help="Who may move again.")], data: Data = None) -> None:
    """Let a frozen user in again."""
    from rpcserver.cli.admin import freeze_user

    guarded(freeze_user, {"data": data}, name, False)


@jobs_app.command("functions")
def jobs_functions(
    name: Annotated[str | None, typer.Argument(help="Only those whose name holds this.")] = None,
    plugin: PluginFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="As `jobs.functions` answers, with whole schemas.")] = False,
) -> None:
    """List the job functions a server would have: lane, what they do, take and answer, and their core calls."""
    import json

    from rpcserver.cli.admin import job_functions
    from rpcserver.openrpc.reference import lines

    found = guarded(job_functions, {"plugins": tuple(plugin) if plugin else None})
    found = [function for function in found if name is None or name in function["name"]]
    print(json.dumps(found, indent=2) if as_json else "\n".join(lines(found)))


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="A folder, or a world file.")],
    user: Annotated[str, typer.Option(help="Whose it becomes.")],
    data: Data = None,
    format: Annotated[ImportFormat, typer.Option(help="What the path is: a folder, or a world file.")] = "folder",
    into: Annotated[
        str | None, typer.Option(metavar="SET_ID", help="Below which set. [default: the user's home]")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everybody read it.")] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Leave entries of this name out; may be given several times."),
    ] = None,
) -> None:
    """Turn a folder into sets and its files into tokens, or make the world of a file; print as JSON what came of it."""
    import json

    from rpcserver.cli.admin import import_tree, import_world

    if format == "json":
        print(json.dumps(guarded(import_world, {"data": data}, path, user, into)))
        return
    print(json.dumps(guarded(import_tree, {"data": data}, path, user, into, public, tuple(exclude or ()))))


@app.command()
def call(
    method: Annotated[str, typer.Argument(help="Such as session.ls.")],
    params: Annotated[str, typer.Argument(help="Params as JSON.")] = "{}",
    url: Annotated[
        str, typer.Option(envvar="RPCSERVER_URL", help="Where the server listens.")
    ] = "ws://127.0.0.1:7717/",
    credential: Annotated[
        str | None, typer.Option(envvar="RPCSERVER_CREDENTIAL", help="As `rpcserver user add` printed it.")
    ] = None,
) -> None:
    """Call a method and print its result as JSON; an error goes to standard error, with exit status 1."""
    from rpcserver.cli.call import call_once

    sys.exit(call_once(method, params, url, credential))


@app.command()
def openrpc(
    markdown: Annotated[bool, typer.Option("--markdown", help="As a page to read.")] = False,
) -> None:
    """Print every method, result, error and notification as an OpenRPC 1.4 document."""
    import json

    from rpcserver.methods import document
    from rpcserver.openrpc import reference

    print(reference.markdown(document()) if markdown else json.dumps(document(), indent=2, ensure_ascii=False))


@app.command()
def client(language: Annotated[str, typer.Argument(help="ts or py.")]) -> None:
    """Print a typed client stub, as TypeScript (ts) or Python (py)."""
    from rpcserver.methods import document
    from rpcserver.openrpc.reference import STUBS

    if language not in STUBS:
        stop_with(f"there is no stub for {language!r}: choose one of {', '.join(STUBS)}.")
    print(STUBS[language](document()), end="")


@app.command()
def backup(file: Annotated[Path, typer.Argument(help="A new file; it holds everything.")], data: Data = None) -> None:
    """Back the data folder up, whether a server runs on it or not."""
    from rpcserver.cli.admin import back_up

    print(f"{file}: {guarded(back_up, {'data': data}, file)} bytes")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="As `rpcserver backup` wrote it.")],
    data: Data = None,
    replace: Annotated[bool, typer.Option("--replace", help="Move what is in the data folder aside.")] = False,
) -> None:
    """Make a data folder from a backup. Clients that resume learn that they cannot, and read anew."""
    from rpcserver.cli.admin import restore as run

    aside = guarded(run, {"data": data}, file, replace)
    if aside is not None:
        print(f"what was there lies in {aside}")


@app.command()
def doctor(
    data: Data = None, host: Host = None, port: Port = None, plugin: PluginFiles = None, origin: Origins = None
) -> None:
    """Look at everything a server needs here, and say what to do; exit status 1 when it could not start."""
    from rpcserver.cli.doctor import examine

    sys.exit(guarded(examine, _serve_flags(data, host, port, plugin, origin)))


@app.command()
def health(host: Host = None, port: Port = None, data: Data = None) -> None:
    """Ask the server on the data folder, or at an address, whether it is ready; exit status 1 when it is not."""
    from rpcserver.cli.doctor import ask_ready

    sys.exit(guarded(ask_ready, {"data": data, "host": host, "port": port}, host is not None or port is not None))


@app.command()
def play(
    target: Annotated[
        str | None,
        typer.Argument(help="A playbook: a file, a folder, or an https address; none: what --session has left."),
    ] = None,
    context: Annotated[str, typer.Option(help="The context.")] = "default",
    session: Annotated[str | None, typer.Option(help="The session, made when it is not there.")] = None,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter of the session; several may be given.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say who would play what.")] = False,
    no_interactive: Annotated[bool, typer.Option("--no-interactive", help="Ask nothing.")] = False,
    user: Annotated[str | None, typer.Option(help="In whose name. [default: the first user]")] = None,
    data: Data = None,
    plugin: PluginFiles = None,
) -> None:
    """Play a playbook on the running server, or in this process when none runs; exit with 1 when an action failed.

    A playbook that begins with `#!/usr/bin/env -S rpcserver play` can be run by its name.
    """
    from rpcserver.cli.play import Wish
    from rpcserver.cli.play import play as run

    pairs = [item.partition("=") for item in param or ()]
    if target is None and session is None:
        stop_with("say what to play: a file, a folder, an https address, or with --session what is left there")
    if any(not name or not mark for name, mark, _ in pairs):
        stop_with("--param is written NAME=VALUE")
    params = {name: value for name, _, value in pairs}
    wish = Wish(target, context, session, user, params, dry_run, not no_interactive)
    sys.exit(guarded(run, {"data": data, "plugins": tuple(plugin) if plugin else None}, wish))


@app.command()
def demo(
    world: Annotated[
        str | None, typer.Option(metavar="NAME", help="Walk through an example world: help-desk, museum or shop.")
    ] = None,
) -> None:
    """Import a real tree, start a server on a free port and walk around in it."""
    if world is not None:
        from rpcserver.cli import demo as demo_worlds

        sys.exit(demo_worlds.run_world(world))
    from rpcserver.cli.demo import run

    sys.exit(run())


@plugins_app.command("list")
def plugins_list(plugin: PluginFiles = None) -> None:
    """Print the plugins that would be loaded, one a line."""
    from rpcserver.cli.admin import plugin_names

    for name in guarded(plugin_names, {"plugins": tuple(plugin) if plugin else None}):
        print(name)


@app.command()
def version() -> None:
    """Print the version."""
    from rpcserver import __version__

    print(__version__)


def main() -> None:
    """Run the command line, unless what it would import is somebody else's."""
    stranger = collision()
    if stranger is not None:
        stop_with(stranger)
    app()


def _serve_flags(
    data: Path | None, host: str | None, port: int | None, plugin: list[Path] | None, origin: list[str] | None
) -> dict[str, Any]:
    return {
        "data": data,
        "host": host,
        "port": port,
        "plugins": tuple(plugin) if plugin else None,
        "origins": tuple(origin) if origin else None,
    }
