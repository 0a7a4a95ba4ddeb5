"""The README is true: its five minutes were typed, its reference is the program's own help, and its
picture is what the screen shows."""

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


def test_the_picture_shows_what_the_screen_shows() -> None:
    done = subprocess.run(
        [sys.executable, "docs/make_screenshot.py", "--check"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    picture = (CHECKOUT / "docs" / "top.svg").read_text()

    assert done.returncode == 0, (
        f"renew it with: python docs/make_screenshot.py\n{done.stdout}{done.stderr}"
    )
    assert "film-03" in picture
    assert "COMMAND" in picture
    assert "Follow" in picture
    assert "url(" not in picture.replace("url(#", "")
