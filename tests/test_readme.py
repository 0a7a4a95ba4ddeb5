"""README and tour are true: they were typed, the reference is the program's own help, and the
picture of `top` is what the screen shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("script", ["docs/make_readme.py", "docs/make_tour.py"])
def test_a_page_says_what_the_program_prints(script: str) -> None:
    done = subprocess.run(
        [sys.executable, script, "--check"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )

    said = f"{done.stdout}{done.stderr}"
    assert done.returncode == 0, f"renew it with: python {script}\n{said}"


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
