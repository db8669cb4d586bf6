"""Repositories: commits of whole trees, the names that point at them, and where they lie.

FOLDER/KIND/NAMESPACE/NAME/repo.json            settings, branches, tags, pull requests
                          /commits/COMMIT.json  a commit with its tree
                          /lfs/SHA256           large files, as sent
                          /blobs/SHA1           regular files
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.hub.answers import Refusal

_LARGE = "7z arrow bin gz jpeg jpg npy npz parquet pickle png safetensors tar webp zip"
ATTRIBUTES = "".join(f"*.{name} filter=lfs diff=lfs merge=lfs -text\n" for name in _LARGE.split())
"""What a new repository holds as .gitattributes: which files are large whatever their size."""


@dataclass(frozen=True)
class Entry:
    """A file in a tree: its git blob (of the pointer, where it is large), size and LFS digest."""

    oid: str
    size: int
    sha256: str | None = None


Tree = dict[str, Entry]


@dataclass(frozen=True)
class Commit:
    """A whole tree, and how it came to be; `parents` are newest first."""

    id: str
    parents: tuple[str, ...]
    title: str
    message: str
    author: str
    date: str
    tree: Tree = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Commit:
        tree = {path: Entry(**entry) for path, entry in values["tree"].items()}
        return cls(**{**values, "parents": tuple(values["parents"]), "tree": tree})


@dataclass
class Pull:
    """A pull request; its commits are at refs/pr/NUM."""

    num: int
    title: str
    description: str
    author: str
    base: str
    status: str = "open"
    created: str = field(default_factory=lambda: now())


def now() -> str:
    """The time, to the millisecond, as the Hub writes it."""
    seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{milliseconds:03d}Z"


def git_oid(content: bytes) -> str:
    """The name git gives to a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    """What git holds in place of a large file."""
    head = "version https://git-lfs.github.com/spec/v1\n"
    return f"{head}oid sha256:{sha256}\nsize {size}\n".encode()


