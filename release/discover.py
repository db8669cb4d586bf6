"""Finds a dataset: what a person's words mean, which files `datasets` sees there, and their pin."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from datasets import Features, load_dataset_builder
from huggingface_hub.repocard import RepoCard

from release import samples
from release.errors import HubRefused, InputError
from release.files import open_file
from release.hub import HubRepo
from release.hub_client import patiently, source_patience, token_for
from release.image_folder import ImageFolder, files_below
from release.manifest import MADE_BY, manifest_path
from release.paths import written
from release.readers import within
from release.shards import FIRST_RELEASE
from release.threads import in_order
from release.workdir import cache_home, demand_plain_path, shown

Kind = Literal["parquet", "imagefolder", "webdataset"]
_KINDS: tuple[Kind, ...] = ("parquet", "imagefolder", "webdataset")
_HUB = "hf://datasets/"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[^@]+)?")
_COMMIT = re.compile(r"hf://datasets/[^@]+@([0-9a-f]{40})/")


@dataclass(frozen=True)
class Found:
    """A dataset's files and what it says about itself.

    root: a local folder, or hf://datasets/ID@COMMIT; splits: each split's file URLs in row order;
    features: as its card declares them, or None; card: the YAML of its README; unread: of an image
    folder, how many files of each extension are no rows.
    """

    spec: str
    root: str
    kind: Kind
    config: str
    configs: list[str]
    splits: dict[str, list[str]]
    features: Features | None
    readme: str
    card: dict[str, Any]
    unread: Sequence[str] = ()

    def files(self) -> list[str]:
        """Every split's files."""
        return [url for urls in self.splits.values() for url in urls]

    def only(self, split: str) -> Found:
        """The same dataset with this split alone."""
        return replace(self, splits={split: self.splits[split]})

    def pin(self) -> str:
        """The commit on the Hub, else a digest of every file's path and contents."""
        commit = _COMMIT.match(f"{self.root}/")
        return commit[1] if commit else _digest_of_files(self)

    def fact(self, name: str) -> str | None:
        """A text in the card's YAML, the first where there are several."""
        value = self.card.get(name)
        value = value[0] if isinstance(value, list) and value else value
        return value if isinstance(value, str) else None

    def citation(self) -> str | None:
        """The first BibTeX block of the README."""
        block = re.search(r"^```bib(?:tex)?\s*\n(.*?)^```", self.readme, re.DOTALL | re.MULTILINE)
        return (block[1].strip() or None) if block else None


def discover(spec: str, config: str | None, *, ours_too: bool = False) -> Found:
    """The dataset that `spec` means: a folder, a Hub id, or sample:NAME.

    InputError where nothing is there, it cannot be reached, it is of another kind, or it is one of
    our own releases, unless `ours_too`.
    """
    where = _where(spec)
    on_hub = where.startswith(_HUB)
    path, _, revision = where.removeprefix(_HUB).partition("@") if on_hub else (where, "", "")
    if not on_hub:
        demand_plain_path(Path(where), "the dataset")
    pin = _pin(path, revision or "main", spec) if on_hub else None
    builder = _builder(path, spec, config, pin)
    files = builder.config.data_files or {}
    splits = {str(split): [str(url) for url in urls] for split, urls in files.items()}
    urls = [url for some in splits.values() for url in some]
    root = _root(where, urls)
    kind = _kind(builder, spec)
    _demand_utf8(spec, urls)
    readme = _read_text(f"{root}/README.md")
    card = _card(readme)
    unread: list[str] = []
    if kind == "imagefolder":
        by_owner = ours_too or bool(card.get("configs"))
        folder = ImageFolder(spec, root, splits, tuple(builder.EXTENSIONS), by_owner)
        splits = folder.images()
        there = _files(path, pin)
        _demand_utf8(spec, there)
        unread = folder.unread(there)
    found = Found(
        spec=spec,
        root=root,
        kind=kind,
        config=builder.config.name,
        configs=list(builder.builder_configs),
        splits=splits,
        features=builder.info.features,
        readme=readme,
        card=card,
        unread=unread,
    )
    if not ours_too:
        _refuse_own_release(found)
    return found


def is_hub_source(spec: str) -> bool:
    """Whether these words mean a dataset on the Hub, whether or not it is there."""
    if spec.startswith(_HUB):
        return True
    return bool(_HUB_ID.fullmatch(spec)) and not written(spec).exists()


def _where(spec: str) -> str:
    """A local folder, or hf://datasets/ID[@REVISION]."""
    if spec.startswith("sample:"):
        return str(samples.folder(spec.removeprefix("sample:"), cache_home() / "samples"))
    if spec.startswith(_HUB):
        return spec
    local, is_hub_id = written(spec), bool(_HUB_ID.fullmatch(spec))
    if local.is_dir() and is_hub_id:
        raise InputError(
            f"{spec} is a folder here and may be a dataset on the Hub: write ./{spec} for the "
            f"folder, {_HUB}{spec} for the Hub"
        )
    if local.is_dir():
        return str(local.resolve())
    if local.is_file():
        raise InputError(f"{spec} is a file: name the folder it is in")
    if not is_hub_id:
        raise InputError(f"{spec} is neither a folder nor a Hub id org/name[@revision]")
    return _HUB + spec


