"""Remotes over real HTTP on this machine: mapping, limits, cache, secrets, and what must never happen."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.attribute_values import Behind
from core.errors import BadRemote
from core.remotes import Definition, Remote, checked
from core.types import Source
from jobs.errors import RemoteUnavailable
from jobs.remotes.client import RemoteLimits, Remotes, RemoteSecret
from store import Clock
from tests.webserver import Web, certify, reply

LOOPBACK = ("127.0.0.0/8",)


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    """A web server on this machine."""
    made = await Web().start()
    yield made
    made.delay.set()
    made.server.close()


def remote_to(url: str, **definition: Any) -> Remote:
    """Return a remote."""
    made = checked("url", Definition(url=url, **definition))
    return Remote("rm_1", "u_owner", "remote", "url", made, True, False)


def asked(caller: str = "bob", **attributes: Any) -> Behind:
    """Return an attribute about to be asked."""
    return Behind(
        "t_1", "lamp", "u_owner", "set_1", "read", Source("remote", "rm_1"), attributes, None, f"u_{caller}", caller
    )


@pytest.fixture
async def remotes(web: Web) -> AsyncIterator[Remotes]:
    """Remotes that may go to that server."""
    secrets = {"key": RemoteSecret("s3cr3t-key", ("127.0.0.1",), ("owner",))}
    limits = RemoteLimits((f"http://127.0.0.1:{web.port}",), LOOPBACK, secrets, answer_bytes=5000, calls_per_user=20)
    made = Remotes(limits, Clock())
    yield made
    await made.close()


def url(web: Web, path: str = "/api") -> str:
    """Return the server's address."""
    return f"http://127.0.0.1:{web.port}{path}"


async def test_what_is_mapped_goes_and_what_counts_comes(web: Web, remotes: Remotes) -> None:
    """Value, attributes, caller, constants and secrets go where the definition says; one path of the answer counts."""
    remote = remote_to(
        url(web, "/api?fixed=1"),
        to_remote={"v": "value", "size": "token.size.big", "who": "caller.name", "kind": "constant:lamp"},
        headers={"Authorization": "secret:key", "X-Kind": "constant:x"},
        take="items.0.name",
    )
    answer = await remotes.call(remote, "owner", asked(size={"big": 7}), [1], is_write=True)
    assert (answer.value, answer.code) == ("first", 200)
    head, body = web.seen[0].split("\r\n\r\n")
    assert head.startswith("POST /api?fixed=1 ") and "authorization: s3cr3t-key" in head.lower()
    assert json.loads(body) == {"v": [1], "size": 7, "who": "bob", "kind": "lamp"}


@pytest.mark.parametrize(
    ("send", "expected"), [("query", "GET /api?value=a+b"), ("form", "value=a+b"), ("none", "GET /api ")]
)
async def test_forms_of_sending(web: Web, remotes: Remotes, send: Any, expected: str) -> None:
    """As a query, as a form, or nothing at all."""
    await remotes.call(remote_to(url(web), send=send, method="GET"), "owner", asked(), "a b", is_write=True)
    assert expected in web.seen[0].replace("%20", "+")


async def test_nothing_goes_where_the_operator_did_not_allow(web: Web, remotes: Remotes) -> None:
    """Another port, another scheme, a network not allowed: nothing is dialled."""
    for target in (f"http://127.0.0.1:{web.port + 1}/", f"https://127.0.0.1:{web.port}/", "http://localhost/"):
        with pytest.raises(RemoteUnavailable, match="does not allow"):
            await remotes.call(remote_to(target), "owner", asked(), 1, is_write=True)
    shut = Remotes(RemoteLimits((f"http://127.0.0.1:{web.port}",)), Clock())
    with pytest.raises(RemoteUnavailable, match="could not be reached"):
        await shut.call(remote_to(url(web)), "owner", asked(), 1, is_write=True)
    await shut.close()
    assert web.seen == []


async def test_redirects_are_not_followed(web: Web, remotes: Remotes) -> None:
    """An answer that sends on to somewhere else is a failure."""
    web.answer = lambda request: reply(b"", "302 Found", "Location: http://169.254.169.254/latest/meta-data")
    with pytest.raises(RemoteUnavailable, match="302"):
        await remotes.call(remote_to(url(web)), "owner", asked(), 1, is_write=True)
    assert len(web.seen) == 1


