"""The README is true: its five minutes were typed, and its reference is the program's own help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def test_the_readme_says_what_the_program_prints() -> None:
    done = subprocess.run(
        [sys.executable, "docs/make_readme.py", "--check"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, f"renew it with: python docs/make_readme.py\n{done.stdout}"
