"""What the owner of a source calls a row of it: a file, or a place in a file."""

from __future__ import annotations

from pathlib import Path

from release import readers
from release.readers import within
from release.source import Source
from release.tars import split_key, tar_samples


def row_name(source: Source, split: str, row: int) -> str:
    """The image file of this row of a source that is read whole, or its Parquet file and place
    there, or its tar and key; without the folder that the source is in."""
    files = source.files(split)
    if source.kind == "imagefolder":
        return _short(source, files[row])
    tars = source.kind == "webdataset"
    return _in_tars(source, split, row) if tars else _in_parquet(source, split, row)


def _in_parquet(source: Source, split: str, row: int) -> str:
    for url in source.files(split):
        count = readers.parquet_num_rows([url])
        if row < count:
            return f"row {row} of {_short(source, url)}"
        row -= count
    raise IndexError(row)


def _in_tars(source: Source, split: str, row: int) -> str:
    for url in source.files(split):
        for _, members in tar_samples(url):
            if row == 0:
                key, _ = split_key(next(iter(members.values())).name)
                return f"{key} of {_short(source, url)}"
            row -= 1
    raise IndexError(row)


def _short(source: Source, url: str) -> str:
    if url.startswith("hf://"):
        return "/".join(url.split("/")[5:])
    folder = Path(source.spec).expanduser().resolve()
    return within(str(folder), url) if Path(url).is_relative_to(folder) else url
