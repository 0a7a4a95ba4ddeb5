"""A small disk: a tmpfs over a store's folder, for whoever may mount one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def one_mebibyte(folder: Path) -> Iterator[Path]:
    """Make the folder, as a disk of its own with room for little more than an empty store."""
    folder.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
