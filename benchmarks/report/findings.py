"""What the numbers say, in sentences made from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from fbkit.benchmarks.convergence.groups import SHARES, Group, lead, summarize
from fbkit.benchmarks.convergence.result import ConvergenceResult
from fbkit.benchmarks.device.result import DeviceResult
from fbkit.benchmarks.report.convergence_figures import usual

_MID = SHARES.index(0.95)


def convergence_findings(result: ConvergenceResult, groups: Sequence[Group]) -> list[str]:
    """For each number of pictures the best and the soonest; and how far apart the targets are."""
    said = []
    shown = usual(groups)
    for count in dict.fromkeys(each.per_class for each in shown):
        mine = {each: summarize(each) for each in shown if each.per_class == count}
        best = max(mine, key=lambda each: mine[each].final)
        found = mine[best]
        amount = "all pictures" if not count else f"{count} {'picture' if count == 1 else 'pictures'} a class"
        line = (
            f"With {amount}: {best.source} with {best.solver} ends highest, {found.shipped:.1f} to {found.final:.1f}% "
            f"(worst tenth of the clients {found.worst:.1f}%)"
        )
        leads = {f"{each.source} with {each.solver}": lead(best, each) for each in mine if each != best}
        beaten = [f"{name} by {found.mean:.1f}" for name, found in leads.items() if found and not found.is_noise]
        level = [name for name, found in leads.items() if not found or found.is_noise]
        line += f", on the same clients ahead of {', '.join(beaten)}" if beaten else ""
        line += f"; not told apart from it: {', '.join(level)}" if level else ""
        if not result.machine.emulated:
            soonest = min(mine, key=lambda each: mine[each].reached[_MID].seconds)
            milliseconds = 1000 * mine[soonest].reached[_MID].seconds
            line += f". 95% of its own end is reached first by {soonest.source} with {soonest.solver}: " + (
                f"after {milliseconds:.0f} ms" if milliseconds else "half of the clients are there as shipped"
            )
        said.append(line + ".")
    return said + _targets(result)


def _targets(result: ConvergenceResult) -> list[str]:
    """Largest distance between two curves of the same body, client and solver on different targets."""
    alike: dict[tuple[object, ...], dict[str, tuple[float, ...]]] = defaultdict(dict)
    for curve in result.curves:
        of = result.subjects[curve.subject]
        key = of.source, of.seed, of.precision, curve.solver, curve.per_class, curve.client
        alike[key][of.target] = curve.accuracy
    first = next(iter(alike.values()))
    said = []
    for target in dict.fromkeys(target for each in alike.values() for target in each):
        reference = next(iter(first))
        pairs = [(each[reference], each[target]) for each in alike.values() if reference in each and target in each]
        if target == reference or not pairs:
            continue
        ends = [abs(left[-1] - right[-1]) for left, right in pairs]
        same = sum(distance == 0 for distance in ends)
        said.append(
            f"{target} ends at the same accuracy as {reference} in {same} of {len(ends)} pairs of curves; "
            f"the largest difference is {max(ends):.1f} points, the mean {sum(ends) / len(ends):.2f}."
        )
    return said


def device_findings(results: Sequence[tuple[str, DeviceResult]]) -> list[str]:
    """Which devices learn the same, step by step, as the first with that bundle; and who is emulated."""
    said = []
    for name, result in results:
        if result.machine.emulated:
            said.append(f"{name} is emulated: its times say nothing and are left out; what it learned counts.")
    for place, (name, result) in enumerate(results):
        for other_name, other in results[place + 1 :]:
            if (result.subject.digest, result.subject.pictures) != (other.subject.digest, other.subject.pictures):
                continue
            for mine, theirs in zip(result.learning, other.learning, strict=False):
                if mine.solver != theirs.solver or len(mine.points) != len(theirs.points):
                    continue
                pairs = list(zip(mine.points, theirs.points, strict=True))
                accuracy = max(abs(left.accuracy - right.accuracy) for left, right in pairs)
                loss = max(abs(left.loss - right.loss) for left, right in pairs)
                same = f"{mine.solver} on {name} and on {other_name}, step by step: "
                same += "the same accuracy" if accuracy == 0 else f"accuracy at most {accuracy:.2g} points apart"
                same += ", the same loss" if loss == 0 else f", loss at most {loss:.1e} nats apart"
                said.append(f"{same} ({len(pairs)} points).")
    return said
