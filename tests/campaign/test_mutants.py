"""The checker is checked: the campaign catches each known mistake, or its verdict means nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign import mutants
from tests.campaign.test_campaign import run_campaign

_ROUNDS = 4
_LIMIT_SECONDS = 1200


@pytest.mark.timeout(_LIMIT_SECONDS)
@pytest.mark.parametrize("name", mutants.MUTANTS)
def test_the_campaign_catches_the_mutant(tmp_path: Path, name: str) -> None:
    """Its short campaign is run with another seed each time, until the mistake shows."""
    broken, store = mutants.MUTANTS[name].breaks, mutants.MUTANTS[name].store
    told = []
    for seed in range(1, _ROUNDS + 1):
        folder = tmp_path / str(seed)
        folder.mkdir()

        ended = run_campaign(folder, "--mutant", name, "--seed", str(seed), store=store)

        told.append(ended.stdout + ended.stderr)
        if f"\n{broken} BROKEN" in ended.stdout:
            assert ended.returncode == 1
            return
    pytest.fail(f"{name} was never caught to break {broken}:\n" + "\n".join(told))


def test_the_table_of_mutants_is_the_one_of_the_docs() -> None:
    page = Path(__file__).parents[2] / "docs" / "reliability.md"

    assert mutants.table() in page.read_text()
