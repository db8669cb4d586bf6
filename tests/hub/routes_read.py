"""Reading: what a repository is, its listings, its history and its files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlencode

from tests.hub.answers import Answer, Refusal, as_json, of_file
from tests.hub.calls import Call, route
from tests.hub.repos import Commit, Entry, Repo, Tree
from tests.hub.state import State


@route("auth-check", "GET", "/api/{kind}s/{repo}/auth-check")
def auth_check(state: State, call: Call, kind: str, repo: str) -> Answer:
    state.readable(kind, repo, call.headers["Authorization"])
    return as_json({})


@route("auth-check-write", "GET", "/api/{kind}s/{repo}/auth-check/write")
def auth_check_write(state: State, call: Call, kind: str, repo: str) -> Answer:
    state.writable(kind, repo, call.headers["Authorization"])
    return as_json({})


@route("info", "GET", "/api/{kind}s/{repo}")
def info(state: State, call: Call, kind: str, repo: str) -> Answer:
    return info_at(state, call, kind, repo, "main")


@route("info", "GET", "/api/{kind}s/{repo}/revision/{revision}")
def info_at(state: State, call: Call, kind: str, repo: str, revision: str) -> Answer:
    found, _ = state.visible(kind, repo, call.headers["Authorization"])
    return as_json(_described(found, found.commit(revision), call.query.get("blobs") == "true"))


def _described(repo: Repo, commit: Commit, blobs: bool) -> dict[str, Any]:
    return {
        "_id": hashlib.sha1(repo.key.encode()).hexdigest()[:24],
        "id": repo.id,
        "author": repo.namespace,
        "sha": commit.id,
        "lastModified": commit.date,
        "createdAt": repo.created,
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": [
            {"rfilename": path} | (_blob(commit.tree[path], "blobId") if blobs else {})
            for path in sorted(commit.tree)
        ],
    }


def _blob(entry: Entry, oid: str) -> dict[str, Any]:
    described: dict[str, Any] = {oid: entry.oid, "size": entry.size}
    if entry.sha256:
        name = "sha256" if oid == "blobId" else "oid"
        described["lfs"] = {name: entry.sha256, "size": entry.size, "pointerSize": 134}
    return described


@route("tree", "GET", "/api/{kind}s/{repo}/tree/{revision}")
def tree(state: State, call: Call, kind: str, repo: str, revision: str) -> Answer:
    return tree_in(state, call, kind, repo, revision, "")


@route("tree", "GET", "/api/{kind}s/{repo}/tree/{revision}/{path}")
def tree_in(state: State, call: Call, kind: str, repo: str, revision: str, path: str) -> Answer:
    found, _ = state.visible(kind, repo, call.headers["Authorization"])
    commit = found.commit(revision)
    prefix = f"{path.strip('/')}/" if path else ""
    below = [name for name in commit.tree if name.startswith(prefix)]
    if prefix and not below:
        raise _no_entry(commit, path)
    recursive = call.query.get("recursive", "").lower() == "true"
    names = {p for name in below for p in _parts(name, prefix, recursive)}
    shown, headers = _page(state, call, sorted(names))
    return as_json(_listed(found, commit, shown, _expands(call.query.get("expand"))), 200, headers)


def _parts(name: str, prefix: str, recursive: bool) -> Iterable[str]:
    """What a listing of `prefix` shows for a file: itself and the folders on the way to it."""
    parts = name[len(prefix) :].split("/")
    depth = len(parts) if recursive else 1
    return (prefix + "/".join(parts[: i + 1]) for i in range(depth))


def _expands(value: str | None) -> bool:
    return (value or "").lower() == "true"


def _listed(repo: Repo, commit: Commit, paths: list[str], expand: bool) -> list[dict[str, Any]]:
    listed = []
    for path in paths:
        if path in commit.tree:
            item = {"type": "file", **_blob(commit.tree[path], "oid"), "path": path}
        else:
            oid = _folder_oid(commit.tree, path)
            item = {"type": "directory", "oid": oid, "size": 0, "path": path}
        if expand:
            item["lastCommit"] = _last_change(repo, commit, path)
        listed.append(item)
    return listed


def _folder_oid(tree: Tree, path: str) -> str:
    held = sorted((name, e.oid) for name, e in tree.items() if name.startswith(f"{path}/"))
    return hashlib.sha1(repr(held).encode()).hexdigest()


def _last_change(repo: Repo, commit: Commit, path: str) -> dict[str, str]:
    """The newest commit since which the file or folder is what it is."""
    history = repo.commits(commit.id)
    states = [_folder_oid(c.tree, path) if path not in c.tree else c.tree[path] for c in history]
    same = next((i for i, state in enumerate(states) if state != states[0]), len(states))
    last = history[same - 1]
    return {"id": last.id, "title": last.title, "date": last.date}


def _page(state: State, call: Call, items: list[Any]) -> tuple[list[Any], dict[str, str]]:
    """One page of a listing, and the link to the next."""
    start = int(call.query.get("cursor", 0))
    stop = start + state.page_size
    if stop >= len(items):
        return items[start:], {}
    query = urlencode({**call.query, "cursor": stop})
    return items[start:stop], {"Link": f'<{state.url}{call.path}?{query}>; rel="next"'}


@route("paths-info", "POST", "/api/{kind}s/{repo}/paths-info/{revision}")
def paths_info(state: State, call: Call, kind: str, repo: str, revision: str) -> Answer:
    found, _ = state.visible(kind, repo, call.headers["Authorization"])
    commit, form = found.commit(revision), call.form()
    folders = {p for name in commit.tree for p in _parts(name, "", True)}
    wanted = [path.strip("/") for path in form.get("paths", [])]
    shown = [path for path in wanted if path in folders]
    return as_json(_listed(found, commit, shown, _expands(form.get("expand", [""])[0])))


@route("refs", "GET", "/api/{kind}s/{repo}/refs")
def refs(state: State, call: Call, kind: str, repo: str) -> Answer:
    found, _ = state.visible(kind, repo, call.headers["Authorization"])
    listed: dict[str, Any] = {
        "branches": _refs(found.branches, "refs/heads/"),
        "tags": _refs(found.tags, "refs/tags/"),
        "converts": [],
    }
    if call.query.get("include_prs"):
        listed["pullRequests"] = _refs(found.pull_heads, "")
    return as_json(listed)


def _refs(names: dict[str, str], prefix: str) -> list[dict[str, str]]:
    return [
        {"name": name, "ref": prefix + name, "targetCommit": commit}
        for name, commit in names.items()
    ]


@route("commits", "GET", "/api/{kind}s/{repo}/commits/{revision}")
def commits(state: State, call: Call, kind: str, repo: str, revision: str) -> Answer:
    found, _ = state.visible(kind, repo, call.headers["Authorization"])
    listed = [
        {
            "id": commit.id,
            "title": commit.title,
            "message": commit.message,
            "date": commit.date,
            "authors": [{"user": commit.author}],
        }
        for commit in found.commits(revision)
    ]
    shown, headers = _page(state, call, listed)
    return as_json(shown, 200, headers)


@route("resolve", "HEAD GET", "/datasets/{repo}/resolve/{revision}/{path}")
def resolve(state: State, call: Call, repo: str, revision: str, path: str) -> Answer:
    """A regular file itself, or where to fetch a large one."""
    found = state.readable("dataset", repo, call.headers["Authorization"])
    commit = found.commit(revision)
    entry = commit.tree.get(path)
    if entry is None:
        raise _no_entry(commit, path)
    headers = {"X-Repo-Commit": commit.id, "ETag": f'"{entry.sha256 or entry.oid}"'}
    if entry.sha256 is None:
        return of_file(found.stored(entry), call.headers["Range"], headers)
    headers |= {
        "X-Linked-Size": str(entry.size),
        "X-Linked-ETag": f'"{entry.sha256}"',
        "Accept-Ranges": "bytes",
        "Location": f"{state.storage_url}{stored_path(state, found, entry.sha256)}",
    }
    return Answer(302, headers=headers)


def _no_entry(commit: Commit, path: str) -> Refusal:
    headers = {"X-Repo-Commit": commit.id}
    return Refusal(404, f"{path} does not exist on {commit.id}", "EntryNotFound", headers)


def stored_path(state: State, repo: Repo, sha256: str) -> str:
    """The path and query under which whoever was given them reads a large file."""
    path = f"/storage/{repo.kind}s/{quote(repo.id)}/{sha256}"
    return f"{path}?signature={state.accounts.sign(path)}"


@route("lfs-download", "HEAD GET", "/storage/{kind}s/{repo}/{sha256}")
def lfs_download(state: State, call: Call, kind: str, repo: str, sha256: str) -> Answer:
    """A large file, for whoever holds a signed address of it."""
    found = state.repos.find(kind, repo)
    if found is None or call.query.get("signature") != state.accounts.sign(call.path):
        raise Refusal(403, "The signature does not fit the address")
    return of_file(found.lfs(sha256), call.headers["Range"], {"ETag": f'"{sha256}"'})
