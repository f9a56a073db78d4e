"""requirements/install.py: what makes an environment whole, and what is said when none can be made."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.toolchain import load_script

SCRIPT = Path(__file__).parents[2] / "requirements" / "install.py"


@pytest.fixture
def install() -> Any:
    """The script, which is no package's, imported anew."""
    return load_script(SCRIPT)


class Steps:
    """Stands for the commands that make an environment; tells which were run, and may be interrupted."""

    def __init__(self, folder: Path) -> None:
        self.interrupt_at: str | None = None
        self._folder = folder
        self._run: list[str] = []

    def __call__(self, command: list[str], what: str) -> None:
        self._run.append(what)
        if what == "an empty environment":
            assert command[-2:] == ["--clear", str(self._folder)]
            self._folder.mkdir(exist_ok=True)
        if what == self.interrupt_at:
            raise KeyboardInterrupt

    def taken(self) -> list[str]:
        """Return what was run since this was last asked."""
        run, self._run = self._run, []
        return run


ALL = ["an empty environment", "what sources are built with", "what it needs", "rpcserver itself"]


@pytest.fixture
def steps(install: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """A project of its own, whose environment is made of pretended steps."""
    for name in ("build", "run", "test"):
        (tmp_path / f"{name}.txt").write_text(name)
    (tmp_path / "pyproject.toml").write_text("")
    steps = Steps(tmp_path / ".venv")
    monkeypatch.setattr(install, "ROOT", tmp_path)
    monkeypatch.setattr(install, "LOCKS", tmp_path)
    monkeypatch.setattr(install, "run", steps)
    yield steps


def test_sets_are_installed_once_and_on_top(install: Any, steps: Steps) -> None:
    """The demo's packages, then the tests' on top; what is there is not installed again."""
    for kind, expected in (("run", ALL), ("run", []), ("test", ALL[2:]), ("test", []), ("run", [])):
        assert install.main([kind]) == 0
        assert steps.taken() == expected


@pytest.mark.parametrize("lock", ["build", "run", "test"])
def test_a_changed_lock_makes_all_anew(install: Any, steps: Steps, tmp_path: Path, lock: str) -> None:
    """What left a lock is not kept: the environment begins empty."""
    install.main(["test"])
    steps.taken()
    (tmp_path / f"{lock}.txt").write_text("another")
    assert install.main(["test"]) == 0
    assert steps.taken() == ALL


def test_a_changed_project_is_installed_again_alone(install: Any, steps: Steps, tmp_path: Path) -> None:
    """pyproject.toml may name other commands; the packages are as locked."""
    install.main(["run"])
    steps.taken()
    (tmp_path / "pyproject.toml").write_text("another")
    assert install.main(["run"]) == 0
    assert steps.taken() == ALL[-1:]


@pytest.mark.parametrize("what", ALL)
def test_what_was_interrupted_is_not_whole(install: Any, steps: Steps, what: str) -> None:
    """An install that was interrupted, wherever, is made anew."""
    steps.interrupt_at = what
    assert install.main(["run"]) == 130
    steps.interrupt_at = None
    steps.taken()
    assert install.main(["run"]) == 0
    assert steps.taken() == ALL


def test_interrupted_on_top_is_not_whole_either(install: Any, steps: Steps) -> None:
    """The demo's set does not stay whole while the tests' is put on top."""
    install.main(["run"])
    steps.interrupt_at = "what it needs"
    assert install.main(["test"]) == 130
    steps.interrupt_at = None
    steps.taken()
    install.main(["run"])
    assert steps.taken() == ALL


def test_a_moved_folder_or_another_python_makes_all_anew(
    install: Any, steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands in an environment name its folder, its packages are for one Python."""
    install.main(["run"])
    record = tmp_path / ".venv" / "installed.json"
    record.write_text(record.read_text().replace(str(tmp_path), "/elsewhere"))
    steps.taken()
    install.main(["run"])
    assert steps.taken() == ALL
    monkeypatch.setattr(install.sys, "version_info", (3, 99, 0))
    install.main(["run"])
    assert steps.taken() == ALL


def test_a_python_without_venv_is_told(
    install: Any, steps: Steps, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where Debian left `ensurepip` out, the package to install is named."""
    monkeypatch.setattr(install, "find_spec", lambda name: None)
    assert install.main(["run"]) == 1
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert f"the package python{version}-venv" in capsys.readouterr().err
    assert not steps.taken()


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        ("(from versions: none) No matching distribution found for orjson==3.13.0", "look whether it can be reached"),
        ("(from versions: 3.11.9) No matching distribution found for orjson==3.13.0", "take another Python"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "not what was locked"),
        ("OSError: [Errno 28] No space left on device", "make room"),
    ],
)
def test_what_pip_could_not_do_is_told_with_a_remedy(install: Any, printed: str, told: str) -> None:
    """The last lines of the command, and what to do."""
    with pytest.raises(install.Failed) as failed:
        install.run([sys.executable, "-c", f"print({printed!r}); raise SystemExit(1)"], "what it needs")
    assert printed in str(failed.value) and told in str(failed.value)


def test_progress_is_shown_before_anything_is_done(install: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Each step says what it is before it begins."""
    install.run([sys.executable, "-c", ""], "what it needs")
    assert capfd.readouterr().out == "  what it needs ...\n"


def test_an_old_python_is_told_which_it_takes() -> None:
    """Pythons back to 3.6 can read the script as far as the word that they are too old."""
    source = SCRIPT.read_text("utf-8")
    ast.parse(source, feature_version=(3, 6))
    old = f"import sys\nsys.version_info = (3, 9, 1)\nexec(compile({source!r}, 'install.py', 'exec'))"
    done = subprocess.run([sys.executable, "-c", old], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr and "PYTHON=python3.12" in done.stderr
