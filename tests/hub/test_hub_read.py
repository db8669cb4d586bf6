"""What the Hub has is what readers get, with the libraries that they read with."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import webdataset as wds
from datasets import Dataset, load_dataset
from huggingface_hub import HfApi, HfFileSystem, RepoFile, get_session, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

from tests.hub.server import Hub

ID = "org/pets"
BIG = bytes(range(256)) * 400


def _parquet(*ages: int) -> bytes:
    file = io.BytesIO()
    Dataset.from_dict({"age": ages}).to_parquet(file)
    return file.getvalue()


def _url(path: str, revision: str = "main") -> str:
    return hf_hub_url(ID, path, repo_type="dataset", revision=revision)


def _add_large(hub: Hub, api: HfApi, path: str, content: bytes) -> str:
    commit = api.upload_file(
        path_or_fileobj=content, path_in_repo=path, repo_id=ID, repo_type="dataset"
    )
    return commit.oid


def test_listings_come_in_pages(hub: Hub, api: HfApi) -> None:
    hub.page_size = 2
    hub.repo(ID).put({f"data/{i}.txt": b"%d" % i for i in range(5)} | {"more/deep/x": b""})
    repo = hub.repo(ID)
    assert api.list_repo_files(ID, repo_type="dataset") == repo.files()
    listed = api.list_repo_tree(ID, repo_type="dataset", recursive=True, expand=True)
    paths = {entry.path: entry.last_commit and entry.last_commit.title for entry in listed}
    assert paths.keys() == {*repo.files(), "data", "more", "more/deep"}
    assert (paths[".gitattributes"], paths["data"]) == ("initial commit", "By hand")
    assert len(api.list_repo_commits(ID, repo_type="dataset")) == 2
    assert len(hub.requests("tree")) > 5
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(ID, "nothing", repo_type="dataset"))


def test_infos_say_what_is_large(hub: Hub, api: HfApi) -> None:
    head = _add_large(hub, api, "a.parquet", BIG)
    info = api.dataset_info(ID, files_metadata=True)
    sizes = {file.rfilename: (file.size, file.lfs is not None) for file in info.siblings or ()}
    assert info.sha == head
    assert sizes["a.parquet"] == (len(BIG), True)
    (found,) = api.get_paths_info(ID, ["a.parquet", "none"], repo_type="dataset")
    assert isinstance(found, RepoFile)
    assert found.size == len(BIG)
    assert found.lfs is not None
    assert api.file_exists(ID, "a.parquet", repo_type="dataset")
    assert not api.file_exists(ID, "b.parquet", repo_type="dataset")
    assert api.resolve_revision(ID, repo_type="dataset").resolved == head
    assert [ref.name for ref in api.list_repo_refs(ID, repo_type="dataset").branches] == ["main"]


@pytest.mark.parametrize("path", ["a.parquet", "a.txt"])
def test_parts_of_a_file_are_read_alone(hub: Hub, api: HfApi, path: str) -> None:
    _add_large(hub, api, path, BIG)
    get = get_session().get
    for asked, status, found in (
        ("bytes=10-19", 206, BIG[10:20]),
        ("bytes=102390-", 206, BIG[102390:]),
        ("bytes=-7", 206, BIG[-7:]),
        ("bytes=102400-", 416, None),
    ):
        response = get(_url(path), headers={"Range": asked, "Authorization": "Bearer hf_alice"})
        assert response.status_code == status
        assert found is None or response.content == found
    with HfFileSystem().open(f"datasets/{ID}/{path}", block_size=1000) as file:
        file.seek(50_000)
        assert file.read(20) == BIG[50_000:50_020]


def test_large_files_are_fetched_without_the_token(hub: Hub, api: HfApi, tmp_path: Path) -> None:
    api.update_repo_settings(ID, repo_type="dataset", private=True)
    head = _add_large(hub, api, "a.parquet", BIG)
    fetched = api.hf_hub_download(ID, "a.parquet", repo_type="dataset", local_dir=tmp_path)
    assert Path(fetched).read_bytes() == BIG
    assert all(request.authorized for request in hub.requests("resolve"))
    assert [request.authorized for request in hub.requests("lfs-download")] == [False]
    fetched_from = f"{hub.storage_url}{hub.requests('lfs-download')[0].path}"
    assert get_session().get(fetched_from).content == BIG
    assert get_session().get(fetched_from.partition("?")[0]).status_code == 403
    assert get_session().get(fetched_from[:-1] + "x").status_code == 403
    assert get_session().get(_url("a.parquet", head)).status_code == 401


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_loads_every_revision(hub: Hub, api: HfApi, streaming: bool) -> None:
    first = _add_large(hub, api, "data/train-0.parquet", _parquet(1, 2))
    api.create_tag(ID, tag="r0001", repo_type="dataset")
    _add_large(hub, api, "data/train-1.parquet", _parquet(3))
    for revision, ages in ((None, [1, 2, 3]), ("r0001", [1, 2]), (first, [1, 2])):
        rows = load_dataset(ID, split="train", revision=revision, streaming=streaming)
        assert [row["age"] for row in rows] == ages
    with pytest.raises(RevisionNotFoundError):
        api.dataset_info(ID, revision="r0002")


def test_datasets_pushes_and_snapshots_hold_what_it_pushed(
    hub: Hub, api: HfApi, tmp_path: Path
) -> None:
    Dataset.from_dict({"age": [1, 2, 3]}).push_to_hub(ID, split="train")
    assert load_dataset(ID, split="train")["age"][:] == [1, 2, 3]
    api.snapshot_download(ID, repo_type="dataset", local_dir=tmp_path)
    written = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.glob("[!.]*/*"))
    assert written == ["data/train-00000-of-00001.parquet"]
    assert "num_examples: 3" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("scheme", ["http", "hf"])
def test_webdataset_streams_tars(hub: Hub, api: HfApi, tmp_path: Path, scheme: str) -> None:
    with wds.TarWriter(str(tmp_path / "a.tar")) as tar:
        for key in ("1", "2"):
            tar.write({"__key__": key, "cls": key})
    _add_large(hub, api, "a.tar", (tmp_path / "a.tar").read_bytes())
    url = _url("a.tar") if scheme == "http" else f"hf://datasets/{ID}/a.tar"
    samples = wds.WebDataset(url, shardshuffle=False)
    assert [sample["cls"] for sample in samples] == [b"1", b"2"]
