"""Packages that only some need: how to bring one in, for the Python that runs this program."""

from __future__ import annotations

import shlex
import sys
from importlib import metadata
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent


def how_to_install(extra: str) -> str:
    """Return a hint that names the command, in a checkout or where a wheel was installed."""
    if (_CHECKOUT / "pyproject.toml").exists():
        return f"in the checkout, run: pip install -e '.[{extra}]'"
    wanted = " ".join(map(shlex.quote, _requirements(extra)))
    python = shlex.quote(sys.executable)
    return f"run: {python} -m pip install {wanted} (with pipx: pipx inject queuectl {wanted})"


def _requirements(extra: str) -> list[str]:
    """Return what the installed program says that the extra needs: ``textual~=8.2``."""
    marked = (line.replace("'", '"').partition(";") for line in metadata.requires("queuectl") or ())
    return [name.strip() for name, _, marker in marked if f'extra == "{extra}"' in marker]
