"""How this program talks to the Hub: one client with time limits, patience with a Hub that does not
answer, and refusals in words.

Requests of ours are never repeated by the library: whatever passes by itself comes here as
`Unavailable`, so that patience alone bounds the waiting. Requests that others make through the same
client, such as `datasets` reading a source, keep the library's own retries.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import httpx2
from huggingface_hub import HfApi, constants, get_token, set_client_factory
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    OIDCError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    XetDownloadError,
)
from huggingface_hub.utils._http import hf_request_event_hook
from huggingface_hub.utils.tqdm import disable_progress_bars

from release import __version__
from release.errors import HubRefused, InputError, ReleaseError
from release.terminal import duration

T = TypeVar("T")
Say = Callable[[str], None]

NAME = "protect-release"
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 60.0
_PATIENCE = 600.0
_LONGEST_PAUSE = 30.0
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


class Unavailable(Exception):
    """The Hub did not answer, or asked to be asked again (after `retry_after` seconds)."""

    def __init__(self, why: str, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class _Limits:
    """The seconds that a connection and an answer may take; for the whole process, as the library
    has one client for all."""

    def __init__(self) -> None:
        self.connect, self.answer = _CONNECT_SECONDS, _READ_SECONDS
        self.patience = _PATIENCE
        self.installed = False

    def install(self, patience: float) -> None:
        self.patience = patience
        self.connect = min(_CONNECT_SECONDS, patience)
        self.answer = min(_READ_SECONDS, patience)
        if not self.installed:
            set_client_factory(_client)
            self.installed = True

    def of(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A request's own limits, and ours where it has none."""
        ours = {"connect": self.connect}
        return {
            part: ours.get(part, self.answer) if asked.get(part) is None else asked[part]
            for part in ("connect", "read", "write", "pool")
        }


_limits = _Limits()


class _Client(httpx2.Client):
    """The library's client with time limits: several of its calls ask for none at all."""

    def send(self, request: httpx2.Request, **more: Any) -> httpx2.Response:
        asked = request.extensions.get("timeout", {})
        request.extensions = {**request.extensions, "timeout": _limits.of(asked)}
        if not _is_ours(request):
            return super().send(request, **more)
        try:
            response = super().send(request, **more)
        except httpx2.TransportError as problem:
            raise unavailable(problem) or problem from None
        if _passes(response.status_code):
            response.close()
            raise _asked_again(response)
        return response


def _is_ours(request: httpx2.Request) -> bool:
    """Whether this program asked: what it uploads, the library sends without its own name."""
    agent = request.headers.get("user-agent", "")
    return agent.startswith(f"{NAME}/") or "hf_hub/" not in agent


def _client() -> httpx2.Client:
    hooks: dict[str, list[Callable[..., Any]]] = {"request": [hf_request_event_hook]}
    return _Client(event_hooks=hooks, follow_redirects=True, timeout=None)


def _passes(status: int) -> bool:
    return status in (408, 429) or status >= 500


def _asked_again(response: httpx2.Response) -> Unavailable:
    after = response.headers.get("Retry-After", "").strip()
    why = f"{response.status_code} {response.reason_phrase}".strip()
    return Unavailable(why, float(after) if after.isdigit() else 0.0)


def unavailable(problem: BaseException | None) -> Unavailable | None:
    """What passes by itself, as such; None for all else. The library hides what went wrong in its
    upload threads behind a RuntimeError."""
    while isinstance(problem, RuntimeError) and problem.__cause__ is not None:
        problem = problem.__cause__
    if isinstance(problem, Unavailable):
        return problem
    if isinstance(problem, HfHubHTTPError):
        return _asked_again(problem.response) if _passes(problem.response.status_code) else None
    if isinstance(problem, (httpx2.UnsupportedProtocol, OfflineModeIsEnabled)):
        return None
    if isinstance(problem, (httpx2.TransportError, ConnectionError, TimeoutError)):
        return Unavailable(_one_line(problem) or type(problem).__name__)
    return None


_ODD = (
    httpx2.HTTPError,
    httpx2.InvalidURL,
    XetDownloadError,
    PermissionError,
    RuntimeError,
    ValueError,
)
"""What the library raises where an answer makes no sense, or its own storage refuses."""

PASSING = (Unavailable, HfHubHTTPError, httpx2.TransportError, OSError, RuntimeError)
"""What `Waiting.through` is to be given: among these is all that passes by itself."""


