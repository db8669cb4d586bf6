"""Large files on their way in: the batch that plans, the uploads, and the check of what came."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.hub.answers import Answer, Refusal, as_json
from tests.hub.calls import Call, route
from tests.hub.repos import Repo
from tests.hub.state import State


@route("lfs-batch", "POST", "/datasets/{repo}.git/info/lfs/objects/batch")
def lfs_batch(state: State, call: Call, repo: str) -> Answer:
    """Where to send each object; no action for one that is here already."""
    found, _ = state.readable_by_writer("dataset", repo, call.headers["Authorization"])
    values = call.json()
    sizes = [thing["size"] for thing in values["objects"]]
    parts = "multipart" in values["transfers"] and any(_in_parts(state, s) for s in sizes)
    objects = [_planned(state, found, thing, parts) for thing in values["objects"]]
    return as_json({"transfer": "multipart" if parts else "basic", "objects": objects})


def _in_parts(state: State, size: int) -> bool:
    return state.part_size is not None and size > state.part_size


def _planned(state: State, repo: Repo, thing: dict[str, Any], parts: bool) -> dict[str, Any]:
    planned: dict[str, Any] = {"oid": thing["oid"], "size": thing["size"]}
    if repo.lfs(thing["oid"]).exists():
        return planned
    if parts and _in_parts(state, thing["size"]):
        upload = _parts(state, repo, thing)
    else:
        upload = {"href": _address(state, repo, "upload", thing["oid"])}
    verify = {"href": f"{state.url}/lfs/{repo.id}/verify"}
    return planned | {"actions": {"upload": upload, "verify": verify}}


def _parts(state: State, repo: Repo, thing: dict[str, Any]) -> dict[str, Any]:
    size = state.part_size or thing["size"]
    header = {"chunk_size": str(size)}
    for number in range(1, -(-thing["size"] // size) + 1):
        header[str(number)] = _address(state, repo, f"part-{number}", thing["oid"])
    return {"href": _address(state, repo, "complete", thing["oid"]), "header": header}


def _address(state: State, repo: Repo, action: str, oid: str) -> str:
    path = f"/lfs/{repo.id}/{action}/{oid}"
    return f"{state.url}{path}?signature={state.accounts.sign(path)}"


def _addressed(state: State, call: Call, repo: str) -> Repo:
    """The repository of an address that the batch gave out."""
    found = state.repos.find("dataset", repo)
    if found is None or call.query.get("signature") != state.accounts.sign(call.path):
        raise Refusal(403, "The signature does not fit the address")
    return found


@route("lfs-upload", "PUT", "/lfs/{repo}/upload/{oid}")
def lfs_upload(state: State, call: Call, repo: str, oid: str) -> Answer:
    found = _addressed(state, call, repo)
    _receive(found, oid, _counted(state, oid, call.body.pieces()))
    return Answer(200)


@route("lfs-part", "PUT", "/lfs/{repo}/part-{number}/{oid}")
def lfs_part(state: State, call: Call, repo: str, number: str, oid: str) -> Answer:
    found = _addressed(state, call, repo)
    digest = _write(_part(found, oid, int(number)), _counted(state, oid, call.body.pieces()))
    return Answer(200, headers={"ETag": f'"{digest}"'})


@route("lfs-complete", "POST", "/lfs/{repo}/complete/{oid}")
def lfs_complete(state: State, call: Call, repo: str, oid: str) -> Answer:
    """The parts are one file, in the order of their numbers."""
    found, values = _addressed(state, call, repo), call.json()
    numbers = [part["partNumber"] for part in values["parts"]]
    parts = [_part(found, oid, number) for number in numbers]
    if numbers != list(range(1, len(parts) + 1)) or not all(part.exists() for part in parts):
        raise Refusal(400, "Parts are missing")
    _receive(found, oid, (piece for part in parts for piece in _pieces(part)))
    for part in parts:
        part.unlink()
    return as_json({})


@route("lfs-verify", "POST", "/lfs/{repo}/verify")
def lfs_verify(state: State, call: Call, repo: str) -> Answer:
    found, _ = state.readable_by_writer("dataset", repo, call.headers["Authorization"])
    values = call.json()
    if found.large(values["oid"]).size != values["size"]:
        raise Refusal(400, "The object is not of the size that was declared")
    return as_json({})


def _counted(state: State, oid: str, pieces: Iterable[bytes]) -> Iterable[bytes]:
    for piece in pieces:
        state.uploaded[oid] += len(piece)
        yield piece


def _receive(repo: Repo, oid: str, pieces: Iterable[bytes]) -> None:
    """The object is stored under its digest; 422 where what came has another one."""
    incoming = repo.folder / "lfs" / f".{oid}.{secrets.token_hex(4)}"
    try:
        if _write(incoming, pieces) != oid:
            raise Refusal(422, "The content does not have the SHA-256 that was declared")
        incoming.replace(repo.lfs(oid))
    finally:
        incoming.unlink(missing_ok=True)


def _part(repo: Repo, oid: str, number: int) -> Path:
    return repo.folder / "lfs" / f".{oid}.part-{number}"


def _write(path: Path, pieces: Iterable[bytes]) -> str:
    """The SHA-256 of what was written."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _pieces(path: Path) -> Iterable[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(1 << 16):
            yield piece
