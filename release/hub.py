"""A dataset repository of the Hub, read at one commit and changed by one commit at a time.

A commit is made once only. The library does not repeat the request that commits, and neither does
this module before it has read the head: an answer that was lost may have been a success.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    DatasetInfo,
    GitRefInfo,
    RepoFile,
    RepoFolder,
    constants,
    get_session,
    hf_hub_url,
)
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._http import hf_raise_for_status
from huggingface_hub.utils.sha import git_hash

from release.errors import HubRefused
from release.hub_client import (
    PASSING,
    Role,
    Say,
    Unavailable,
    Waiting,
    api,
    in_words,
    patiently,
    unavailable,
)
from release.publish import HeadMoved

T = TypeVar("T")
Operation = CommitOperationAdd | CommitOperationDelete
Paths = list[str]

KIND = "dataset"
_LOST_RACE = (409, 412)
_CHANGED = "the Hub says that it is being changed by others"
_PENDING = ("open", "draft")


class HubRepo:
    """A dataset repository, which may not exist yet, at one branch of it.

    Every call waits up to `patience` seconds for a Hub that does not answer, telling `tell` (stderr
    by default) once, and then raises HubRefused. What the Hub refuses is a ReleaseError.
    """

    def __init__(
        self,
        repo_id: str,
        revision: str = "main",
        patience: float = 600.0,
        tell: Say | None = None,
        role: Role = "target",
    ) -> None:
        self.repo_id, self.revision = repo_id, revision
        self.patience, self.tell = patience, tell
        self.api = api(patience, role)

    @property
    def url(self) -> str:
        """Where people look at it."""
        return f"{constants.ENDPOINT}/datasets/{self.repo_id}"

    def ask(self, call: Callable[[], T]) -> T:
        """What `call` returns, repeated while the Hub does not answer, its refusals in words."""
        with in_words(self.repo_id):
            return patiently(call, self.patience, self.tell)

    def exists(self) -> bool:
        """Whether it is there and this account may see it."""
        return self.ask(self._visible)

    def _visible(self) -> bool:
        try:
            self._info()
        except GatedRepoError:
            return True
        except RepositoryNotFoundError:
            return False
        return True

    def is_private(self) -> bool:
        """Whether only its owners can see it; HubRefused where it does not exist."""
        return bool(self.ask(self._info).private)

    def create_private(self) -> None:
        """It exists; private where it did not before."""
        try:
            with in_words(self.repo_id):
                patiently(self._create, self.patience, self.tell)
        except HubRefused as refused:
            raise _may_not_create(self.repo_id, refused) from None

    def _create(self) -> None:
        self.api.create_repo(self.repo_id, repo_type=KIND, private=True, exist_ok=True)

    def set_gate(self, gate: str | None) -> None:
        """Readers ask for access, which is given by hand ("manual") or at once ("auto"); None
        leaves it as it is."""
        if gate is not None and self.ask(self._info).gated != gate:
            self._change_settings(f"--gated {gate}", gated=gate)

    def set_visibility(self, wanted: Literal["public", "private"]) -> None:
        """Everybody can see it, or only its owners."""
        if self.is_private() != (wanted == "private"):
            self._change_settings(f"--{wanted}", visibility=wanted)

    def _change_settings(self, option: str, **settings: Any) -> None:
        try:
            self.ask(
                lambda: self.api.update_repo_settings(self.repo_id, repo_type=KIND, **settings)
            )
        except HubRefused as refused:
            raise HubRefused(
                f"the settings of {self.repo_id} were not changed ({refused}); or let its owner "
                f"run `hf repos settings {self.repo_id} {option} --repo-type dataset`"
            ) from None

    def _info(self) -> DatasetInfo:
        return self.api.dataset_info(self.repo_id)

    def check_write(self) -> None:
        """HubRefused where this account may not write it."""
        self.ask(lambda: self.api.auth_check(self.repo_id, repo_type=KIND, write=True))

    def head(self) -> str | None:
        """The newest commit of the branch; None where the repository or the branch is missing."""
        return self.ask(self._head)

    def _head(self) -> str | None:
        try:
            return self.api.dataset_info(self.repo_id, revision=self.revision).sha
        except GatedRepoError:
            raise
        except (RepositoryNotFoundError, RevisionNotFoundError):
            return None

    def list(self, head: str, folder: str | None = None) -> Paths:
        """The paths of all files at a commit, or of those in one folder (none where it is not
        there)."""
        return self.ask(lambda: self._listed(head, folder))

    def _listed(self, head: str, folder: str | None) -> Paths:
        try:
            tree = self.api.list_repo_tree(
                self.repo_id, folder, recursive=folder is None, revision=head, repo_type=KIND
            )
            return [entry.path for entry in tree if isinstance(entry, RepoFile)]
        except EntryNotFoundError:
            return []

    def read(self, path: str, head: str) -> bytes:
        """A file at a commit, whole; HubRefused where it has none of that name."""
        return self.ask(lambda: self._read(path, head))

    def demand_readable(self, head: str) -> None:
        """HubRefused where this account may not read files, or the Hub does not hand them out."""
        self.ask(lambda: self._probe(head))

    def _probe(self, head: str) -> None:
        try:
            self._read("README.md", head)
        except EntryNotFoundError:
            return

    def _read(self, path: str, head: str) -> bytes:
        url = hf_hub_url(
            self.repo_id, path, repo_type=KIND, revision=head, endpoint=self.api.endpoint
        )
        response = get_session().get(url, headers=self.api._build_hf_headers())
        hf_raise_for_status(response)
        return response.content

    def commit(
        self,
        additions: Mapping[str, bytes | Path],
        deletions: Sequence[str],
        message: str,
        parent: str | None,
    ) -> str:
        """One commit with these changes follows `parent`: its id. HeadMoved where the branch is no
        longer at `parent`, and then nothing was changed."""
        added = [CommitOperationAdd(path, content) for path, content in additions.items()]
        gone = [CommitOperationDelete(path, is_folder=False) for path in deletions]
        return self.commit_once([*added, *gone], added, message, "", parent)

    def commit_once(
        self,
        operations: Sequence[Operation],
        proof: Sequence[CommitOperationAdd],
        message: str,
        description: str,
        parent: str | None,
    ) -> str:
        """As `commit`; `proof` are the additions by which this commit is known from any other."""

        def attempt() -> str:
            return self._send(operations, message, description, parent, create_pr=False).oid

        def landed() -> str | None:
            head = self.head()
            if head is None or head == parent:
                return None
            found = self.made(proof, head)
            if found is None and parent is not None:
                raise HeadMoved(self.repo_id)
            return found

        return self._once(attempt, landed)

    def propose_once(
        self,
        operations: Sequence[Operation],
        proof: Sequence[CommitOperationAdd],
        message: str,
        description: str,
        parent: str | None,
    ) -> str:
        """One pull request with these changes to `parent` is open: its URL. HeadMoved where the
        branch is no longer at `parent`."""

        def attempt() -> str:
            return str(self._send(operations, message, description, parent, create_pr=True).pr_url)

        def landed() -> str | None:
            found = self.proposed(proof)
            if found is None and self.head() != parent:
                raise HeadMoved(self.repo_id)
            return found

        return self._once(attempt, landed)

    def made(self, proof: Sequence[CommitOperationAdd], head: str) -> str | None:
        """The commit that brought the first of these additions, where all of them are at `head`
        byte for byte; None otherwise, or where there are none."""
        paths = [addition.path_in_repo for addition in proof]
        found = {info.path: info for info in self._infos(paths, head)}
        same = [_is_same(addition, found.get(addition.path_in_repo)) for addition in proof]
        if not same or not all(same):
            return None
        last = found[paths[0]].last_commit
        return head if last is None else last.oid

    def last_change(self, path: str, head: str) -> str:
        """The commit that last changed a file that is there at `head`."""
        infos = self._infos([path], head)
        return next((i.last_commit.oid for i in infos if i.last_commit is not None), head)

    def _infos(self, paths: Sequence[str], head: str) -> Sequence[RepoFile | RepoFolder]:
        """What is there under these paths, with the last commit of each."""
        return self.ask(
            lambda: self.api.get_paths_info(
                self.repo_id, list(paths), expand=True, revision=head, repo_type=KIND
            )
        )

    def proposed(self, proof: Sequence[CommitOperationAdd]) -> str | None:
        """The URL of the newest pending pull request that brings these additions, if any."""
        refs = self.ask(
            lambda: self.api.list_repo_refs(
                self.repo_id, repo_type=KIND, include_pull_requests=True
            )
        )
        for pull in sorted(refs.pull_requests or [], key=_number, reverse=True):
            if self.made(proof, pull.target_commit) and self._is_pending(_number(pull)):
                return f"{self.url}/discussions/{_number(pull)}"
        return None

    def _is_pending(self, number: int) -> bool:
        found = self.ask(
            lambda: self.api.get_discussion_details(self.repo_id, number, repo_type=KIND)
        )
        return found.status in _PENDING

    def _send(
        self,
        operations: Sequence[Operation],
        message: str,
        description: str,
        parent: str | None,
        create_pr: bool,
    ) -> CommitInfo:
        return self.api.create_commit(
            self.repo_id,
            operations,
            commit_message=message,
            commit_description=description,
            parent_commit=parent,
            revision=self.revision,
            repo_type=KIND,
            create_pr=create_pr,
        )

    def _once(self, attempt: Callable[[], str], landed: Callable[[], str | None]) -> str:
        """What `attempt` returns, or, where nobody knows whether it was a success, what `landed`
        finds; attempted again only where that finds nothing."""
        waiting = Waiting(self.patience, self.tell)
        while True:
            try:
                with in_words(self.repo_id):
                    return _told(attempt)
            except Unavailable as problem:
                found = landed()
                if found is not None:
                    return found
                waiting.through(problem)


def _told(attempt: Callable[[], T]) -> T:
    """What `attempt` returns; Unavailable where it may have been a success, or may be one later."""
    try:
        return attempt()
    except PASSING as problem:
        status = problem.response.status_code if isinstance(problem, HfHubHTTPError) else None
        if status in _LOST_RACE:
            raise Unavailable(f"{status} {_CHANGED}") from None
        raise unavailable(problem) or problem from None


def _is_same(addition: CommitOperationAdd, info: object) -> bool:
    """Whether the repository's file has the bytes of the addition."""
    if not isinstance(info, RepoFile):
        return False
    if info.lfs is not None:
        return info.lfs.sha256 == addition.upload_info.sha256.hex()
    with addition.as_file() as file:
        return info.blob_id == git_hash(file.read())


def _number(pull: GitRefInfo) -> int:
    return int(pull.ref.rpartition("/")[2])


def _may_not_create(repo_id: str, refused: HubRefused) -> HubRefused:
    return HubRefused(
        f"{repo_id} could not be created ({refused}); or create it first: `hf repos create "
        f"{repo_id} --private --repo-type dataset`"
    )


def readable_without_token(
    repo_id: str, revision: str | None = None, patience: float = 600.0
) -> bool:
    """Whether anybody can read the files of a dataset, at a revision of it; not where it is
    private, gated or missing."""
    hub = api(patience)

    def look() -> bool:
        try:
            found = hub.dataset_info(repo_id, revision=revision, token=False)
        except (RepositoryNotFoundError, RevisionNotFoundError, DisabledRepoError):
            return False
        return not found.private and not found.gated

    with in_words(repo_id):
        return patiently(look, patience)
