"""What must not be: a server that starts where its own settings make it unsafe. Each refusal says what to do.

Source: protocol.md 1 (Start).
"""

import errno
import http.client
import socket
import ssl
import stat
from pathlib import Path

from rpcserver.addresses import NO_ORIGIN, is_loopback
from rpcserver.settings import Settings

ASK_WITHIN_S = 5.0
PROBE_WITHIN_S = 1.0
OURS = "This is rpcserver"  # so begins the page at /


class UnsafeStart(Exception):
    """The server does not start, because it would not be safe."""


class CannotListen(OSError):
    """The server does not start, because nobody could reach it where its settings say."""


def check(settings: Settings) -> None:
    """Look at what can be known before anything is opened. Raises UnsafeStart with the remedy."""
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise UnsafeStart("TLS needs both --tls-cert and --tls-key: give the other one too.")
    if not is_loopback(settings.host) and settings.tls_cert is None and not settings.behind_proxy:
        raise UnsafeStart(
            f"{settings.host} can be reached from other machines, and credentials would travel in the clear: "
            "give --tls-cert and --tls-key, or --behind-proxy when a proxy on the way does TLS, "
            "or listen on 127.0.0.1."
        )
    if not settings.is_local and not settings.origins:
        raise UnsafeStart(
            "The server can be reached from other machines, and no page's origin is listed: give "
            f"--origin https://your.host for each page that may connect, or --origin {NO_ORIGIN} when no page shall."
        )
    if settings.data.is_dir():  # else it is made, or refused when it is opened
        _check_private(settings.data, f"chmod 700 {settings.data}")
    if settings.tls_key is not None:
        _check_private(settings.tls_key, f"chmod 600 {settings.tls_key}")


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS context of the settings, None without TLS. Raises UnsafeStart when the files cannot be used."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise UnsafeStart(
            f"The certificate {settings.tls_cert} and key {settings.tls_key} cannot be used ({error}): "
            "give PEM files that belong together."
        ) from error
    return context


def page(host: str, port: int, path: str, *, is_tls: bool, within_s: float = ASK_WITHIN_S) -> tuple[int, str]:
    """Return status and text of a page of a server on this machine. Raises OSError or HTTPException.

    Whose certificate it has does not matter: it is asked how it is, and told nothing.
    """
    # The address that means "all of them" is none to connect to.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    connection = http.client.HTTPConnection(host, port, timeout=within_s)
    if is_tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=within_s, context=context)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def cannot_listen(error: OSError, settings: Settings) -> CannotListen:
    """Return what to tell the person whose server found no place to listen, with the remedy."""
    place = f"{settings.host}:{settings.port}"
    if isinstance(error, socket.gaierror):
        return CannotListen(f"The name {settings.host!r} is not known here: give --host an address of this machine.")
    if error.errno == errno.EADDRINUSE:
        if _is_ours(settings):
            return CannotListen(
                f"{place} is taken by an rpcserver that runs on another data folder: stop it (`rpcserver health` with"
                " its --data tells which), or give --port another number, 0 for a free one."
            )
        return CannotListen(f"{place} is taken by another program: stop it, or give --port another number.")
    if error.errno == errno.EADDRNOTAVAIL:
        return CannotListen(f"{settings.host} is no address of this machine: give --host one that is.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return CannotListen(f"{place} may not be listened on by this user: give --port a number from 1024 on.")
    return CannotListen(f"{place} cannot be listened on ({error.strerror}): give --host and --port others.")


def _is_ours(settings: Settings) -> bool:
    """Tell whether a server of ours answers where we would listen."""
    for is_tls in (False, True):
        try:
            if OURS in page(settings.host, settings.port, "/", is_tls=is_tls, within_s=PROBE_WITHIN_S)[1]:
                return True
        except TimeoutError:
            return False  # a program that says nothing
        except (OSError, http.client.HTTPException):
            continue
    return False


def _check_private(path: Path, remedy: str) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # not there yet: it will be made private
    if mode & (stat.S_IROTH | stat.S_IWOTH | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)):
        raise UnsafeStart(f"{path} is open to every user of this machine: run `{remedy}`.")
