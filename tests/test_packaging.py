"""What is shipped: the locks, the wheel, the image's recipe, and the scripts that set it up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from queuectl import __version__

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock")


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it to its end; what it printed is in a failed test's report."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=100, **options
    )
    print(done.stdout, done.stderr)  # noqa: T201  pytest shows it when the test fails
    return done


def pins(lock: str) -> dict[str, str]:
    """The names and versions that a lock holds."""
    text = (ROOT / lock).read_text()
    return dict(
        re.findall(r"^([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==([^ \\]+)", text, flags=re.MULTILINE)
    )


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


# -- the locks


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_packages_and_hashes_and_nothing_else(lock: str) -> None:
    text = (ROOT / lock).read_text()

    entries = [part for part in re.split(r"\n(?=[a-z])", text) if not part.startswith("#")]

    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"://|^--|index-url|find-links| /", text, flags=re.MULTILINE)


def test_the_lock_holds_what_the_project_asks_for_and_the_build_backend() -> None:
    locked = pins("requirements.lock")

    asked = [Requirement(text) for text in project()["project"]["dependencies"]]

    assert asked
    assert [str(r) for r in asked if locked[canonicalize_name(r.name)] not in r.specifier] == []
    assert "hatchling" in locked


def test_the_lock_of_the_image_holds_the_driver_of_a_fleet() -> None:
    locked = pins("requirements.lock")

    [driver] = project()["project"]["optional-dependencies"]["postgresql"]

    assert locked["psycopg"] in Requirement(driver).specifier
    assert locked["psycopg-binary"] == locked["psycopg"]


def test_the_development_lock_has_the_same_versions_and_the_tools() -> None:
    locked, development = (pins(lock) for lock in LOCKS)

    tools = [text for text in project()["dependency-groups"]["dev"] if isinstance(text, str)]

    assert locked.items() <= development.items()
    assert {canonicalize_name(Requirement(text).name) for text in tools} <= development.keys()


# -- the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    assert run(*pip, "--wheel-dir", folder, ROOT).returncode == 0
    (built,) = folder.iterdir()
    return built


def test_the_wheel_holds_the_package_and_the_migrations(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    package = {p.relative_to(ROOT).as_posix() for p in (ROOT / "queuectl").rglob("*.py")}
    migrations = {
        f"queuectl/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "migrations").rglob("*.py")
    }

    assert wheel.name == f"queuectl-{__version__}-py3-none-any.whl"
    assert {name for name in names if name.endswith(".py")} == package | migrations
    assert "queuectl/migrations/script.py.mako" in names
    assert not [name for name in names if name.endswith((".pyc", ".db"))]


def test_an_installed_wheel_works_far_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "venv"
    venv.create(installed, with_pip=False)
    python = installed / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
    assert run(*pip, wheel).returncode == 0
    # The dependencies of the environment that runs this test, without its own queuectl: a folder
    # that is named in a .pth file has its .pth files left alone.
    (site,) = installed.glob("lib/python*/site-packages")
    (dependencies,) = {p for p in sys.path if p.endswith("site-packages")}
    (site / "dependencies.pth").write_text(dependencies)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    def queuectl(*words: str) -> str:
        program = installed / "bin" / "queuectl"
        done = run(program, *words, cwd=tmp_path, env=environment)
        assert done.returncode == 0
        return done.stdout

    where = run(
        python, "-c", "import queuectl; print(queuectl.__file__)", cwd=tmp_path, env=environment
    )
    assert str(site) in where.stdout
    assert queuectl("--version").split()[-1] == __version__
    identifier = queuectl("enqueue", "--", "echo", "far away").strip()
    queuectl("db", "upgrade")
    queuectl("db", "check")
    queuectl("worker", "start", "--drain")
    assert '"completed"' in queuectl("list", "--json")
    assert queuectl("logs", identifier) == "far away\n"


# -- the image


def test_the_image_and_compose_say_the_programs_version() -> None:
    versions = re.findall(r"^ARG VERSION=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    versions += re.findall(r"VERSION: (.+)", (ROOT / "compose.yaml").read_text())

    assert len(versions) == 3
    assert set(versions) == {__version__}


def test_the_image_is_given_every_file_that_it_copies() -> None:
    copies = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    given = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)

    assert sorted(" ".join(copies).split()) == sorted(given)
    assert all((ROOT / name).exists() for name in given)


# -- the scripts


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the set-up script and a project of one line."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(ROOT / "setup.sh", folder)
    (folder / "pyproject.toml").write_text("[project]\n")
    (folder / "some.lock").write_text("one==1\n")
    return folder


def sourced(checkout: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash after `source ./setup.sh`."""
    bash = shutil.which("bash")
    assert bash is not None
    line = f"set -euo pipefail; source ./setup.sh; {script}"
    return run(bash, "-c", line, cwd=checkout, env={"PATH": os.environ["PATH"], **environment})


def fake(folder: Path, name: str, code: int) -> None:
    """A program that ends with this code, whatever it is asked."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\nexit {code}\n")
    program.chmod(0o755)


def test_no_python_that_is_new_enough_is_a_clear_error(checkout: Path, tmp_path: Path) -> None:
    fake(tmp_path / "bin", "python3", 1)

    done = sourced(checkout, "install some.lock", PATH=str(tmp_path / "bin"))

    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr
    assert not (checkout / ".venv").exists()


def test_the_first_python_that_is_new_enough_is_taken(checkout: Path, tmp_path: Path) -> None:
    fake(tmp_path / "bin", "python3", 1)
    fake(tmp_path / "bin", "python3.13", 0)

    done = sourced(checkout, "find_python", PATH=str(tmp_path / "bin"))

    assert done.stdout == "python3.13\n"


def test_nothing_is_installed_again_until_lock_project_or_folder_change(checkout: Path) -> None:
    mark = "mkdir -p .venv; wanted_from some.lock > .venv/installed-some.lock; "
    ask = "is_installed some.lock && echo current || echo stale"

    assert sourced(checkout, ask).stdout == "stale\n"
    assert sourced(checkout, mark + ask).stdout == "current\n"
    assert sourced(checkout, "echo 'two==2' >> some.lock; " + ask).stdout == "stale\n"
    assert sourced(checkout, mark + ask).stdout == "current\n"
    assert sourced(checkout, "echo 'name = 1' >> pyproject.toml; " + ask).stdout == "stale\n"
    assert sourced(checkout, mark + ask).stdout == "current\n"
    moved = checkout.rename(checkout.with_name("moved"))
    assert sourced(moved, ask).stdout == "stale\n"


def test_a_tool_that_cannot_be_had_is_named_loudly(tmp_path: Path) -> None:
    fake(tmp_path / "bin", "strace", 0)
    fake(tmp_path / "bin", "apt-get", 1)
    bash = shutil.which("bash")
    assert bash is not None

    done = run(bash, ROOT / "tests" / "install-tools.sh", env={"PATH": str(tmp_path / "bin")})

    assert done.returncode == 0
    assert "WARNING: not on this machine: faketime zsh fish git tmux" in done.stderr


@pytest.mark.parametrize("script", ["demo.sh", "test.sh", "lock.sh", ".ci/run"])
def test_a_script_can_be_executed(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    assert (ROOT / script).read_text().startswith("#!/usr/bin/env bash\n")