@dataclass
class Repo:
    """One repository, on disk after every change. Tests read it with files, read and commits."""

    folder: Path
    kind: str
    id: str
    private: bool = False
    gated: str | bool = False
    access: list[str] = field(default_factory=list)
    created: str = field(default_factory=now)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pull_heads: dict[str, str] = field(default_factory=dict)
    pulls: dict[int, Pull] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._commits: dict[str, Commit] = {}

    @property
    def namespace(self) -> str:
        return self.id.split("/")[0]

    @property
    def key(self) -> str:
        """Its name among all kinds, as trusted publishers write it: datasets/org/name."""
        return self.id if self.kind == "model" else f"{self.kind}s/{self.id}"

    def files(self, revision: str = "main") -> list[str]:
        """The paths at a revision, sorted."""
        return sorted(self.commit(revision).tree)

    def read(self, revision: str, path: str) -> bytes:
        """The content of a file at a revision, large or regular; KeyError where it has none."""
        return self.stored(self.commit(revision).tree[path]).read_bytes()

    def commits(self, revision: str = "main") -> list[Commit]:
        """The history of a revision along first parents, newest first."""
        found = [self.commit(revision)]
        while found[-1].parents:
            found.append(self._commits[found[-1].parents[0]])
        return found

    def put(self, files: Mapping[str, bytes | None], title: str = "By hand") -> Commit:
        """A commit on main beside the protocol, as if by somebody else; None deletes a file."""
        tree = dict(self.commit("main").tree)
        for path, content in files.items():
            if content is None:
                del tree[path]
            else:
                tree[path] = self.store(content)
        return self.add_commit("main", tree, title, "", "somebody")

    def stored(self, entry: Entry) -> Path:
        """Where the content of a file lies."""
        return self.lfs(entry.sha256) if entry.sha256 else self.folder / "blobs" / entry.oid

    def lfs(self, sha256: str) -> Path:
        """Where a large file lies, or would lie."""
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise Refusal(400, f"Not a SHA-256: {sha256}")
        return self.folder / "lfs" / sha256

    def store(self, content: bytes) -> Entry:
        """A regular file, kept."""
        oid = git_oid(content)
        _write(self.folder / "blobs" / oid, content)
        return Entry(oid, len(content))

    def large(self, sha256: str) -> Entry:
        """An uploaded large file; 400 where it was never uploaded here."""
        path = self.lfs(sha256)
        if not path.exists():
            raise Refusal(400, f"LFS pointer pointed to a file that does not exist: {sha256}")
        size = path.stat().st_size
        return Entry(git_oid(pointer(sha256, size)), size, sha256)

    def commit(self, revision: str) -> Commit:
        """What a branch, a tag, a ref or the start of a commit id names; 404 where nothing."""
        for names in (self.branches, self.tags, self.pull_heads):
            if revision in names:
                return self._commits[names[revision]]
        prefix, _, name = revision.partition("refs/")[2].partition("/")
        heads = {"heads": self.branches, "tags": self.tags}.get(prefix, {})
        if name in heads:
            return self._commits[heads[name]]
        if re.fullmatch("[0-9a-f]{5,40}", revision):
            for known in self._commits:
                if known.startswith(revision):
                    return self._commits[known]
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def heads(self, revision: str) -> tuple[dict[str, str], str]:
        """The names in which a branch or pull request is, and its name there; 404 for others."""
        name = revision.removeprefix("refs/heads/")
        for names in (self.branches, self.pull_heads):
            if name in names:
                return names, name
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def add_commit(
        self, revision: str, tree: Tree, title: str, message: str, author: str, *merged: str
    ) -> Commit:
        """The branch or pull request has this tree; its id is new even for the same content."""
        names, name = self.heads(revision) if self.branches else (self.branches, revision)
        parents = ((names[name],) if name in names else ()) + merged
        commit = Commit(secrets.token_hex(20), parents, title, message, author, now(), tree)
        _write(self._commit_path(commit.id), json.dumps(commit.to_json()).encode())
        self._commits[commit.id] = commit
        names[name] = commit.id
        self.save()
        return commit

    def add_pull(self, title: str, description: str, author: str, base: str) -> Pull:
        """An open pull request whose head is what `base` (a branch) is now."""
        names, name = self.heads(base)
        pull = Pull(len(self.pulls) + 1, title, description, author, name)
        self.pulls[pull.num] = pull
        self.pull_heads[f"refs/pr/{pull.num}"] = names[name]
        self.save()
        return pull

    def ancestors(self, commit_id: str) -> Iterator[str]:
        """The commit and everything it grew from, newest first along first parents."""
        waiting, seen = [commit_id], set()
        while waiting:
            current = waiting.pop(0)
            if current not in seen:
                seen.add(current)
                waiting += self._commits[current].parents
                yield current

    def save(self) -> None:
        """Settings and names are on disk."""
        values = {k: v for k, v in vars(self).items() if k != "folder" and not k.startswith("_")}
        values["pulls"] = [asdict(pull) for pull in self.pulls.values()]
        _write(self.folder / "repo.json", json.dumps(values).encode())

    def _commit_path(self, commit_id: str) -> Path:
        return self.folder / "commits" / f"{commit_id}.json"

    @classmethod
    def load(cls, folder: Path) -> Repo:
        """The repository that was saved in a folder."""
        values = json.loads((folder / "repo.json").read_text())
        values["pulls"] = {pull["num"]: Pull(**pull) for pull in values["pulls"]}
        repo = cls(folder, **values)
        for path in (folder / "commits").iterdir():
            repo._commits[path.stem] = Commit.from_json(json.loads(path.read_text()))
        return repo

    @classmethod
    def create(cls, folder: Path, kind: str, name: str, author: str, private: bool) -> Repo:
        """A repository with its first commit on main."""
        repo = cls(folder, kind, name, private=private)
        (folder / "lfs").mkdir(parents=True)
        tree = {".gitattributes": repo.store(ATTRIBUTES.encode())}
        repo.add_commit("main", tree, "initial commit", "", author)
        return repo


class Repos:
    """Every repository under a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        found = [Repo.load(path.parent) for path in sorted(folder.glob("*/*/*/repo.json"))]
        self._repos = {repo.key: repo for repo in found}

    def find(self, kind: str, name: str) -> Repo | None:
        return self._repos.get(name if kind == "model" else f"{kind}s/{name}")

    def all(self) -> list[Repo]:
        """Every repository."""
        return list(self._repos.values())

    def add(self, kind: str, name: str, author: str, private: bool = False) -> Repo:
        """A new repository."""
        repo = Repo.create(self._folder / kind / name, kind, name, author, private)
        self._repos[repo.key] = repo
        return repo

    def remove(self, repo: Repo) -> None:
        """The repository and all it held are gone."""
        del self._repos[repo.key]
        shutil.rmtree(repo.folder)


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    making = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    making.write_bytes(content)
    os.replace(making, path)