def _root(where: str, urls: Sequence[str]) -> str:
    """The folder, or the Hub id at the commit that its files were found at."""
    commit = _COMMIT.match(urls[0]) if urls else None
    return commit[0].rstrip("/") if commit else where


def _demand_utf8(spec: str, paths: Sequence[str]) -> None:
    """Every name can be written down, as the pin and the plan do."""
    for path in paths:
        if shown(path) != path:
            raise InputError(
                f"{spec} has a file whose name is not UTF-8 ({shown(path)}): rename it"
            )


def _files(path: str, pin: str | None) -> list[str]:
    """The paths within it of all files of a local folder, or of a repository at a commit."""
    if pin is None:
        return list(files_below(path))
    return [*HubRepo(path, pin, source_patience(), role="source").list(pin)]


def _pin(repo_id: str, revision: str, spec: str) -> str:
    """The commit that a revision of a dataset on the Hub is at; the Hub was waited for, and has
    shown that this account may read the dataset's files."""
    repo = HubRepo(repo_id, revision, source_patience(), role="source")
    head = repo.head()
    if head is None and repo.exists():
        raise InputError(
            f"{repo_id} has no revision {revision!r}: name a branch, a tag or a commit that is "
            "still there"
        )
    if head is None:
        raise InputError(
            f"{spec} is not on the Hub, or not for this account: check its name and log in"
        )
    # Where `datasets` meets a silent Hub or a gate, it says that there is no dataset.
    repo.demand_readable(head)
    return head


def _builder(path: str, spec: str, config: str | None, revision: str | None) -> Any:
    try:
        return _waited_for(path, config, revision)
    except FileNotFoundError:
        raise InputError(
            f"{spec} holds no dataset: expected Parquet files, class folders of images, or "
            "WebDataset tars"
        ) from None
    except ConnectionError as error:
        raise HubRefused(
            f"{spec} could not be read from the Hub ({str(error).partition(chr(10))[0]}): run the "
            "same command again"
        ) from None
    except yaml.YAMLError as error:
        raise InputError(
            f"the YAML at the top of the README.md of {spec} cannot be read "
            f"({' '.join(str(error).split())}): mend it"
        ) from None
    # No such configuration; a card that means none; a loading script.
    except (ValueError, TypeError, RuntimeError) as error:
        what = f"configuration {config!r} of {spec}" if config else f"{spec} without --config"
        raise InputError(f"{what} cannot be opened: {' '.join(str(error).split())}") from None


def _waited_for(path: str, config: str | None, revision: str | None) -> Any:
    """What `datasets` says is there, once the Hub answers."""

    def asked() -> Any:
        return load_dataset_builder(path, name=config, revision=revision, token=token_for("source"))

    try:
        return patiently(asked, source_patience())
    except FileNotFoundError:
        if revision is None:
            raise
        # It says so of a silent Hub as well.
        HubRepo(path, revision, source_patience(), role="source").demand_readable(revision)
        return patiently(asked, source_patience())


def _kind(builder: Any, spec: str) -> Kind:
    module = type(builder).__module__.rpartition(".")[2]
    for kind in _KINDS:
        if module == kind:
            return kind
    raise InputError(
        f"{spec} is read by `datasets` as {module}: expected Parquet files, class folders of "
        "images, or WebDataset tars; convert it with Dataset.to_parquet"
    )


def _read_text(url: str) -> str:
    try:
        with open_file(url) as file:
            return str(file.read(), "utf-8", "replace")
    except FileNotFoundError:
        return ""


def _card(readme: str) -> dict[str, Any]:
    """The YAML at the top of a README, as a dictionary."""
    if not readme.startswith("---"):
        return {}
    card = RepoCard(readme, ignore_metadata_errors=True).data
    return dict(card.to_dict())  # type: ignore[no-untyped-call]


def _refuse_own_release(found: Found) -> None:
    manifest = _read_text(f"{found.root}/{manifest_path(FIRST_RELEASE)}")
    tagged = MADE_BY in (found.card.get("tags") or [])
    if tagged or (manifest and f'"made_by": "{MADE_BY}"' in manifest):
        raise InputError(
            f"{found.spec} is itself a release of {MADE_BY}: name the clean dataset it came from"
        )


def _digest_of_files(found: Found) -> str:
    files = sorted(found.files())
    digests = in_order(_digest, files, threads=2)
    lines = [f"{within(found.root, f)}\0{d}\n" for f, d in zip(files, digests, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _digest(path: str) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
