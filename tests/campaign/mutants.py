"""stub"""
from __future__ import annotations
from typing import Any
VARIABLE = "CAMPAIGN_MUTANT"
MUTANTS: dict[str, Any] = {}
def install_named(name: str | None) -> None:
    if name:
        MUTANTS[name].install()
