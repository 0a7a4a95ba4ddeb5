"""The checker finds each broken invariant in facts that are written down by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.campaign import plan
from tests.campaign.checker import Verdict, judge, shortest
from tests.campaign.facts import (
    Batch,
    Facts,
    Freeze,
    Sign,
    StoredAttempt,
    StoredJob,
    Stray,
    Strike,
    Trouble,
    parse_sign,
)

WORKER, OTHER = "aaaaaaaa", "bbbbbbbb"
PID, OTHER_PID = 100, 200


def sign(kind: str, run: int, at: float, code: int | None = None, worker: str = WORKER) -> Sign:
    parent = PID if worker == WORKER else OTHER_PID
    return Sign(kind, "j1", run, f"1-{2 * run}", worker, "s1", parent, at, code)


def attempt(
    run: int, started: float, finished: float, outcome: str, **fields: object
) -> StoredAttempt:
    values: dict[str, object] = {
        "worker": WORKER,
        "pid": PID,
        "exit_code": None if outcome == "lost" else 0,
        "signal": None,
        **fields,
    }
    return StoredAttempt("j1", run, started=started, finished=finished, outcome=outcome, **values)  # type: ignore[arg-type]


JOB = StoredJob(1, "j1", "completed", 2, 0, 3, None, in_dlq=False)

#: One job: its worker was killed, another ran it to its end.
SOUND = Facts(
    "store",
    signs=(
        sign("start", 1, 10.0),
        sign("tick", 1, 10.2),
        sign("child", 1, 10.2),
        sign("start", 2, 11.0, worker=OTHER),
        sign("end", 2, 11.2, 0, worker=OTHER),
    ),
    batches=(Batch("c1", ("j1",), ("j1",), 9.0, 0),),
    jobs=(JOB,),
    attempts=(
        attempt(1, 9.9, 10.8, "lost"),
        attempt(2, 10.9, 11.3, "completed", worker=OTHER, pid=OTHER_PID),
    ),
    strikes=(Strike(1, plan.WORKER_KILLED, 10.3, (PID,)),),
)


def with_signs(*more: Sign) -> Facts:
    return replace(SOUND, signs=(*SOUND.signs, *more))


def with_job(**changes: object) -> Facts:
    return replace(SOUND, jobs=(replace(JOB, **changes),))  # type: ignore[arg-type]


def with_second(**changes: object) -> Facts:
    first, second = SOUND.attempts
    return replace(SOUND, attempts=(first, replace(second, **changes)))  # type: ignore[arg-type]


def test_a_sound_history_breaks_nothing_and_tells_its_recovery() -> None:
    verdict = judge(SOUND)

    assert verdict.broken == ()
    [recovery] = verdict.recoveries
    assert (recovery.kind, recovery.clear) == (plan.WORKER_KILLED, True)
    assert recovery.seconds == pytest.approx(0.7)
    assert verdict.counts["runs that a job wrote down"] == 2


ORPHANS = "unmarked orphans whose supervisor was dead or stopped too"


@pytest.mark.parametrize(
    ("facts", "broken"),
    [
        pytest.param(replace(SOUND, jobs=(), attempts=(), signs=()), "I1", id="an id is gone"),
        pytest.param(
            replace(SOUND, batches=(Batch("c1", ("j1", "j2"), (), 9.0, None),)),
            "I1",
            id="half a batch is there",
        ),
        pytest.param(replace(SOUND, jobs=(JOB, JOB)), "I1", id="an id is there twice"),
        pytest.param(with_signs(sign("tick", 1, 11.1)), "I2", id="two runs overlap"),
        pytest.param(
            with_signs(sign("start", 2, 11.05, worker=OTHER)), "I2", id="a run begins twice"
        ),
        pytest.param(with_second(exit_code=1, outcome="failed"), "I3", id="another exit code"),
        pytest.param(with_second(signal=9), "I3", id="a signal that the job never saw"),
        pytest.param(with_second(worker=WORKER), "I3", id="recorded by who did not run it"),
        pytest.param(
            with_signs(sign("start", 3, 12.0, worker=OTHER)), "I3", id="ran again when completed"
        ),
        pytest.param(with_second(outcome="lost", exit_code=None), "I3", id="completed by nobody"),
        pytest.param(
            replace(
                SOUND,
                signs=(*SOUND.signs, sign("end", 1, 10.25, 3)),
                attempts=(attempt(1, 9.9, 11.8, "failed", exit_code=3), SOUND.attempts[1]),
            ),
            "I3",
            id="recorded after a later run began",
        ),
        pytest.param(replace(SOUND, attempts=SOUND.attempts[1:]), "I4", id="a gap"),
        pytest.param(with_job(attempts=1), "I4", id="a failure counted, none recorded"),
        pytest.param(with_job(in_dlq=True), "I4", id="completed and in the dead letter queue"),
        pytest.param(with_signs(sign("child", 1, 11.1)), "I5", id="a child outlived its run"),
        pytest.param(
            with_signs(sign("hidden", 1, 11.9)), "I5", id="a hidden child outlived its run"
        ),
        pytest.param(replace(SOUND, strays=(Stray(5, "sleep", 12.0),)), "I5", id="a stray"),
        pytest.param(with_job(state="processing"), "I6", id="processing after the drain"),
        pytest.param(replace(SOUND, damage=("row 1 missing",)), "I7", id="a damaged database"),
        pytest.param(replace(SOUND, complaints=("Traceback",)), "I8", id="a traceback"),
    ],
)
def test_each_broken_invariant_is_found(facts: Facts, broken: str) -> None:
    verdict = judge(facts)

    assert broken in verdict.broken


def test_more_failures_than_retries_are_found() -> None:
    failed = [attempt(run, 10.0 + run, 10.5 + run, "failed", exit_code=3) for run in range(1, 4)]
    signs = [
        made
        for run in range(1, 4)
        for made in (sign("start", run, 10.1 + run), sign("end", run, 10.2 + run, 3))
    ]
    job = replace(JOB, state="dead", runs=3, attempts=3, max_retries=1, in_dlq=True)
    facts = replace(SOUND, signs=tuple(signs), attempts=tuple(failed), jobs=(job,))

    assert judge(facts).broken == ("I4",)
    assert judge(replace(facts, jobs=(replace(job, requeues=1),))).broken == ()


def test_an_unmarked_orphan_of_a_killed_supervisor_is_counted_and_not_held_against_anybody() -> (
    None
):
    killed = Strike(2, plan.BOTH_KILLED, 10.3, (1, PID), "s1")
    facts = replace(with_signs(sign("hidden", 1, 13.0)), strikes=(killed,))

    verdict = judge(facts)

    assert verdict.broken == ()
    assert verdict.counts[ORPHANS] == 1


def test_a_worker_that_lives_on_without_its_supervisor_answers_for_what_it_leaves() -> None:
    killed = Strike(2, plan.SUPERVISOR_KILLED, 10.3, (1,), "s1")
    facts = with_signs(sign("hidden", 1, 13.0))

    assert judge(replace(facts, strikes=(killed, *SOUND.strikes))).broken == ()
    assert judge(replace(facts, strikes=(killed,))).broken == ("I5",)


def test_an_unmarked_orphan_of_a_stopped_supervisor_lives_until_it_goes_on() -> None:
    facts = with_signs(sign("hidden", 1, 13.0))
    frozen = Freeze("s1", 10.3, 13.5)

    assert judge(replace(facts, freezes=(frozen,))).broken == ()
    assert judge(replace(facts, freezes=(replace(frozen, end=12.5),))).broken == ("I5",)
    assert judge(replace(facts, freezes=(replace(frozen, supervisor="s2"),))).broken == ("I5",)


@pytest.mark.parametrize("outcome", ["timed out", "stalled"])
def test_a_time_that_is_over_before_the_first_line_is_no_breach(outcome: str) -> None:
    job = replace(JOB, state="dead", runs=1, attempts=1, max_retries=0, in_dlq=True)
    facts = replace(SOUND, signs=(), attempts=(attempt(1, 9.9, 10.5, outcome),), jobs=(job,))

    assert judge(facts).broken == ()
    failed = (attempt(1, 9.9, 10.5, "failed", exit_code=3),)
    assert judge(replace(facts, attempts=failed)).broken == ("I3",)


def test_the_history_of_a_breach_tells_what_happened_in_order() -> None:
    verdict = judge(with_signs(sign("tick", 1, 11.1)))

    breach = shortest(verdict.breaches, "I2")
    assert breach is not None
    assert [moment.text.split(" (")[0] for moment in breach.history] == [
        "enqueue: acknowledged by client c1, which ended with 0",
        "job: run 1 starts",
        "child of run 1 is alive",
        "FAULT 1: worker killed ",
        "store: run 1 lost",
        "job: run 2 starts",
        "job: run 1 is alive",
        "job: run 2 ends with 0",
        "store: run 2 completed, exit code 0",
    ]


def test_a_recovery_in_times_of_trouble_is_set_apart() -> None:
    facts = replace(SOUND, troubles=(Trouble(10.5, 10.6, "disk full"),))

    assert [recovery.clear for recovery in judge(facts).recoveries] == [False]


def test_a_host_that_is_cut_off_stands_in_nobodys_way_but_others() -> None:
    cut = Trouble(10.3, 13.0, plan.PARTITIONED)
    struck = replace(SOUND.strikes[0], kind=plan.PARTITIONED)

    own = judge(replace(SOUND, strikes=(struck,), troubles=(cut,)))
    others = judge(replace(SOUND, troubles=(cut,)))

    assert [(r.kind, r.clear) for r in own.recoveries] == [(plan.PARTITIONED, True)]
    assert [(r.kind, r.clear) for r in others.recoveries] == [(plan.WORKER_KILLED, False)]


@pytest.mark.parametrize("line", ["", "start j1 1 1-2 w s 5 10.0 -", "start j1 1 1-2 w s 5 10."])
def test_a_line_that_is_not_whole_is_no_sign(line: str) -> None:
    assert parse_sign(line) is None


def test_the_same_seed_makes_the_same_plan() -> None:
    def first(seed: int) -> list[plan.Fault]:
        made = plan.make_plan(seed, 3.0)
        return [next(made) for _ in range(2000)]

    assert first(7) == first(7)
    assert first(7) != first(8)
    assert {fault.kind for fault in first(7)} == set(plan.KINDS)
    on_a_server = plan.make_plan(7, 3.0, plan.SERVER_KINDS)
    assert {next(on_a_server).kind for _ in range(2000)} == set(plan.SERVER_KINDS)


def test_verdicts_cross_processes() -> None:
    import pickle

    verdict: Verdict = pickle.loads(pickle.dumps(judge(SOUND)))  # noqa: S301  # our own

    assert verdict == judge(SOUND)
