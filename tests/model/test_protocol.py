"""The protocol, exhaustively: every interleaving of three workers, two jobs and their faults."""

from __future__ import annotations

import pytest

from tests.model.explorer import explore
from tests.model.protocol import KINDS, Mistake

#: A change of the model shows here. After one that was meant: the counts that the test prints.
STATES = 128_631
TRANSITIONS = 3_846_455
BROKEN_BY = {
    Mistake.ACKNOWLEDGE_BEFORE_COMMIT: "I1",
    Mistake.SETTLE_WITHOUT_VERSION: "I3",
    Mistake.CLAIM_WITHOUT_RECHECK: "I4",
    Mistake.RESCUE_WITHOUT_KILL: "I5",
    Mistake.RESCUE_BY_AGE: "I5",
    Mistake.TURN_OF_A_DEAD_WORKER: "I6",
    Mistake.FORGET_AFTER_LOST_REPLY: "I6",
    Mistake.START_AFTER_LOST_REPLY: "I5",
    Mistake.SPARE_STRAYS: "I5",
}


@pytest.mark.timeout(600)
def test_no_interleaving_breaks_an_invariant() -> None:
    found = explore()

    print(f"{found.states:,} states, {found.transitions:,} transitions")  # noqa: T201  # for -s
    assert found.broken is None, _tell(found.broken, found.history)
    assert set(found.taken) == KINDS, "a kind of step was never taken, or is new"
    assert (found.states, found.transitions) == (STATES, TRANSITIONS)


@pytest.mark.parametrize("mistake", Mistake)
def test_a_careless_protocol_is_caught(mistake: Mistake) -> None:
    found = explore(frozenset({mistake}))

    print(_tell(found.broken, found.history))  # noqa: T201  # for -s
    assert found.broken is not None
    assert found.broken.startswith(BROKEN_BY[mistake])
    assert found.history


def _tell(broken: str | None, history: list[str]) -> str:
    steps = "\n".join(f"  {number:>3}. {step}" for number, step in enumerate(history, 1))
    return f"{broken}; the shortest way there:\n{steps}"
