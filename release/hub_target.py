"""A dataset repository of the Hub as the place where releases go.

A release is one commit: readers see all of it or nothing. Shards may be sent ahead, unseen. What
follows the commit (the tag, the gate, the visibility) can be done again by publishing once more.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from huggingface_hub import CommitOperationAdd, constants, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
)

from release.errors import HubRefused, InputError, ReleaseError, StorageError
from release.hub import KIND, HubRepo
from release.hub_client import NAME, Say, demand_token, in_words, patiently
from release.manifest import FOLDER, manifest_path
from release.publish import CARD, MAIN, HeadMoved, Published, release_names, tag_name
from release.threads import in_order

_BARE = frozenset({CARD, ".gitattributes", ".gitignore", "LICENSE", "LICENSE.md"})
"""What a repository may hold that was made for its first release."""
_SENT_ALONE = 1 << 20
"""Larger files are sent one by one, each with its own patience."""
_THREADS = 4


@dataclass(frozen=True)
class _Ahead:
    """A file that was sent ahead, and what it was then."""

    operation: CommitOperationAdd
    file: tuple[int, ...]


class HubTarget:
    """A dataset repository, at the branch that releases go to.

    `tell` (None: stderr) is told once when the Hub is waited for. Made with no request; InputError
    where HF_HUB_OFFLINE is set.
    """

    def __init__(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        create_pr: bool = False,
        public: bool = False,
        gated: str | None = None,
        patience: float = 600.0,
        tell: Say | None = None,
    ) -> None:
        if constants.is_offline_mode():
            raise InputError(f"{repo_id} is on the Hub, and HF_HUB_OFFLINE is set: unset it")
        self._repo = HubRepo(repo_id, revision or MAIN, patience, tell)
        self._create_pr, self._public, self._gated = create_pr, public, gated
        self._ahead: dict[str, _Ahead] = {}
        self._last: Published | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._repo.repo_id

    @property
    def is_hub(self) -> bool:
        return True

    @property
    def branch(self) -> str:
        return self._repo.revision

    def is_public(self) -> bool:
        return self._repo.exists() and not self._repo.is_private()

    def refuse(self, source: str) -> None:
        if source.removeprefix("hf://datasets/").partition("@")[0] == self.name:
            raise InputError(f"--to {self.name} is the source itself: name another repository")
        self._repo.ask(demand_token)
        if not self._repo.exists():
            return self._refuse_other_kind()
        self._demand_unseen()
        self._repo.ask(self._check_access)
        self._refuse_other_files()

    def _check_access(self) -> None:
        """Any reader may propose."""
        self._repo.api.auth_check(self.name, repo_type=KIND, write=not self._create_pr)

    def _refuse_other_kind(self) -> None:
        for kind in ("model", "space"):
            if self._repo.ask(partial(self._is_there, kind)):
                raise InputError(
                    f"{self.name} is a {kind} on the Hub, not a dataset: name another --to, or "
                    f"make the dataset too: `hf repos create {self.name} --private --repo-type "
                    "dataset`"
                )

    def _is_there(self, kind: str) -> bool:
        try:
            self._repo.api.repo_info(self.name, repo_type=kind)
        except GatedRepoError:
            return True
        except RepositoryNotFoundError:
            return False
        return True

    def _refuse_other_files(self) -> None:
        published = self.published()
        if published.head is None or published.releases:
            return
        files = self._repo.list(published.head)
        other = [path for path in files if path not in _BARE]
        if other:
            raise InputError(
                f"{self.name} holds other files ({other[0]}) and no release of this tool: it was "
                "left as it is; name another repository with --to"
            )

    def _demand_unseen(self) -> None:
        """Nothing becomes visible to everybody without being asked for, once for a dataset."""
        if not (self._public or self._repo.is_private() or self.published().releases):
            raise InputError(
                f"{self.name} is public, and a release would be visible to everybody at once: add "
                f"--public, or make it private first: `hf repos settings {self.name} --private "
                "--repo-type dataset`"
            )

    def prepare(self) -> None:
        if not self._repo.exists():
            self._repo.create_private()
        self._demand_unseen()
        if self._repo.head() is None:
            self._repo.ask(self._make_branch)

    def _make_branch(self) -> None:
        self._repo.api.create_branch(
            self.name, branch=self._repo.revision, repo_type=KIND, exist_ok=True
        )

    def published(self) -> Published:
        """A branch that is missing is what it will be made from: main. What a commit holds never
        changes, so that it is read once."""
        head = self._repo.head()
        if head is None and self._repo.revision != MAIN:
            head = HubRepo(self.name, MAIN, self._repo.patience, self._repo.tell).head()
        if head is None:
            return Published(None, {}, "")
        if self._last is None or self._last.head != head:
            self._last = self._published_at(head)
        return self._last

    def _published_at(self, head: str) -> Published:
        paths = [CARD] if CARD in self._repo.list(head, "") else []
        names = release_names(self._repo.list(head, FOLDER))
        paths += [path for _, path in names]
        read = in_order(lambda path: self.read(path, head), paths, threads=_THREADS)
        contents = dict(zip(paths, read, strict=True))
        return Published(
            head,
            {name: contents[path] for name, path in names},
            contents.get(CARD, b"").decode("utf-8", "replace"),
        )

    def read(self, path: str, head: str | None) -> bytes:
        return self._repo.read(path, head or self._repo.revision)

    def fetch(self, path: str, head: str | None, into: Path) -> Path:
        """Straight to its place: what the library caches would pile up."""

        def download() -> str:
            return hf_hub_download(
                self.name,
                path,
                repo_type=KIND,
                revision=head or self._repo.revision,
                local_dir=into,
                library_name=self._repo.api.library_name,
                library_version=self._repo.api.library_version,
                endpoint=self._repo.api.endpoint,
            )

        try:
            return Path(self._repo.ask(download))
        except OSError as problem:
            raise StorageError(
                f"{path} of {self.name} could not be kept in {into} ({problem.strerror}): make "
                "room there, then run the same command again"
            ) from None

    def offer(self, file: Path, path: str) -> None:
        """One attempt: what cannot be sent now is sent when it is published."""
        operation = CommitOperationAdd(path, str(file))
        state = _state(file)
        try:
            with in_words(self.name):
                patiently(lambda: self._send(operation), 0.0, _nobody)
        except ReleaseError:
            return
        with self._lock:
            self._ahead[path] = _Ahead(operation, state)

    def _send(self, operation: CommitOperationAdd) -> None:
        self._repo.api.preupload_lfs_files(
            self.name,
            [operation],
            repo_type=KIND,
            revision=self._repo.revision,
            create_pr=self._create_pr,
            free_memory=False,
        )

    def publish(
        self, staged: Path, release: str, after: Published, hidden: str | None = None
    ) -> str:
        if self._create_pr:
            return self._propose(staged, release, after, hidden)
        proof, head = _proof(staged, release), self._repo.head()
        commit = self._repo.made(proof, head) if head is not None else None
        if commit is None:
            self._demand_unseen()
            parent = self._parent(after)
            operations = self._operations(staged)
            self._demand_hidden(release, hidden)
            commit = self._repo.commit_once(
                operations, proof, _title(release), _description(operations), parent
            )
        with self._hidden_again(release, hidden):
            self._tag(release, commit)
            self._repo.set_gate(self._gated)
        if self._public:
            self.open_to_everybody()
        return f"{self._repo.url}/commit/{commit}"

    def _demand_hidden(self, release: str, hidden: str | None) -> None:
        """InputError where everybody can read what not everybody may, as by now they may."""
        if hidden is not None and not self._repo.is_private():
            raise InputError(
                f"{self.name} was made public meanwhile, and {release} is not for everybody, since "
                f"{hidden}: nothing was published; make it private again: `hf repos settings "
                f"{self.name} --private --repo-type dataset`, then run the same command again"
            )

    @contextmanager
    def _hidden_again(self, release: str, hidden: str | None) -> Iterator[None]:
        """What was made public in the very moment of the commit is private before anything else
        happens, and InputError at the end says so."""
        seen = hidden is not None and not self._repo.is_private()
        if seen:
            self._repo.set_visibility("private")
        yield
        if seen:
            raise InputError(
                f"{self.name} was made public just as {release} was published, which is not for "
                f"everybody, since {hidden}: it is private again; whoever looked may have a copy"
            )

    def add(self, staged: Path, title: str, after: Published) -> str:
        proof = [
            CommitOperationAdd(file.relative_to(staged).as_posix(), str(file))
            for file in sorted(staged.rglob("*"))
            if file.is_file()
        ]
        head = self._repo.head()
        commit = self._repo.made(proof, head) if head is not None else None
        if commit is None:
            parent = self._parent(after)
            about = "A report was added."
            commit = self._repo.commit_once(proof, proof, title, about, parent)
        return f"{self._repo.url}/commit/{commit}"

    def _propose(self, staged: Path, release: str, after: Published, hidden: str | None) -> str:
        """A pull request changes nothing for readers, so it is not tagged and opens nothing."""
        proof = _proof(staged, release)
        url = self._repo.proposed(proof)
        if url is None:
            self._demand_unseen()
            parent = self._parent(after)
            operations = self._operations(staged)
            self._demand_hidden(release, hidden)
            url = self._repo.propose_once(
                operations, proof, _title(release), _description(operations), parent
            )
        with self._hidden_again(release, hidden):
            self._repo.set_gate(self._gated)
        return url

    def _parent(self, after: Published) -> str | None:
        """The commit to follow; HeadMoved where it is not the newest."""
        head = self._repo.head()
        if after.head is None and head is not None:
            now = self.published()
            if now.releases or now.readme:
                raise HeadMoved(self.name)
            return now.head
        if head != after.head:
            raise HeadMoved(self.name)
        return head

    def _operations(self, staged: Path) -> list[CommitOperationAdd]:
        """Every staged file, the large ones sent."""
        files = sorted(path for path in staged.rglob("*") if path.is_file())
        operations = [self._operation(file, file.relative_to(staged).as_posix()) for file in files]
        large = [each for each in operations if each.upload_info.size >= _SENT_ALONE]

        def send(operation: CommitOperationAdd) -> None:
            self._repo.ask(lambda: self._send(operation))

        for _ in in_order(send, large, threads=_THREADS):
            pass
        return operations

    def _operation(self, file: Path, path: str) -> CommitOperationAdd:
        """What was sent ahead where that is this very file; it serves one commit."""
        with self._lock:
            ahead = self._ahead.pop(path, None)
        if ahead is not None and ahead.file == _state(file):
            return ahead.operation
        return CommitOperationAdd(path, str(file))

    def _tag(self, release: str, commit: str) -> None:
        """The release can be asked for by its tag."""
        name = tag_name(release, self._repo.revision)
        if not self._repo.ask(lambda: self._make_tag(name, commit)):
            raise HubRefused(
                f"{release} is published in {self.name}, but its tag {name} is on another commit: "
                f"`hf repos tag delete {self.name} {name} --repo-type dataset`, then run the same "
                "command again"
            )

    def _make_tag(self, name: str, commit: str) -> bool:
        """Whether the tag is on the commit, made now or before."""
        try:
            self._repo.api.create_tag(self.name, tag=name, revision=commit, repo_type=KIND)
        except HfHubHTTPError as problem:
            if problem.response.status_code != 409:
                raise
            refs = self._repo.api.list_repo_refs(self.name, repo_type=KIND)
            return any(tag.name == name and tag.target_commit == commit for tag in refs.tags)
        return True

    def name_releases(self, releases: Sequence[str]) -> None:
        """Tags those that have none: a merged pull request, or a run that was killed too soon. Who
        proposes may not be allowed to, and leaves it to whoever publishes next."""
        if not releases:
            return
        refs = self._repo.ask(lambda: self._repo.api.list_repo_refs(self.name, repo_type=KIND))
        tagged = {tag.name for tag in refs.tags}
        head = self._repo.head()
        for release in releases:
            if head is not None and tag_name(release, self._repo.revision) not in tagged:
                commit = self._repo.last_change(manifest_path(release), head)
                try:
                    self._tag(release, commit)
                except HubRefused:
                    if not self._create_pr:
                        raise
                    return

    def open_to_everybody(self) -> None:
        self._repo.set_visibility("public")


def _proof(staged: Path, release: str) -> list[CommitOperationAdd]:
    """What a commit of this release is known by."""
    path = manifest_path(release)
    return [CommitOperationAdd(path, str(staged / path))]


def _state(file: Path) -> tuple[int, ...]:
    """Changes whenever the file is written again; a hard link to it has the same."""
    found = file.stat()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _title(release: str) -> str:
    return f"{NAME} {release}"


def _description(operations: list[CommitOperationAdd]) -> str:
    """What is added, by folder."""
    folders = [operation.path_in_repo.split("/")[0] for operation in operations]
    counts = Counter(folder for folder in folders if folder != CARD)
    added = ", ".join(f"{count} in {folder}" for folder, count in sorted(counts.items()))
    return f"Files added: {added}. {CARD} is rewritten; no other file is changed."


def _nobody(text: str) -> None:
    """Hears nothing."""
