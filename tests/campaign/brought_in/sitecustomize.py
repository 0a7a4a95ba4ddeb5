"""Brings failpoints and mutants into a program that is started anew, through PYTHONPATH."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if "CAMPAIGN_ORDERS" in os.environ:
    sys.path.insert(0, str(Path(__file__).parents[3]))
    from tests.campaign import failpoints, mutants

    failpoints.install()
    mutants.install_named(os.environ.get(mutants.VARIABLE))
