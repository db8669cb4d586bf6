"""What each part of a method brings: the papers' ablations, and what was tried here.

    python -m benchmarks.ablation SOURCE --workdir WORKDIR [--study passes ...]
        [options of benchmarks.potency]

Measured as by `benchmarks.potency`, into files of the same kind, with the same WORKDIR for what is
finished: methods whose fits are equal share one, and all share the clean twins. docs/ablation.md is
then written from all such files there are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from benchmarks import ablation_page, potency
from benchmarks.potency_work import Variant
from benchmarks.studies import STUDIES


def main(arguments: Sequence[str] | None = None) -> int:
    """The studies' rows that are finished are in the results and on the page; 1 where some work
    failed."""
    parser = potency.options_parser()
    parser.add_argument("--study", action="append", choices=STUDIES, help="only this; repeat")
    options = parser.parse_args(arguments)
    failed = potency.measure(options, dict.fromkeys(_variants(options)))
    ablation_page.main()
    return failed


def _variants(options: argparse.Namespace) -> Iterable[Variant]:
    for name in options.study or STUDIES:
        for row in STUDIES[name].rows[options.scale]:
            yield potency.variant(row.method, options, *row.settings)


if __name__ == "__main__":
    raise SystemExit(main())
