"""The whole way on a Hub of one's own: python -m tests.hub.demo [--folder FOLDER]

A clean private dataset of real digits is put on the Hub, a release of it is pushed, rows are added
to the source, the same push adds them as a second release, and readers load both.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.hub.server import Hub

CLEAN, PROTECTED = "alice/digits", "alice/digits-protected"
# Digits are easier to learn than photographs: README says what was measured.
METHOD = ("--method", "tap", "--budget", "linf:16", "--set", "step_levels=2")

PREPARE = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
from huggingface_hub import HfApi
from release.samples import folder
sample = folder("mnist5k", Path(sys.argv[1]))
train = pq.read_table(sample / "data/train.parquet")
first, later = train.slice(0, 3500), train.slice(3500)
out = Path(sys.argv[2])
for name, table in (("first", first), ("later", later)):
    (out / name / "data").mkdir(parents=True)
    pq.write_table(table, out / name / f"data/train-{name}.parquet")
(out / "first/data/test.parquet").write_bytes((sample / "data/test.parquet").read_bytes())
api = HfApi()
api.create_repo(sys.argv[3], repo_type="dataset", private=True)
api.upload_folder(repo_id=sys.argv[3], repo_type="dataset", folder_path=out / "first")
"""

ADD = """
import sys
from huggingface_hub import HfApi
HfApi().upload_folder(repo_id=sys.argv[1], repo_type="dataset", folder_path=sys.argv[2])
"""

READ = """
import sys
from datasets import load_dataset
from huggingface_hub import HfFileSystem
import webdataset
name = sys.argv[1]
for revision in ("main", "r0001"):
    data = load_dataset(name, split="train", revision=revision)
    stream = sum(1 for _ in load_dataset(name, split="train", revision=revision, streaming=True))
    tars = HfFileSystem().glob(f"datasets/{name}@{revision}/webdataset/train/*.tar")
    urls = [f"hf://{tar}" for tar in sorted(tars)]
    tarred = sum(1 for _ in webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    print(f"{name}@{revision}: {len(data)} rows loaded, {stream} streamed, {tarred} from tars")
"""


def main() -> None:
    """Everything ran, or the first command that failed ends this with its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.hub.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, help="where everything is kept (a temporary folder)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (chosen.folder or Path(temporary)).resolve()
        shutil.rmtree(folder, ignore_errors=True)
        hub = Hub(folder / "hub")
        hub.add_user("alice", "hf_alice")
        hub.start()
        try:
            _demo(hub, folder)
        finally:
            hub.stop()


def _demo(hub: Hub, folder: Path) -> None:
    os.environ |= {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_alice",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HOME": str(folder / "huggingface"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_DATA_HOME": str(folder / "data"),
    }
    push = ("push", CLEAN, *METHOD, "--format", "parquet,webdataset", "--license", "cc-by-sa-3.0")
    _say(f"A private clean dataset, {CLEAN}: 3,500 digits, and 1,000 to score victims on")
    _python(PREPARE, folder / "samples", folder / "clean", CLEAN)
    _say("The first release")
    _protect_release(*push)
    _say("500 digits are added to the clean dataset, and the same command runs again")
    _python(ADD, CLEAN, folder / "clean/later")
    _protect_release(*push)
    _say("What readers get")
    _python(READ, PROTECTED)
    _protect_release("check", PROTECTED)
    _protect_release("status", PROTECTED)
    _say("The card's release log")
    print(_release_log(hub.repo(PROTECTED).read("main", "README.md").decode()))


def _release_log(card: str) -> str:
    return "## Releases" + card.split("## Releases")[1].split("\n## ")[0]


def _say(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def _python(script: str, *arguments: object) -> None:
    _run([sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)])


def _protect_release(*arguments: str) -> None:
    print(f"$ protect-release {' '.join(arguments)}", flush=True)
    _run([sys.executable, "-m", "release", *arguments])


def _run(command: list[str]) -> None:
    """The command ran well, or this process ends with its exit code."""
    ended = subprocess.run(command)
    if ended.returncode:
        sys.exit(ended.returncode)


if __name__ == "__main__":
    main()
