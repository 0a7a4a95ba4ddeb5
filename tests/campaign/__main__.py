"""``python -m tests.campaign``: faults by the thousand, and then the checker's verdict."""

from __future__ import annotations

import argparse
import os
import pickle
import shlex
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.campaign import mutants, plan, server
from tests.campaign.checker import Verdict, judge
from tests.campaign.drive import Driver
from tests.campaign.strays import die_with_parent
from tests.campaign.terms import Terms
from tests.campaign.verdict import render


@dataclass(frozen=True, slots=True)
class _Driven:
    """A driver's process and the pipe on which its verdict will come."""

    pid: int
    answer: int


def main(arguments: list[str]) -> int:
    """Run the campaign; return the exit code: 0 if every invariant holds, 2 if it failed."""
    asked = _parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # also where a shell had them ignored
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        stores = _stores(asked, Path(folder))
        if _is_server(stores[0]) and asked.files is None:
            asked.files = folder
        driven = [_start(terms) for terms in _terms(asked, stores)]
        verdicts = [verdict for one in driven if (verdict := _await(one)) is not None]
    command = shlex.join(["python", "-m", "tests.campaign", *arguments])
    if verdicts:
        sys.stdout.write(render(verdicts, command, time.monotonic() - began) + "\n")
    if len(verdicts) < len(driven):
        sys.stdout.write(f"{len(driven) - len(verdicts)} stores without a verdict\n")
        return 2
    return 1 if any(verdict.broken for verdict in verdicts) else 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    kinds = [*plan.KINDS, *(kind for kind in plan.SERVER_KINDS if kind not in plan.KINDS)]
    parser = argparse.ArgumentParser("python -m tests.campaign", description=__doc__)
    parser.add_argument("--faults", type=int, default=500, help="faults in all (500)")
    parser.add_argument("--seed", type=int, default=1, help="replays the same plan (1)")
    parser.add_argument(
        "--store",
        help="path or URL of a store that is not there yet; it is kept. Or 'postgresql': a server"
        " of the campaign's own for each store, which may be killed too",
    )
    parser.add_argument("--files", help="folder of the campaign's own files (beside the store)")
    parser.add_argument("--jobs", type=int, help="jobs in all (5 times the faults)")
    parser.add_argument("--stores", type=int, default=1, help="stores side by side (1)")
    parser.add_argument("--lease", type=float, default=2.0, help="seconds (2)")
    parser.add_argument("--rate", type=float, default=3.0, help="faults a second and store (3)")
    parser.add_argument("--limit", type=float, default=86_400.0, help="seconds of faults at most")
    parser.add_argument("--only", action="append", choices=kinds, help="faults; repeatable")
    parser.add_argument("--mutant", choices=sorted(mutants.MUTANTS), help="with this mistake")
    return parser.parse_args(arguments)


def _stores(asked: argparse.Namespace, folder: Path) -> list[str]:
    wanted = mutants.MUTANTS[asked.mutant].store if asked.mutant else None
    base = asked.store or wanted or str(folder / "queue.db")
    if base == server.OWN:
        return [base] * asked.stores
    head, mark, query = base.partition("?") if _is_server(base) else (base, "", "")
    others = [f"{head}-{number}{mark}{query}" for number in range(2, asked.stores + 1)]
    return [base, *others]


def _is_server(store: str) -> bool:
    return store == server.OWN or store.startswith(("postgresql://", "postgres://"))


def _kinds(asked: argparse.Namespace, store: str) -> Mapping[str, int]:
    if asked.only:
        return dict.fromkeys(asked.only, 1)
    if not _is_server(store):
        return plan.KINDS
    spared = () if store == server.OWN else plan.OWN_SERVER_KINDS
    return {kind: weight for kind, weight in plan.SERVER_KINDS.items() if kind not in spared}


def _terms(asked: argparse.Namespace, stores: list[str]) -> list[Terms]:
    faults = -(-asked.faults // len(stores))
    jobs = -(-(asked.jobs or 5 * asked.faults) // len(stores))
    terms = [
        Terms(
            faults,
            asked.seed * 1000 + number,
            store,
            jobs,
            asked.files,
            lease_seconds=asked.lease,
            faults_per_second=asked.rate,
            kinds=_kinds(asked, store),
            mix=plan.SERVER_JOBS if _is_server(store) else plan.JOBS,
            supervisors=4 if _is_server(store) else 2,
            workers=1 if _is_server(store) else 2,
            limit_seconds=asked.limit,
        )
        for number, store in enumerate(stores)
    ]
    if asked.mutant is None:
        return terms
    return [
        replace(mutants.MUTANTS[asked.mutant].change(one), mutant=asked.mutant) for one in terms
    ]


def _start(terms: Terms) -> _Driven:
    answer, tell = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(tell)
        return _Driven(pid, answer)
    try:
        die_with_parent(signal.SIGTERM)
        verdict = judge(Driver(terms, lambda line: _report(terms, line)).run())
        with os.fdopen(tell, "wb") as file:
            pickle.dump(verdict, file)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _report(terms: Terms, line: str) -> None:
    sys.stderr.write(f"seed {terms.seed}: {line}\n")


def _await(driven: _Driven) -> Verdict | None:
    try:
        with os.fdopen(driven.answer, "rb") as file:
            answer = file.read()
    except KeyboardInterrupt:
        answer = b""
        os.kill(driven.pid, signal.SIGTERM)
    os.waitpid(driven.pid, 0)
    if not answer:
        return None
    verdict: Verdict = pickle.loads(answer)  # noqa: S301  # from our own fork
    return verdict


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
