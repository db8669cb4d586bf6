"""Pull requests: opened, looked at, closed and merged."""

from __future__ import annotations

from typing import Any

from tests.hub.answers import Answer, Refusal, as_json
from tests.hub.calls import Call, route
from tests.hub.repos import Pull, Repo, Tree
from tests.hub.state import State, writing


@route("discussion-create", "POST", "/api/{kind}s/{repo}/discussions")
def create_discussion(state: State, call: Call, kind: str, repo: str) -> Answer:
    authorization = call.headers["Authorization"]
    found = state.readable(kind, repo, authorization)
    token, values = writing(state.accounts.who(authorization)), call.json()
    if not values.get("pullRequest"):
        raise Refusal(400, "Only pull requests are discussed here")
    description = values.get("description") or ""
    return as_json(_shown(found, found.add_pull(values["title"], description, token.user, "main")))


@route("discussions", "GET", "/api/{kind}s/{repo}/discussions")
def discussions(state: State, call: Call, kind: str, repo: str) -> Answer:
    found = state.readable(kind, repo, call.headers["Authorization"])
    listed = [_shown(found, pull) for pull in found.pulls.values()]
    return as_json({"discussions": listed, "count": len(listed), "start": 0})


@route("discussion", "GET", "/api/{kind}s/{repo}/discussions/{num}")
def discussion(state: State, call: Call, kind: str, repo: str, num: str) -> Answer:
    found = state.readable(kind, repo, call.headers["Authorization"])
    return as_json(_shown(found, _pull(found, num)))


@route("discussion-status", "POST", "/api/{kind}s/{repo}/discussions/{num}/status")
def change_status(state: State, call: Call, kind: str, repo: str, num: str) -> Answer:
    found, token = state.writable(kind, repo, call.headers["Authorization"])
    pull = _pull(found, num)
    pull.status = call.json()["status"]
    found.save()
    return as_json({"newStatus": _event(pull, token.user)})


@route("merge", "POST", "/api/{kind}s/{repo}/discussions/{num}/merge")
def merge(state: State, call: Call, kind: str, repo: str, num: str) -> Answer:
    """What the pull request changed is changed in its base too; 409 where the base changed the
    same files since."""
    found, token = state.writable(kind, repo, call.headers["Authorization"])
    pull = _pull(found, num)
    if pull.status not in ("open", "draft"):
        raise Refusal(400, f"Pull request {num} is {pull.status}")
    proposed = found.commit(f"refs/pr/{num}")
    tree = _merged(found, found.commit(pull.base).id, proposed.id)
    title = f"{pull.title} (#{num})"
    found.add_commit(pull.base, tree, title, pull.description, token.user, proposed.id)
    pull.status = "merged"
    found.save()
    return as_json({"newStatus": _event(pull, token.user)})


def _merged(repo: Repo, base: str, proposed: str) -> Tree:
    known = set(repo.ancestors(base))
    common = next(name for name in repo.ancestors(proposed) if name in known)
    origin, ours, theirs = (repo.commit(name).tree for name in (common, base, proposed))
    tree = dict(ours)
    for path in _changed(origin, theirs):
        if path in _changed(origin, ours) and ours.get(path) != theirs.get(path):
            raise Refusal(409, f"{path} was changed on both sides")
        tree.pop(path, None)
        if path in theirs:
            tree[path] = theirs[path]
    return tree


def _changed(before: Tree, after: Tree) -> set[str]:
    return {path for path in before | after if before.get(path) != after.get(path)}


def _pull(repo: Repo, num: str) -> Pull:
    if not num.isdigit() or int(num) not in repo.pulls:
        raise Refusal(404, f"No discussion {num}")
    return repo.pulls[int(num)]


def _event(pull: Pull, user: str) -> dict[str, Any]:
    return {
        "id": f"{pull.num:024x}",
        "type": "status-change",
        "createdAt": pull.created,
        "author": {"name": user},
        "data": {"status": pull.status},
    }


def _shown(repo: Repo, pull: Pull) -> dict[str, Any]:
    return {
        "num": pull.num,
        "title": pull.title,
        "status": pull.status,
        "author": {"name": pull.author},
        "repo": {"name": repo.id, "type": repo.kind},
        "createdAt": pull.created,
        "isPullRequest": True,
        "events": [],
        "changes": {"base": f"refs/heads/{pull.base}"},
        "filesWithConflicts": [],
        "diff": "",
    }
