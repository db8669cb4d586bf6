"""Writing: repositories, what is sent how, commits, branches and tags."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

from tests.hub.answers import Answer, Refusal, as_json
from tests.hub.calls import Call, route
from tests.hub.repos import Repo, Tree
from tests.hub.state import State, writing


def _named(state: State, values: dict[str, Any], user: str) -> tuple[str, str]:
    """The kind and whole name of the repository that a request is about."""
    name = values.get("name") or ""
    namespace, _, rest = name.partition("/")
    if not rest:
        namespace, rest = values.get("organization") or user, name
    if not all(re.fullmatch(r"\w[\w.-]*", part) for part in (namespace, rest)):
        raise Refusal(400, f"Invalid name {namespace}/{rest}")
    return values.get("type") or "model", f"{namespace}/{rest}"


@route("create", "POST", "/api/repos/create")
def create(state: State, call: Call) -> Answer:
    values = call.json()
    token = writing(state.accounts.who(call.headers["Authorization"]))
    kind, name = _named(state, values, token.user)
    if token.only or state.accounts.role_in(token, name.split("/")[0]) not in ("admin", "write"):
        raise Refusal(403, f"You don't have the rights to create a {kind} under this namespace")
    url = f"{state.url}/{'' if kind == 'model' else f'{kind}s/'}{name}"
    if state.repos.find(kind, name):
        raise Refusal(409, f"You already created this {kind} repo: {name}", url=url)
    private = values.get("visibility") == "private" or values.get("private") is True
    state.repos.add(kind, name, token.user, private)
    return as_json({"url": url, "name": name})


@route("delete", "DELETE", "/api/repos/delete")
def delete(state: State, call: Call) -> Answer:
    values, authorization = call.json(), call.headers["Authorization"]
    user = writing(state.accounts.who(authorization)).user
    repo, token = state.writable(*_named(state, values, user), authorization)
    if token.only:
        raise Refusal(403, "This token writes files only")
    state.repos.remove(repo)
    return as_json({})


@route("settings", "PUT", "/api/{kind}s/{repo}/settings")
def settings(state: State, call: Call, kind: str, repo: str) -> Answer:
    found, token = state.writable(kind, repo, call.headers["Authorization"])
    if token.only or state.accounts.role_in(token, found.namespace) != "admin":
        raise Refusal(403, "Only admins change settings")
    values = call.json()
    if "visibility" in values or "private" in values:
        found.private = values.get("visibility") == "private" or values.get("private") is True
    found.gated = values.get("gated", found.gated)
    found.save()
    return as_json({"private": found.private, "gated": found.gated})


@route("preupload", "POST", "/api/{kind}s/{repo}/preupload/{revision}")
def preupload(state: State, call: Call, kind: str, repo: str, revision: str) -> Answer:
    """How each file is to be sent, and which are the same already."""
    found, _ = _proposable(state, call, kind, repo, revision)
    values, tree = call.json(), found.commit(revision).tree
    if len(values["files"]) > 256:
        raise Refusal(413, "Too many files")
    ignored = values.get("gitIgnore") or ""
    attributes = found.read(revision, ".gitattributes") if ".gitattributes" in tree else b""
    answers = []
    for file in values["files"]:
        entry = tree.get(file["path"])
        mode = "lfs" if _is_large(state, file, attributes.decode()) else "regular"
        oid = entry and (entry.sha256 or entry.oid)
        ignore = any(_matches(file["path"], line) for line in ignored.splitlines())
        answers.append(
            {"path": file["path"], "uploadMode": mode, "shouldIgnore": ignore, "oid": oid}
        )
    return as_json({"files": answers})


def _is_large(state: State, file: dict[str, Any], attributes: str) -> bool:
    """By size, by its name in .gitattributes, or because it is no text."""
    tracked = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
    named = any(_matches(file["path"], pattern) for pattern in tracked)
    binary = b"\0" in b64decode(file["sample"])
    return bool(file["size"]) and (named or binary or file["size"] >= state.lfs_threshold)


def _matches(path: str, pattern: str) -> bool:
    """Whether a line of .gitattributes or .gitignore names the path."""
    pattern = pattern.strip()
    if not pattern or pattern.startswith("#"):
        return False
    return fnmatch(path, pattern) or fnmatch(path.rsplit("/", 1)[-1], pattern)


def _proposable(state: State, call: Call, kind: str, repo: str, revision: str) -> tuple[Repo, str]:
    """The repository and the user, where the request may write the revision: any reader may
    propose (create_pr) and go on with an own proposal, the rest is for writers."""
    authorization = call.headers["Authorization"]
    found, token = state.visible(kind, repo, authorization)
    own = found.pulls.get(_pull_number(revision))
    if call.query.get("create_pr") or (own and token and own.author == token.user):
        found, user = state.readable(kind, repo, authorization), writing(token)
        if user.only and user.only != found.key:
            raise Refusal(403, "This token is for another repository")
        return found, user.user
    found, user = state.writable(kind, repo, authorization)
    return found, user.user


def _pull_number(revision: str) -> int:
    number = revision.removeprefix("refs/pr/")
    return int(number) if number.isdigit() and revision != number else 0


@route("commit", "POST", "/api/{kind}s/{repo}/commit/{revision}")
def commit(state: State, call: Call, kind: str, repo: str, revision: str) -> Answer:
    """All the operations, or none."""
    found, user = _proposable(state, call, kind, repo, revision)
    operations = list(_operations(call))
    header = operations[0][1] if operations and operations[0][0] == "header" else {}
    if not header.get("summary"):
        raise Refusal(400, "A commit needs a summary")
    names, name = found.heads(revision)
    if header.get("parentCommit") not in (None, names[name]):
        raise Refusal(412, "A commit has happened since. Please refresh and try again.")
    tree = _applied(found, found.commit(revision).tree, operations[1:])
    pull = None
    if call.query.get("create_pr"):
        pull = found.add_pull(header["summary"], header.get("description", ""), user, revision)
        revision = f"refs/pr/{pull.num}"
    made = found.add_commit(revision, tree, header["summary"], header.get("description", ""), user)
    url = f"{state.url}/datasets/{found.id}"
    answer: dict[str, Any] = {"success": True, "commitOid": made.id}
    answer["commitUrl"] = f"{url}/commit/{made.id}"
    if pull:
        answer["pullRequestUrl"] = f"{url}/discussions/{pull.num}"
    return as_json(answer)


def _operations(call: Call) -> Iterator[tuple[str, dict[str, Any]]]:
    for line in call.body.read().splitlines():
        try:
            operation = json.loads(line)
            yield operation["key"], operation["value"]
        except (json.JSONDecodeError, KeyError, TypeError):
            raise Refusal(400, "Expected lines of {key, value}") from None


def _applied(repo: Repo, tree: Tree, operations: list[tuple[str, dict[str, Any]]]) -> Tree:
    """The tree after the operations; nothing is committed yet."""
    tree = dict(tree)
    for key, value in operations:
        path = value["path"]
        if key == "file":
            tree[path] = repo.store(_content(value))
        elif key == "lfsFile":
            tree[path] = repo.large(value["oid"])
            if value.get("size", tree[path].size) != tree[path].size:
                raise Refusal(400, f"{path} is not of the size that was declared")
        elif key in ("deletedFile", "deletedFolder"):
            _delete(tree, path if key == "deletedFile" else f"{path.rstrip('/')}/")
        else:
            raise Refusal(400, f"Unknown operation {key}")
    return tree


def _content(value: dict[str, Any]) -> bytes:
    try:
        return b64decode(value["content"], validate=True)
    except NotBase64:
        raise Refusal(400, f"{value['path']} is not base64") from None


def _delete(tree: Tree, path: str) -> None:
    gone = [name for name in tree if name == path or (path[-1] == "/" and name.startswith(path))]
    if not gone:
        raise Refusal(404, f"{path} does not exist", "EntryNotFound")
    for name in gone:
        del tree[name]


@route("branch", "POST", "/api/{kind}s/{repo}/branch/{name}")
def create_branch(state: State, call: Call, kind: str, repo: str, name: str) -> Answer:
    found, _ = state.writable(kind, repo, call.headers["Authorization"])
    start = call.json().get("startingPoint") or "main"
    return _point(found, found.branches, name, start)


@route("branch", "DELETE", "/api/{kind}s/{repo}/branch/{name}")
def delete_branch(state: State, call: Call, kind: str, repo: str, name: str) -> Answer:
    found, _ = state.writable(kind, repo, call.headers["Authorization"])
    if name == "main":
        raise Refusal(403, "The main branch stays")
    return _unpoint(found, found.branches, name)


@route("tag", "POST", "/api/{kind}s/{repo}/tag/{revision}")
def create_tag(state: State, call: Call, kind: str, repo: str, revision: str) -> Answer:
    found, _ = state.writable(kind, repo, call.headers["Authorization"])
    return _point(found, found.tags, call.json()["tag"], revision)


@route("tag-delete", "DELETE", "/api/{kind}s/{repo}/tag/{name}")
def delete_tag(state: State, call: Call, kind: str, repo: str, name: str) -> Answer:
    found, _ = state.writable(kind, repo, call.headers["Authorization"])
    return _unpoint(found, found.tags, name)


def _point(repo: Repo, names: dict[str, str], name: str, revision: str) -> Answer:
    if name in names:
        raise Refusal(409, f"Reference {name} exists already")
    names[name] = repo.commit(revision).id
    repo.save()
    return as_json({})


def _unpoint(repo: Repo, names: dict[str, str], name: str) -> Answer:
    if name not in names:
        raise Refusal(404, f"Invalid rev id: {name}", "RevisionNotFound")
    del names[name]
    repo.save()
    return as_json({})
