"""What an appropriator may do to train on a release all the same; one file each."""

from evaluation.countermeasures.base import (
    Countermeasure,
    Setting,
    countermeasures,
    parse,
    register,
)

__all__ = ["COUNTERMEASURES", "Countermeasure", "Setting", "parse", "register"]

COUNTERMEASURES = countermeasures()
