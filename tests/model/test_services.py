"""The real services, held to the model through every kind of step; and mistakes in them, caught."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from queuectl.db.engine import Store
from queuectl.service import claims, recall, rescues, statements
from queuectl.service.claims import Settlement
from queuectl.service.recall import Recollection
from tests.campaign import mutants
from tests.model.machine import Services
from tests.model.protocol import KINDS, kind

pytestmark = pytest.mark.timeout(600)

#: Each comes at least so often in a run, or the run shows little; all others five times.
_OFTEN = {
    "a claim": 400,
    "a claim given back by its holder": 50,
    "a claim given back by its rescuer": 20,
    "a late result refused": 5,
    "a loss": 50,
    "a loss, reply lost": 5,
    "a settlement": 150,
    "a settlement, reply lost": 20,
    "recall by worker": 100,
    "rescue by worker from worker": 100,
    "worker starts job": 200,
}


#: The examples are the same every time, until Hypothesis itself draws otherwise.
_SEED = 1


def _run(examples: int, *phases: Phase) -> Counter[str]:
    """Run the machine, with the same examples every time; return what was done."""
    Services.taken.clear()
    run_state_machine_as_test(
        seed(_SEED)(Services),
        settings=settings(
            database=None,
            deadline=None,  # a busy machine is no failure
            report_multiple_bugs=False,
            max_examples=examples,
            stateful_step_count=50,
            phases=phases,
        ),
    )
    return Services.taken


def test_the_services_follow_the_model_through_every_kind_of_step() -> None:
    taken = _run(80, Phase.generate, Phase.shrink)

    print(*sorted(taken.items()), sep="\n")  # noqa: T201  # for -s
    least = dict.fromkeys(KINDS, 5) | _OFTEN
    assert {what: taken[what] for what in least if taken[what] < least[what]} == {}


_TURNS = "turn of worker(, reply lost)?"
#: A rescuer takes all the dead at once, as the model does one by one.
_RESCUES = (
    "(rescue by worker from worker|lease of worker is over: rescue elsewhere)(, reply lost)?"
    "|worker kills what worker left"
)


def _settle_whatever_stands(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(claims, "SETTLE", mutants.without(statements.SETTLE, "version", "state"))


def _go_on_when_declared_dead(patch: pytest.MonkeyPatch) -> None:
    def go_on(worker_id: str, own_row: Callable[[], list[Any]]) -> claims._Own:
        return claims._Own(own_row()[0][1], own_row()[0][2], None, None)

    patch.setattr(claims, "_require_alive", go_on)


def _forget_after_a_lost_reply(patch: pytest.MonkeyPatch) -> None:
    def forgetful(store: Store, worker_id: str, ended: Sequence[Settlement]) -> Recollection:
        return Recollection([], [])

    patch.setattr(recall, "recall", forgetful)


def _charge_what_never_started(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rescues, "_is_unstarted", lambda *rest: False)


def _of_the_campaign(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def bring_in(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(mutants, "_put", patch.setattr)
        mutants.MUTANTS[name].install()

    return bring_in


@pytest.mark.parametrize(
    ("bring_in", "at"),
    [
        pytest.param(
            _settle_whatever_stands,
            "turn of worker|turn of worker, reply lost",
            id="settle-whatever-stands",
        ),
        pytest.param(
            _go_on_when_declared_dead, "turn of worker is refused", id="go-on-when-declared-dead"
        ),
        pytest.param(_forget_after_a_lost_reply, "recall by worker", id="forget-lost-reply"),
        pytest.param(_charge_what_never_started, _RESCUES, id="charge-unstarted"),
        pytest.param(
            _of_the_campaign("record-apart"), "turn of worker, reply lost", id="record-apart"
        ),
        pytest.param(_of_the_campaign("never-rescue"), _RESCUES, id="never-rescue"),
        pytest.param(_of_the_campaign("acknowledge-early"), _RESCUES, id="acknowledge-early"),
    ],
)
def test_a_mistake_in_the_services_is_caught(
    monkeypatch: pytest.MonkeyPatch, bring_in: Callable[[pytest.MonkeyPatch], None], at: str
) -> None:
    """Each is seen at the very step in which it shows."""
    bring_in(monkeypatch)

    with pytest.raises(Exception) as error:  # noqa: PT011  # what it is, is up to the mistake
        _run(80, Phase.generate)

    print(repr(error.value), *getattr(error.value, "__notes__", []), sep="\n")  # noqa: T201  # for -s
    assert re.fullmatch(at, kind(Services.last))
