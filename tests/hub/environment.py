"""The environment of a test process, set when this module is imported.

Libraries read these variables when they are imported themselves, so this comes before any of them.
The address of the Hub refuses at once until a test starts it: nothing here may ask the internet.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from tests.hub.server import bind

SOCKET = bind()
"""Where the Hub of this process is to listen."""
atexit.register(SOCKET.close)

_HOME = tempfile.mkdtemp(prefix="hub-home-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)

for _name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
    del os.environ[_name]

os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{SOCKET.getsockname()[1]}"
os.environ["HF_HOME"] = _HOME
for _name in ("XET", "TELEMETRY", "UPDATE_CHECK", "PROGRESS_BARS"):
    os.environ[f"HF_HUB_DISABLE_{_name}"] = "1"
os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"  # `datasets` counts loads at an address of its own
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
