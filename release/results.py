"""What came of a push, a verification or a comparison, as tables for the terminal and as one object
for machines."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rich.table import Table

from release.manifest import report_path
from release.publish import MAIN
from release.workdir import Workdir

if TYPE_CHECKING:
    from evaluation.report import Report
    from release.pipeline import Made
    from release.plan import ReleasePlan
    from release.verification.plan import VerificationPlan
    from release.verification.publishing import Added
    from release.verification.verifier import Verified

_NOT_PUBLISHED = {"missed": "it missed its gate", "cannot be judged": "it cannot be judged"}


def trials_table(report: Report) -> Table:
    """Each victim beside its clean twin, seeds taken together; the columns of countermeasures and
    of what it trained on are left out where each line says what goes without saying."""
    from evaluation.report import table

    usual = {"countermeasure": "none", "trained on": "all rows"}
    header, *lines = table(report)
    shown = [
        at for at, name in enumerate(header) if any(line[at] != usual.get(name) for line in lines)
    ]
    made = Table(*(header[n] for n in shown))
    for line in lines:
        made.add_row(*(line[n] for n in shown))
    return made


def summary(made: Made) -> dict[str, Any]:
    """What a push came to, as one object."""
    plan, report = made.plan, made.report
    released = sum(len(record.rows) for record in made.records)
    return {
        "changed": made.published is not None,
        "target": plan.target,
        "release": plan.release,
        "published": made.published,
        "rows": plan.num_rows,
        "released": released,
        "total": made.total,
        "quarantined": plan.num_rows - released,
        "method": plan.method,
        "budget": plan.budget,
        "seconds": made.seconds,
        "craft_seconds_per_row": sum(record.seconds for record in made.records) / max(1, released),
        "trials": [_trial(trial) for trial in report.trials],
        "verdict": _verdict(made),
        "sentence": _sentence(made, released),
        "report": _report(made),
    }


def judged(made: Made, folder: Path) -> dict[str, Any]:
    """What a verification before publication came to, its report being in `folder`, as one
    object."""
    verdict = made.report.verdict
    return {
        "release": made.plan.release,
        "rows": made.plan.num_rows,
        "trials": [_trial(trial) for trial in made.report.trials],
        "verdict": _verdict(made),
        "sentence": _verdict(made) if verdict is None else verdict.reason,
        "flags": [flag.id for flag in made.report.flags],
        "report": str(folder),
    }


def _trial(trial: Any) -> dict[str, Any]:
    names = (
        "victim",
        "held_out",
        "countermeasure",
        "rows",
        "seed",
        "clean",
        "protected",
        "peak",
        "renamed",
    )
    return {name: getattr(trial, name) for name in names}


def _verdict(made: Made) -> str:
    verdict = made.report.verdict
    if verdict is None:
        return "not verified"
    if verdict.is_open:
        return "cannot be judged"
    return "holds" if verdict.holds else "missed"


def _sentence(made: Made, released: int) -> str:
    plan = made.plan
    if made.published is None:
        return f"nothing was published: {_NOT_PUBLISHED.get(_verdict(made), _verdict(made))}"
    added = f"{plan.release}, {released:,} rows by {plan.method}, {_verdict(made)}"
    if plan.on_hub and not plan.public and not plan.create_pr:
        return (
            f"{made.published}: {added}; it is private: look at it, then `protect-release publish "
            f"{plan.target} --public`"
        )
    return f"{made.published}: {added}"


def _report(made: Made) -> str:
    """The folder of its report: among what was published, else in WORKDIR."""
    plan = made.plan
    if made.published is None:
        return str(Workdir(Path(plan.workdir)).report)
    folder = str(PurePosixPath(report_path(plan.release)).parent)
    # A pull request is known by the number that its address ends with.
    pull = f"refs/pr/{made.published.rpartition('/')[2]}" if plan.create_pr else None
    return _address(plan, pull or plan.revision, folder)


def _address(plan: ReleasePlan | VerificationPlan, branch: str | None, path: str) -> str:
    """Where readers of the target find this path."""
    if not plan.on_hub:
        return str(Path(plan.target, path))
    at = "" if branch in (None, MAIN) else f"@{quote(str(branch), safe='')}"
    return f"hf://datasets/{plan.target}{at}/{path}"


def verification(verified: Verified, published: Added | None) -> dict[str, Any]:
    """What `verify RELEASE` came to, as one object; `published`: its report, if it was."""
    report = verified.report
    verdict = report.verdict
    return {
        "release": verified.plan.release,
        "rows": verified.plan.rows,
        "delivered_as": verified.plan.delivered_as or None,
        "trials": [_trial(trial) for trial in report.trials],
        "left_out": len(report.left_out) + len(report.unexamined),
        "analyses": {name: found.figures for name, found in report.analyses.items()},
        "holds": None if verdict is None else verdict.holds,
        "sentence": "no victim that the gate looks at had a clean twin"
        if verdict is None
        else verdict.reason,
        "flags": [flag.id for flag in report.flags],
        "report": str(verified.folder)
        if published is None
        else _address(verified.plan, verified.plan.branch, published.folder),
        "published": None if published is None else published.place,
    }


def comparison_table(found: dict[str, Any]) -> Table:
    """The methods, the one that victims learn least from first."""
    from cards.markdown import percent

    table = Table(
        "method", "budget", "worst victim", "learnt", "clean", "s / 1,000", "PSNR", "holds"
    )
    for row in found["methods"]:
        worst, psnr = row["worst"], row["psnr"]
        table.add_row(
            row["method"],
            row["budget"],
            worst["victim"],
            percent(worst["protected"]),
            percent(worst["clean"]),
            f"{row['craft_seconds_per_1000']:.1f}",
            "-" if psnr is None else f"{psnr:.1f} dB",
            {None: "not judged", True: "yes", False: "no"}[row["holds"]],
        )
    return table
