"""Who may see, open and write what, as the real client is told."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from huggingface_hub import CommitOperationAdd as Add
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from tests.hub.server import Hub

ID = "org/pets"
NOBODY = HfApi(token=False)


@pytest.fixture
def bob(hub: Hub, api: HfApi) -> HfApi:
    """The client of somebody who is not in the organization; org/pets has a file."""
    hub.add_user("bob", "hf_bob")
    hub.repo(ID).put({"a.txt": b"a"})
    return HfApi(token="hf_bob")


def _read(api: HfApi) -> None:
    api.get_hf_file_metadata(url=hf_hub_url(ID, "a.txt", repo_type="dataset"))


def _write(api: HfApi, name: str = ID) -> None:
    api.create_commit(name, [Add("b.txt", b"b")], commit_message="b", repo_type="dataset")


def test_a_private_repository_is_hidden_from_others(hub: Hub, api: HfApi, bob: HfApi) -> None:
    hub.repo(ID).private = True
    for other in (bob, NOBODY):
        with pytest.raises(RepositoryNotFoundError):
            other.dataset_info(ID)
        with pytest.raises(RepositoryNotFoundError):
            _write(other)
    api.auth_check(ID, repo_type="dataset", write=True)
    _read(api)


def test_a_public_repository_is_read_by_all_and_written_by_members(hub: Hub, bob: HfApi) -> None:
    _read(NOBODY)
    _read(bob)
    with pytest.raises(HfHubHTTPError, match="403"):
        bob.auth_check(ID, repo_type="dataset", write=True)
    with pytest.raises(HfHubHTTPError, match="401"):
        NOBODY.auth_check(ID, repo_type="dataset", write=True)
    with pytest.raises(HfHubHTTPError, match="no write access"):
        _write(bob)
    with pytest.raises(HfHubHTTPError, match="rights to create"):
        bob.create_repo("org/other", repo_type="dataset")


def test_a_token_that_reads_does_not_write(hub: Hub, api: HfApi) -> None:
    hub.add_token("alice", "hf_reads", role="read")
    reader = HfApi(token="hf_reads")
    reader.auth_check(ID, repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="you must use a write token"):
        reader.auth_check(ID, repo_type="dataset", write=True)
    with pytest.raises(HfHubHTTPError, match="you must use a write token"):
        _write(reader)
    with pytest.raises(HfHubHTTPError, match="you must use a write token"):
        reader.create_repo("alice/own", repo_type="dataset")


def test_a_token_for_one_repository_writes_no_other(hub: Hub, api: HfApi) -> None:
    api.create_repo("org/other", repo_type="dataset")
    hub.add_token("alice", "hf_one", only=f"datasets/{ID}")
    narrow = HfApi(token="hf_one")
    _write(narrow)
    with pytest.raises(HfHubHTTPError, match="no write access"):
        _write(narrow, "org/other")
    with pytest.raises(HfHubHTTPError, match="rights to create"):
        narrow.create_repo("org/third", repo_type="dataset")


def test_an_unknown_token_is_told_so(hub: Hub, api: HfApi) -> None:
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as refused:
        HfApi(token="hf_nobody").dataset_info(ID)
    assert refused.value.response.status_code == 401
    assert api.whoami()["orgs"][0]["name"] == "org"


def test_a_gated_repository_opens_for_those_on_its_list(hub: Hub, api: HfApi, bob: HfApi) -> None:
    api.update_repo_settings(ID, repo_type="dataset", gated="manual")
    assert NOBODY.dataset_info(ID).gated == "manual"
    for other in (bob, NOBODY):
        with pytest.raises(GatedRepoError):
            other.auth_check(ID, repo_type="dataset")
        with pytest.raises(GatedRepoError):
            _read(other)
    hub.repo(ID).access.append("bob")
    _read(bob)
    _read(api)


def test_a_model_is_no_dataset(hub: Hub, api: HfApi) -> None:
    api.create_repo("org/net")
    api.auth_check("org/net")
    with pytest.raises(RepositoryNotFoundError):
        api.auth_check("org/net", repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info("org/net")


def _job(hub: Hub, script: str, resource: str = f"datasets/{ID}") -> str:
    """What a script prints in a job of the code repository org/code that has no HF_TOKEN."""
    env = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"} | {
        "GITHUB_ACTIONS": "true",
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{hub.url}/oidc/token",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "job-1",
        "HF_OIDC_RESOURCE": resource,
    }
    hub.add_job("job-1", "org/code")
    lines = f"from huggingface_hub import HfApi\napi = HfApi()\n{script}"
    ran = subprocess.run([sys.executable, "-c", lines], env=env, capture_output=True, text=True)
    return ran.stdout + ran.stderr


def test_a_job_that_is_trusted_writes_one_repository(hub: Hub, api: HfApi) -> None:
    api.create_repo("org/other", repo_type="dataset")
    hub.trust(f"datasets/{ID}", "org/code")
    said = _job(
        hub,
        "def refused(act, **more):\n"
        "    try: act(repo_type='dataset', **more)\n"
        "    except Exception as error: print(error.response.status_code)\n"
        "def write(name): refused(api.upload_file, path_or_fileobj=b'b', path_in_repo='b.txt', "
        "repo_id=name)\n"
        f"write('{ID}'); print('written'); write('org/other')\n"
        "refused(api.create_repo, repo_id='org/third')\n"
        f"refused(api.delete_repo, repo_id='{ID}')",
    )
    assert said.split() == ["written", "403", "403", "403"]
    assert hub.repo(ID).read("main", "b.txt") == b"b"
    assert hub.repo(ID).commits()[0].author == "org/code"


def test_a_job_that_is_not_trusted_gets_no_token(hub: Hub, api: HfApi) -> None:
    hub.trust(f"datasets/{ID}", "org/another-code")
    assert "no trusted publisher" in _job(hub, f"api.dataset_info('{ID}')")
