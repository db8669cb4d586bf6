"""Everything the Hub knows, on disk under one folder, and what it noted of its requests."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.hub.accounts import Accounts, Token
from tests.hub.answers import Refusal
from tests.hub.faults import Faults
from tests.hub.repos import Repo, Repos


@dataclass(frozen=True)
class Request:
    """A request as it was answered; status 0 where the connection was reset instead."""

    method: str
    route: str
    path: str
    status: int
    user_agent: str
    authorized: bool


class State:
    """Accounts, repositories and what tests ask about. Changes happen under `lock`.

    `page_size` is the length of a page of a listing, `part_size` the most bytes a large file is
    sent in at once (None: always one piece), `lfs_threshold` the size from which files are large.
    """

    url: str = ""
    """Where clients find the Hub; set when it is bound."""
    storage_url: str = ""
    """Where large files are fetched from: another origin, which is shown no token."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self.faults = Faults()
        self.on_request: Callable[[Request], None] | None = None
        self._begin()

    def _begin(self) -> None:
        self.page_size = 1000
        self.part_size: int | None = None
        self.lfs_threshold = 10 << 20
        self.log: list[Request] = []
        self.uploaded: Counter[str] = Counter()
        self.crashes: list[str] = []
        self.folder.mkdir(parents=True, exist_ok=True)
        saved = self.folder / "accounts.json"
        known = saved.exists()
        self.accounts = Accounts.from_json(json.loads(saved.read_text())) if known else Accounts()
        self.repos = Repos(self.folder / "repos")
        self.save()

    def save(self) -> None:
        """Accounts are on disk; repositories save themselves."""
        with self.lock:
            (self.folder / "accounts.json").write_text(json.dumps(self.accounts.to_json()))

    def reset(self) -> None:
        """The Hub is empty, as if new: no accounts, repositories, log or faults."""
        self.faults.clear()
        with self.lock:
            shutil.rmtree(self.folder)
            self._begin()

    def add_user(self, name: str, token: str, role: str = "write") -> None:
        """A user with one token, of role read or write."""
        self.accounts.users.append(name)
        self.add_token(name, token, role)

    def add_org(self, name: str, *admins: str, **members: str) -> None:
        """An organization; members are given with their role (admin, write or read)."""
        self.accounts.orgs[name] = dict.fromkeys(admins, "admin") | members
        self.save()

    def add_token(
        self, user: str, token: str, role: str = "write", only: str | None = None
    ) -> None:
        """One more token of a user; `only` (such as datasets/org/name) confines it to one repo."""
        self.accounts.tokens[token] = Token(user, role, only)
        self.save()

    def add_job(self, request_token: str, repository: str) -> None:
        """A job of a code repository is running, and may ask for id tokens with this token."""
        self.accounts.jobs[request_token] = repository
        self.save()

    def trust(self, resource: str, repository: str) -> None:
        """Jobs of the code repository may write `resource`, such as datasets/org/name."""
        self.accounts.publishers.setdefault(resource, []).append(repository)
        self.save()

    def add_repo(self, name: str, private: bool = False, kind: str = "dataset") -> Repo:
        """A new repository, made beside the protocol."""
        with self.lock:
            return self.repos.add(kind, name, name.split("/")[0], private)

    def repo(self, name: str, kind: str = "dataset") -> Repo:
        """A repository as it is now; KeyError where there is none."""
        found = self.repos.find(kind, name)
        if found is None:
            raise KeyError(name)
        return found

    def requests(self, route: str) -> list[Request]:
        """What was asked of one route, in order."""
        return [request for request in self.log if request.route == route]

    def note(self, request: Request) -> None:
        """The request is in the log."""
        self.log.append(request)
        if self.on_request:
            self.on_request(request)

    def visible(self, kind: str, name: str, authorization: str | None) -> tuple[Repo, Token | None]:
        """A repository that the request may know of; 401 or 404 RepoNotFound where it may not."""
        token = self.accounts.who(authorization)
        repo = self.repos.find(kind, name)
        if repo is None or not self.accounts.may_see(token, repo):
            if token is None:
                raise Refusal(401, "Invalid username or password.", "RepoNotFound")
            raise Refusal(404, "Repository not found", "RepoNotFound")
        return repo, token

    def readable(self, kind: str, name: str, authorization: str | None) -> Repo:
        """A repository whose files the request may read; GatedRepo where it is shut."""
        repo, token = self.visible(kind, name, authorization)
        if not self.accounts.may_open(token, repo):
            message = f"Access to {repo.kind} {repo.id} is restricted."
            raise Refusal(401 if token is None else 403, message, "GatedRepo")
        return repo

    def writable(self, kind: str, name: str, authorization: str | None) -> tuple[Repo, Token]:
        """A repository that the request may write, and its token; 401 or 403 where it may not."""
        repo, token = self.visible(kind, name, authorization)
        token = writing(token)
        if not self.accounts.may_write(token, repo):
            raise Refusal(403, f"You have no write access to {repo.kind} {repo.id}")
        return repo, token

    def readable_by_writer(
        self, kind: str, name: str, authorization: str | None
    ) -> tuple[Repo, Token]:
        """A repository to which large files may be sent: those of a proposal too."""
        repo = self.readable(kind, name, authorization)
        token = writing(self.accounts.who(authorization))
        if token.only not in (None, repo.key):
            raise Refusal(403, "This token is for another repository")
        return repo, token


def writing(token: Token | None) -> Token:
    """The token, of role write; 401 without one and 403 for one that reads only."""
    if token is None:
        raise Refusal(401, "Invalid username or password.")
    if token.role != "write":
        raise Refusal(403, "Forbidden: you must use a write token")
    return token
