"""`python -m tests.fuzz [TARGET…]`: many cases, a table of what they found, and for each failure how to repeat it."""

import argparse
import itertools
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.fuzz import Found, Fuzzer, Tally, fuzzer, within
from tests.fuzz.scratch import scratch
from tests.fuzz.targets import TARGETS

BATCH = 10  # cases of a target before the next one's turn
Work = tuple[int, argparse.Namespace]


def main() -> int:
    options = parse()
    if options.case is not None:
        return repeat(options)
    begin = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:  # most of the work is done by the servers' children
        parts = list(pool.map(work, [(job, options) for job in range(options.jobs)]))
    tallies = {target: Tally() for target in options.targets}
    for part in parts:
        for target, tally in part.items():
            tallies[target].merge(tally)
    print(table(tallies, time.monotonic() - begin))
    print(causes(tallies))
    return int(any(tally.found for tally in tallies.values()))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; by default all")
    parser.add_argument("--cases", type=int, default=1_000_000_000, help="of each target at most")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="by default another one each time")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="a folder for one case of each failure, made small")
    parser.add_argument("--case", type=int, help="repeat this one alone, and show what it prints")
    parser.add_argument("--edit", type=int, action="append", help="of --case, only this change; may repeat")
    options = parser.parse_args()
    options.targets = options.targets or list(TARGETS)
    if unknown := [target for target in options.targets if target not in TARGETS]:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    return options


def work(order: Work) -> dict[str, Tally]:
    """One thread's share: of all targets in turn, each batch whose number is the thread's."""
    job, options = order
    tallies = {target: Tally() for target in options.targets}
    with scratch() as folder, fuzzer(folder) as fuzz:
        end = time.monotonic() + options.seconds
        for first in itertools.count(job * BATCH, options.jobs * BATCH):
            numbers = range(first, min(first + BATCH, options.cases))
            if not numbers or time.monotonic() > end:
                break
            for target, tally in tallies.items():
                enough = within(end - time.monotonic(), len(numbers))
                batch = fuzz.many(target, options.seed, iter(numbers), enough)
                for key in batch.found.keys() - tally.found.keys():
                    batch.found[key][0] = tell(fuzz, key, batch.found[key][0], options.keep)
                tally.merge(batch)
            if job == 0:
                cases, left = sum(tally.cases for tally in tallies.values()), end - time.monotonic()
                print(f"{cases} cases by the first of {options.jobs} jobs; {left:.0f} s left", file=sys.stderr)
    return tallies


def tell(fuzz: Fuzzer, key: tuple[str, str], found: Found, keep: Path | None) -> Found:
    """The first of its kind at a target, made small; kept, and told at once: whoever waits for hours may give up."""
    found = fuzz.minimise(found)
    if keep:
        fuzz.keep(found, keep)
    print(f"{key[0]}: {key[1]}\n    {found.command}", file=sys.stderr, flush=True)
    return found


def repeat(options: argparse.Namespace) -> int:
    """One case again."""
    [target] = options.targets
    with scratch() as folder, fuzzer(folder) as fuzz:
        edits = options.edit if options.edit is not None else None
        case, ended, found = fuzz.run(target, options.seed, options.case, edits)
        print(case.command, *map(ascii, case.arguments), f"\n{ended}")
        for name in ("stdout", "stderr", "fault"):
            print(f"── {name}\n{readable(fuzz.folders.stream(name))}")
        for failure in found.failures:
            print(*map(ascii, failure), sep="\n    ")
        if options.keep:
            fuzz.keep(found, options.keep)
    return int(bool(found.failures))


def readable(stream: bytes) -> str:
    """What was printed, with escapes for all but ASCII, and its lines as lines."""
    return "\n".join(ascii(line)[1:-1] for line in stream.decode("utf-8", "backslashreplace").split("\n"))[:20_000]


def table(tallies: dict[str, Tally], seconds: float) -> str:
    """A line a target; then all of them."""
    total = Tally()
    for tally in tallies.values():
        total.merge(tally)
    columns = (
        f"{'cases':>7} {'past header':>11} {'accepted':>9} {'failed':>7} {'ms a case':>9} {'slowest':>8} {'memory':>8}"
    )
    lines = [line(name, tally) for name, tally in [*tallies.items(), ("all", total)]]
    end = f"{seconds:.0f} s; exit statuses {dict(sorted(total.statuses.items()))}"
    return "\n".join([f"{'target':<16} {columns}", *lines, end])


def line(name: str, tally: Tally) -> str:
    n = max(1, tally.cases)
    failed = len({(one.seed, one.number, one.target) for found in tally.found.values() for one in found})
    return (
        f"{name:<16} {tally.cases:>7} {tally.past_header / n:>11.1%} {tally.accepted / n:>9.1%} {failed:>7} "
        f"{1000 * tally.seconds / n:>9.0f} {tally.slowest:>6.1f} s {tally.largest >> 20:>5} MB"
    )


def causes(tallies: dict[str, Tally]) -> str:
    """Every kind of failure with its cause, how often at which targets, and the first case of it."""
    found: dict[tuple[str, str], list[tuple[str, int]]] = {}
    first = {}
    for target, tally in tallies.items():
        for key, cases in tally.found.items():
            found.setdefault(key, []).append((target, len(cases)))
            first.setdefault(key, cases[0])
    lines = []
    for key, where in sorted(found.items(), key=lambda item: (item[0][0], -sum(n for _, n in item[1]))):
        detail = next((failure.detail for failure in first[key].failures if failure[:2] == key), "")
        lines.append(f"\n{key[0]}: {key[1]}  ({', '.join(f'{target} {n}' for target, n in where)})")
        lines.append(f"    {ascii(detail)[:300]}\n    {first[key].command}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
