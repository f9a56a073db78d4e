"""A git server over https on this machine, with a certificate of its own, and repositories to serve."""

import base64
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from dulwich.index import commit_tree
from dulwich.objects import Blob, Commit
from dulwich.repo import Repo
from dulwich.server import FileSystemBackend
from dulwich.web import make_wsgi_chain

from tests.webserver import certify

App = Callable[[dict[str, Any], Callable[..., Any]], Any]


class GitServer:
    """Serves every repository of a folder, and plain files.

    Attributes:
        password: when set, what a caller has to say.
        files: plain answers by path. answers: those of a git server, by path: their type and their bytes.
        redirects: other places by path. requests: the paths that were asked for.
        asked: set once somebody called. stall: cleared, nobody is answered.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca.pem"
        self.password = ""
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, tuple[str, bytes]] = {}
        self.redirects: dict[str, str] = {}
        self.requests: list[str] = []
        self.asked = threading.Event()
        self.stall = threading.Event()
        self.stall.set()
        self.port = 0

    @property
    def host(self) -> str:
        """As the operator names it in a setting."""
        return f"localhost:{self.port}"

    def url(self, name: str) -> str:
        """Return the address of a repository or file."""
        return f"https://{self.host}/{name}"

    @property
    def settings(self) -> dict[str, Any]:
        """What lets a server under test call this one."""
        return {"fetch_hosts": (self.host,), "fetch_private_hosts": (self.host,), "fetch_ca_file": self.ca}

    def repository(self, name: str) -> Repo:
        """Make an empty repository."""
        path = self.folder / name
        path.mkdir(parents=True)
        return Repo.init_bare(str(path), default_branch=b"main")

    def commit(self, name: str, files: dict[str, str | tuple[int, str]], ref: str = "refs/heads/main") -> bytes:
        """Put a commit with these files, and no others, on top of a branch."""
        with Repo(str(self.folder / name)) as repo:
            entries = []
            for path, content in files.items():
                mode, text = content if isinstance(content, tuple) else (0o100644, content)
                blob = Blob.from_string(text.encode())
                repo.object_store.add_object(blob)
                entries.append((path.encode(), blob.id, mode))
            new = Commit()
            new.tree = commit_tree(repo.object_store, entries)
            new.parents = [repo.refs[ref.encode()]] if ref.encode() in repo.refs else []
            new.author = new.committer = b"Test <test@localhost>"
            new.author_time = new.commit_time = 1_700_000_000 + len(new.parents)
            new.author_timezone = new.commit_timezone = 0
            new.message = b"a commit\n"
            repo.object_store.add_object(new)
            repo.refs[ref.encode()] = new.id
            return new.id

    def head(self, name: str, ref: str = "refs/heads/main") -> bytes:
        """Return a branch's commit."""
        with Repo(str(self.folder / name)) as repo:
            return repo.refs[ref.encode()]

    def app(self, git: App) -> App:
        """Answer plain files, redirects and passwords; leave the rest to git."""

        def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
            path = environ["PATH_INFO"]
            self.requests.append(path)
            self.asked.set()
            self.stall.wait(20)
            expected = "Basic " + base64.b64encode(f"git:{self.password}".encode()).decode()
            if self.password and environ.get("HTTP_AUTHORIZATION") != expected:
                start("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="git"'), ("Content-Length", "0")])
                return [b""]
            if path in self.redirects:
                start("302 Found", [("Location", self.redirects[path]), ("Content-Length", "0")])
                return [b""]
            if path in self.files:
                start("200 OK", [("Content-Length", str(len(self.files[path])))])
                return [self.files[path]]
            if path in self.answers:
                kind, content = self.answers[path]
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start("200 OK", [("Content-Type", kind), ("Content-Length", str(len(content)))])
                return [content]
            return git(environ, start)

        return answer


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


class _Backend(FileSystemBackend):
    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.opened: list[Any] = []

    def open_repository(self, path: str | bytes) -> Any:
        self.opened.append(super().open_repository(os.fsdecode(path).lstrip("/")))
        return self.opened[-1]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        pass  # a client that hangs up is part of the tests


@contextmanager
def git_server(folder: Path) -> Iterator[GitServer]:
    """Serve a folder inside the block."""
    served = GitServer(folder)
    folder.mkdir(parents=True, exist_ok=True)
    key_file = folder / "key.pem"
    certify(key_file, served.ca, "localhost", "sly.test", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served.ca, key_file)
    backend = _Backend(str(folder))
    git = make_wsgi_chain(backend)
    with make_server("127.0.0.1", 0, served.app(git), server_class=_Server, handler_class=_Quiet) as server:
        served.port = server.server_port
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
            for repo in backend.opened:
                repo.close()
