"""Environments in which the built wheel is installed with what it needs and nothing else, made without the network."""

import importlib.metadata
import re
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tests.toolchain import load_script

CHECKOUT = Path(__file__).parent.parent
INSTALL = load_script(CHECKOUT / "requirements" / "install.py")


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout into a folder, with what is installed here."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(CHECKOUT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@dataclass(frozen=True)
class Installed:
    """A virtual environment."""

    folder: Path

    @property
    def bin(self) -> Path:
        """Where its commands are."""
        return self.folder / "bin"

    @property
    def packages(self) -> Path:
        """Where its packages are."""
        return Path(sysconfig.get_path("purelib", "venv", {"base": str(self.folder)}))

    def install(self, wheel: Path) -> None:
        """Install a wheel, over what is there."""
        command = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "--disable-pip-version-check"]
        flags = ("--quiet", "--no-deps", "--no-index", "--force-reinstall")
        done = subprocess.run([*command, "install", *flags, str(wheel)], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, *arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run one of its commands as a person would from a folder, in an environment with these variables alone."""
        own = {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(cwd), **variables}
        return subprocess.run(
            [str(self.bin / arguments[0]), *arguments[1:]], cwd=cwd, env=own, capture_output=True, text=True, timeout=60
        )


def default_environment(folder: Path) -> Installed:
    """Make an environment that has what the lock names for running, lent by this one, and no more."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=100)
    made = Installed(folder)
    wanted = INSTALL.pins("run")
    for found in importlib.metadata.distributions():
        if re.sub("[-_.]+", "-", found.name).lower() in wanted:
            for top in {path.parts[0] for path in found.files or () if path.parts[0] not in ("..", "__pycache__")}:
                (made.packages / top).symlink_to(Path(str(found.locate_file(top))))
    return made