class Waiting:
    """One spell of trouble: pauses that grow, until patience is spent."""

    def __init__(self, patience: float, tell: Say | None = None) -> None:
        self._patience, self._tell = patience, tell or _say
        self._pause = min(1.0, patience / 8)
        self._until: float | None = None

    def through(self, problem: Exception) -> None:
        """Pauses where the problem passes by itself, raises it otherwise; HubRefused where
        patience is spent."""
        passing = unavailable(problem)
        if passing is None:
            raise problem
        pause = max(self._pause, passing.retry_after)
        if self._until is None:
            self._until = time.monotonic() + self._patience
            if pause <= self._patience:
                self._tell(
                    f"the Hub does not answer ({passing}): waiting for it, up to "
                    f"{duration(self._patience)}"
                )
        if time.monotonic() + pause > self._until:
            raise HubRefused(
                f"the Hub at {constants.ENDPOINT} did not answer for {duration(self._patience)} "
                f"({passing}): run the same command again later; what is uploaded and finished is "
                "kept"
            ) from None
        time.sleep(pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


def patiently(call: Callable[[], T], patience: float, tell: Say | None = None) -> T:
    """What `call` returns, repeated while the Hub does not answer; HubRefused where patience
    (seconds) is spent. `tell` is told once that the Hub is waited for. For calls that may be
    repeated without harm only; other errors are the call's own."""
    waiting = Waiting(patience, tell)
    while True:
        try:
            return call()
        except PASSING as problem:
            waiting.through(problem)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


Role = Literal["source", "state", "target"]


def token_for(role: Role) -> str | None:
    """The token of its own that a role was given (PROTECT_RELEASE_SOURCE_TOKEN or
    PROTECT_RELEASE_STATE_TOKEN: one to read the source, one to write the state), or None for what
    the library finds: that of a CI job, HF_TOKEN or the stored one."""
    return os.environ.get(f"PROTECT_RELEASE_{role.upper()}_TOKEN") or None


def be_patient(patience: float) -> None:
    """From now on requests have time limits, and sources are waited for this long (seconds)."""
    _limits.install(patience)


def source_patience() -> float:
    """How long (seconds) a source is waited for."""
    return _limits.patience


def api(patience: float, role: Role = "target") -> HfApi:
    """The Hub's interface under this program's name, with the role's token; from now on requests
    have time limits."""
    be_patient(patience)
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        disable_progress_bars()
    return HfApi(token=token_for(role), library_name=NAME, library_version=__version__)


def demand_token() -> None:
    """InputError where there is nothing to log in with."""
    if get_token() is None:
        raise InputError(f"no token for the Hub: {_LOG_IN}")


@contextmanager
def in_words(repo_id: str) -> Iterator[None]:
    """What the Hub refuses about `repo_id` becomes a ReleaseError: one line that says what next."""
    try:
        yield
    except (OIDCError, LocalTokenNotFoundError, HFValidationError, OfflineModeIsEnabled) as problem:
        raise _unusable(problem, repo_id) from None
    except (HfHubHTTPError, EntryNotFoundError) as problem:
        if _is_login(problem):
            raise _job_login_failed(problem, repo_id) from None
        raise _refused(problem, repo_id) from None
    except _ODD as problem:
        raise HubRefused(
            f"the Hub could not be used for {repo_id} ({_one_line(problem)}): check HF_ENDPOINT "
            "and the token, then run the same command again"
        ) from None


def _unusable(problem: Exception, repo_id: str) -> ReleaseError:
    """What is wrong on this side."""
    if isinstance(problem, OIDCError):
        return _job_login_failed(problem, repo_id)
    if isinstance(problem, HFValidationError):
        return InputError(f"{repo_id} is no name of a repository on the Hub: write org/name")
    if isinstance(problem, OfflineModeIsEnabled):
        return InputError(f"{repo_id} is on the Hub, and HF_HUB_OFFLINE is set: unset it")
    return InputError(f"no token for the Hub: {_LOG_IN}")


def _is_login(problem: Exception) -> bool:
    """Whether it happened while a job exchanged its identity for a token."""
    if not isinstance(problem, HfHubHTTPError):
        return False
    asked = str(problem.response.request.url)
    identity = os.environ.get("ACTIONS_ID_TOKEN_REQUEST_URL")
    return asked.endswith("/oauth/token") or bool(identity and asked.startswith(identity))


def _job_login_failed(problem: Exception, repo_id: str) -> InputError:
    return InputError(
        f"the login of this job failed ({_server_words(problem)}): check HF_OIDC_RESOURCE and the "
        f"trusted publishers in the settings of {repo_id}, or unset HF_OIDC_RESOURCE and set "
        "HF_TOKEN"
    )


def _refused(problem: Exception, repo_id: str) -> HubRefused:
    """What the Hub said no to."""
    if isinstance(problem, GatedRepoError):
        return HubRefused(
            f"{repo_id} is gated, and this account may not read it: ask for access at "
            f"{constants.ENDPOINT}/datasets/{repo_id}"
        )
    if isinstance(problem, RepositoryNotFoundError):
        return HubRefused(
            f"{repo_id} is not on the Hub, or not for this account: check its name, or {_LOG_IN}"
        )
    if isinstance(problem, RevisionNotFoundError):
        return HubRefused(
            f"{repo_id} has no such revision: make it with `hf repos branch create {repo_id} "
            "BRANCH --repo-type dataset`"
        )
    status = problem.response.status_code if isinstance(problem, HfHubHTTPError) else 404
    if status == 401:
        return HubRefused(f"the Hub does not know this token: {_LOG_IN}")
    if status == 403:
        return HubRefused(
            f"this token may not do that to {repo_id} ({_server_words(problem)}): use one with "
            f"write access: {_LOG_IN}"
        )
    return HubRefused(
        f"the Hub refused {repo_id} ({_server_words(problem)}): run the same command again, and "
        "what is uploaded and finished is kept"
    )


def _server_words(problem: Exception) -> str:
    said = getattr(problem, "server_message", None)
    return " ".join(said.split()) if said else _one_line(problem)


def _one_line(problem: BaseException) -> str:
    return str(problem).strip().partition("\n")[0].strip()
