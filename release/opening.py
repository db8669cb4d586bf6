"""The source that a person's options mean, and the labelled rows that victims are scored on."""

from __future__ import annotations

from release.errors import InputError
from release.options import ReleaseOptions
from release.source import Source, known_split, open_source, test_splits_of


def opened(options: ReleaseOptions, looked_at: str | None = None) -> Source:
    """The source; its columns are found from all splits, or from the one that is `looked_at`."""
    return open_source(
        options.source,
        config=options.config,
        image_column=options.image_column,
        label_column=options.label_column,
        keep=options.keep_column,
        keep_clean=options.keep_clean_column,
        split=options.split,
        looked_at=looked_at,
    )


def tested(source: Source, split: str, options: ReleaseOptions) -> tuple[Source, str | None]:
    """The test split, with labels, and what it is read from: for rows to protect that have no
    labels, the source with whatever labels the test split has itself. (source, None) where nobody
    names a split and none has labels."""
    asked = options.test_split
    if asked == split:
        raise InputError(f"--test-split {split} is the split that is published: name another")
    names = test_splits_of(source, split)
    for name in names if asked is None else [known_split(source, "--test-split", asked)]:
        test = source if source.label_column is not None else opened(options, looked_at=name)
        if test.is_labelled(name):
            return test, name
    if asked is not None:
        raise InputError(
            f"split {asked} has no labels to score victims by: name another with --test-split"
        )
    return source, None
