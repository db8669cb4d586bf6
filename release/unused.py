"""Which options were given and change nothing: whoever gave them is told, and not refused, since
the same command serves a first release and those that follow it."""

from __future__ import annotations

from release import choices
from release.chain import Chain
from release.increment import method_for_new_rows
from release.options import ReleaseOptions, changed

_OF_VICTIMS = (
    *("--victim", "--countermeasure", "--victim-seeds", "--victim-epochs", "--max-accuracy"),
    "--verify-rows",
)
_NOTHING: tuple[object, ...] = (None, [], {})


def without_effect(options: ReleaseOptions, chain: Chain) -> list[str]:
    """The options of the next release of this chain that have none, each with the reason."""
    return [*_of_verification(options), *(_of_first(options, chain) if chain.manifests else ())]


def of_settings(options: ReleaseOptions, target: str) -> list[str]:
    """The options that only a new release brings about, each with what does the same without."""
    found = (
        [f"--public (see `protect-release publish {target} --public`)"] if options.public else []
    )
    if options.gated is not None:
        settings = f"hf repos settings {target} --gated {options.gated} --repo-type dataset"
        found.append(f"--gated (see `{settings}`)")
    return found


def _of_verification(options: ReleaseOptions) -> list[str]:
    if options.verify:
        return []
    given = changed(options)
    return [f"{name} with --no-verify" for name in _OF_VICTIMS if name in given]


def _of_first(options: ReleaseOptions, chain: Chain) -> list[str]:
    """What stays as it was in the first release, where something else is asked for."""
    first = chain.manifests[0]
    asked: dict[str, tuple[object, object]] = {
        "--preset": (options.preset, first.plan["preset"]),
        "--set": (choices.settings(options.set_), first.plan["settings"]),
        "--net-size": (options.net_size, first.plan["net_size"]),
    }
    if method_for_new_rows(first, options) == first.method:
        asked["--budget"] = (options.budget, first.budget)
    kept = [name for name, (value, old) in asked.items() if value not in (*_NOTHING, old)]
    found = [f"{name} for added rows, which keep that of {first.release}" for name in kept]
    if options.fit_rows is not None:
        found.append("--fit-rows for added rows, whose method is fitted on --fit-share")
    shown = choices.row_numbers("--show-rows", options.show_rows)
    earlier = ",".join(str(row) for row in shown if row < chain.next_row)
    if earlier:
        found.append(f"--show-rows {earlier} for rows of earlier releases")
    return found
