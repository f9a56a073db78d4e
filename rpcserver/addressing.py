"""Addresses as people type them, and what is wrong when nobody answers there. Used by the client; imports no server."""

import socket
import ssl
from urllib.parse import urlsplit

from websockets.exceptions import InvalidHandshake, InvalidMessage


class Unreachable(ConnectionError):
    """No server answers at the address; the text says why, and what to do."""


def checked(url: str) -> str:
    """Return the address of a server. Raises Unreachable, with the right form, for what is none."""
    url = url.strip()
    scheme, mark, rest = url.partition("://")
    if not mark:
        raise Unreachable(f"{url!r} is no address of a server: write ws://{url.strip('/') or '127.0.0.1:7717'}/")
    if scheme.lower() in ("http", "https"):
        right = f"{'wss' if scheme.lower() == 'https' else 'ws'}://{rest}"
        raise Unreachable(f"{url!r} is the address of a page: calls are made over a WebSocket, at {right}")
    if scheme.lower() not in ("ws", "wss"):
        raise Unreachable(f"{url!r} begins with {scheme}://: write ws:// or wss://")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Unreachable(f"{url!r} is no address ({error}): write ws://HOST:PORT/") from error
    if not host:
        raise Unreachable(f"{url!r} names no host: write ws://HOST:PORT/")
    return url


def explained(error: Exception, url: str) -> Unreachable:
    """Return why nobody was reached at an address."""
    parts = urlsplit(url)
    tls = parts.scheme.lower() == "wss"
    where = parts.netloc.rpartition("@")[2]
    if isinstance(error, socket.gaierror):
        return Unreachable(f"the name {parts.hostname!r} is not known here ({error.strerror}): is it written right?")
    if isinstance(error, ConnectionRefusedError) or _is_refused(error):
        return Unreachable(f"nobody listens at {where}: is the server running there?")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unreachable(
            f"the certificate of {where} is not trusted here ({error.verify_message}): use the name it was made for,"
            " or have this machine trust who signed it (SSL_CERT_FILE names a file of authorities)"
        )
    if isinstance(error, ssl.SSLError):
        return Unreachable(f"{where} does not speak TLS ({error.reason or error}): write ws://, or another port")
    if isinstance(error, TimeoutError):
        return Unreachable(f"{where} took the connection and said nothing: another program may listen there")
    if isinstance(error, InvalidMessage | EOFError):
        advice = (
            "another program may listen there" if tls else "if it speaks TLS write wss://, else another program does"
        )
        return Unreachable(f"what answers at {where} is no rpcserver: {advice}")
    if isinstance(error, InvalidHandshake):
        return Unreachable(f"what answers at {where} opens no WebSocket ({error})")
    return Unreachable(f"{where} cannot be reached ({error})")


def _is_refused(error: Exception) -> bool:
    # Of a name with several addresses asyncio tells all the refusals in one.
    return isinstance(error, OSError) and error.errno is None and "Connect call failed" in str(error)