async def test_proxies_of_the_environment_are_ignored(
    web: Web, remotes: Remotes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy variable does not lead calls past the guard."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    assert (await remotes.call(remote_to(url(web)), "owner", asked(), 1, is_write=True)).code == 200


async def test_cookies_are_not_kept(web: Web, remotes: Remotes) -> None:
    """What one caller was given is not sent for the next."""
    web.answer = lambda request: reply(b"{}", "200 OK", "Set-Cookie: session=bob")
    for _ in range(2):
        await remotes.call(remote_to(url(web)), "owner", asked(), 1, is_write=True)
    assert "cookie" not in web.seen[1].lower()


async def test_answers_are_bounded(web: Web, remotes: Remotes) -> None:
    """Too long, packed, failed, or not JSON: no answer."""
    bodies = [
        reply(b'"' + b"x" * 6000 + b'"'),
        reply(b"x", "200 OK", "Content-Encoding: gzip"),
        reply(b"", "500 No"),
        reply(b"<"),
    ]
    for body in bodies:
        web.answer = lambda request, body=body: body  # type: ignore[misc]
        with pytest.raises(RemoteUnavailable):
            await remotes.call(remote_to(url(web)), "owner", asked(), 1, is_write=True)
    web.answer = lambda request: reply(b"{}")
    with pytest.raises(RemoteUnavailable, match="nothing at"):
        await remotes.call(remote_to(url(web), take="a.b"), "owner", asked(), 1, is_write=True)


async def test_reading_waits_briefly(web: Web, remotes: Remotes) -> None:
    """A remote that does not answer at once is not waited for when something is read."""
    web.delay.clear()
    with pytest.raises(RemoteUnavailable, match=r"longer than 0\.3 s"):
        await remotes.call(remote_to(url(web)), "owner", asked(), None, is_write=False)


async def test_one_callers_answers_never_serve_another(web: Web, remotes: Remotes) -> None:
    """The cache is kept apart by caller; a write goes through it; an answer that is old is asked for anew."""
    clock = [0.0]
    remotes._clock = lambda: clock[0]
    remote = remote_to(url(web), cache_s=10, to_remote={"fixed": "constant:1"})
    first = await remotes.call(remote, "owner", asked("bob"), None, is_write=False)
    again = await remotes.call(remote, "owner", asked("bob"), None, is_write=False)
    assert (first.is_cached, again.is_cached, len(web.seen)) == (False, True, 1)
    await remotes.call(remote, "owner", asked("carl"), None, is_write=False)
    await remotes.call(remote, "owner", asked("bob"), None, is_write=True)
    assert len(web.seen) == 3
    clock[0] = 11
    await remotes.call(remote, "owner", asked("bob"), None, is_write=False)
    assert len(web.seen) == 4


async def test_an_old_answer_may_stand_in_for_a_failure(web: Web, remotes: Remotes) -> None:
    """When the definition says so, and for the same caller alone."""
    clock = [0.0]
    remotes._clock = lambda: clock[0]
    remote = remote_to(url(web), cache_s=1, is_cache_used_on_failure=True)
    await remotes.call(remote, "owner", asked("bob"), None, is_write=False)
    web.answer = lambda request: reply(b"", "503 No")
    clock[0] = 5
    assert (await remotes.call(remote, "owner", asked("bob"), None, is_write=False)).is_cached
    with pytest.raises(RemoteUnavailable):
        await remotes.call(remote, "owner", asked("carl"), None, is_write=False)


async def test_rates_hold_and_recover(web: Web, remotes: Remotes) -> None:
    """So many calls in so many seconds of the remote, and of the caller over all remotes."""
    clock = [0.0]
    remotes._clock = lambda: clock[0]
    remote = remote_to(url(web), calls=2, per_s=10)
    for _ in range(2):
        await remotes.call(remote, "owner", asked(), 1, is_write=True)
    with pytest.raises(RemoteUnavailable, match="too often"):
        await remotes.call(remote, "owner", asked(), 1, is_write=True)
    clock[0] = 5
    await remotes.call(remote, "owner", asked(), 1, is_write=True)


async def test_so_many_calls_at_once(web: Web, remotes: Remotes) -> None:
    """One more than `concurrent` is refused while they run."""
    web.delay.clear()
    remote = remote_to(url(web))
    first = asyncio.create_task(remotes.call(remote, "owner", asked(), 1, is_write=True))
    await web.arrived.wait()
    with pytest.raises(RemoteUnavailable, match="as many calls"):
        await remotes.call(remote, "owner", asked(), 1, is_write=True)
    web.delay.set()
    assert (await first).code == 200


async def test_secrets_stay_secret(web: Web, remotes: Remotes, capfd: pytest.CaptureFixture[str]) -> None:
    """Only its hosts and its users' remotes get it; it shows in no answer, error, log or repr."""
    remote = remote_to(url(web), headers={"X-Key": "secret:key"}, answer="text")
    with pytest.raises(RemoteUnavailable, match="no secret"):
        await remotes.call(remote, "somebody", asked(), 1, is_write=True)
    with pytest.raises(RemoteUnavailable, match="no secret"):
        await remotes.call(
            remote_to("https://elsewhere.example/", headers={"X": "secret:key"}), "owner", asked(), 1, is_write=True
        )
    web.answer = lambda request: reply(b"you sent s3cr3t-key")
    answer = await remotes.call(remote, "owner", asked(), 1, is_write=True)
    assert answer.value == "you sent ***" and "s3cr3t-key" in web.seen[0]
    told = capfd.readouterr()
    assert "s3cr3t" not in told.out + told.err + repr(remotes._limits) + repr(answer)


async def test_turned_off_nothing_is_called(web: Web, remotes: Remotes) -> None:
    """The off switch."""
    on = remote_to(url(web))
    off = Remote(on.id, on.owner_id, on.name, on.kind, on.definition, False, False)
    with pytest.raises(RemoteUnavailable, match="turned off"):
        await remotes.call(off, "owner", asked(), 1, is_write=True)
    assert web.seen == []


async def test_https_is_checked_against_the_name(tmp_path: Path) -> None:
    """The connection goes to the address, the certificate is checked for the name; an unknown one is refused."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    await asyncio.to_thread(certify, key, cert)
    web = await Web().start((cert, key))
    hosts = (f"https://localhost:{web.port}", f"https://127.0.0.1:{web.port}")
    trusting = Remotes(RemoteLimits(hosts, (*LOOPBACK, "::1/128"), ca_file=str(cert)), Clock())
    doubting = Remotes(RemoteLimits(hosts, (*LOOPBACK, "::1/128")), Clock())
    good, wrong_name = (remote_to(f"https://{host}:{web.port}/") for host in ("localhost", "127.0.0.1"))
    assert (await trusting.call(good, "owner", asked(), 1, is_write=True)).code == 200
    for remotes, remote in ((trusting, wrong_name), (doubting, good)):
        with pytest.raises(RemoteUnavailable, match="could not be reached"):
            await remotes.call(remote, "owner", asked(), 1, is_write=True)
    for remotes in (trusting, doubting):
        await remotes.close()
    web.server.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ftp://a.example/"},
        {"url": "https://user:pass@a.example/"},
        {"url": "https://a.example/ x"},
        {"url": "https://a.example:0/"},
        {"url": "https://a.example/#x"},
        {"url": "https://a.example/", "headers": {"Host": "constant:b"}},
        {"url": "https://a.example/", "headers": {"Cookie": "constant:b"}},
        {"url": "https://a.example/", "to_remote": {"x": "environment.HOME"}},
        {"url": "https://a.example/", "take": "a..b"},
        {"url": "https://a.example/", "cache_by": []},
        {"url": "https://a.example/", "calls": 0},
    ],
)
def test_a_definition_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """When it is made, not when it is called."""
    with pytest.raises(BadRemote):
        checked("url", Definition(**wrong))


async def test_a_value_cannot_add_headers(web: Web, remotes: Remotes) -> None:
    """Line ends in what is sent as a header end in an error."""
    remote = remote_to(url(web), headers={"X-Value": "value"})
    with pytest.raises(RemoteUnavailable, match="header"):
        await remotes.call(remote, "owner", asked(), "a\r\nX-Evil: 1", is_write=True)
    assert web.seen == []


async def test_an_address_that_cannot_be_sent_is_an_error(web: Web, remotes: Remotes) -> None:
    """Signs that no address may hold are refused before anything is dialled."""
    with pytest.raises(RemoteUnavailable, match="cannot be sent"):
        await remotes.post(url(web, "/\x01"), {}, b"")
    assert web.seen == []
