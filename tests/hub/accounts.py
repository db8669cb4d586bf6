"""Who may do what: users, organizations, tokens, and the jobs that repositories trust."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tests.hub.answers import Refusal

if TYPE_CHECKING:
    from tests.hub.repos import Repo

_LIFETIME = 3600


@dataclass(frozen=True)
class Token:
    """What a request is allowed: `only` names the one repository it is good for, if any."""

    user: str
    role: str = "write"
    only: str | None = None
    expires: float | None = None


@dataclass
class Accounts:
    """Everybody the Hub knows. `orgs` has the role of each member, `publishers` the code
    repositories that a Hub repository trusts, `jobs` the code repository of each running job."""

    users: list[str] = field(default_factory=list)
    orgs: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    publishers: dict[str, list[str]] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)
    secret: str = field(default_factory=lambda: secrets.token_hex(16))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Accounts:
        tokens = {name: Token(**token) for name, token in values["tokens"].items()}
        return cls(**{**values, "tokens": tokens})

    def who(self, authorization: str | None) -> Token | None:
        """The token of a request, None for anybody; 401 where it is not known."""
        if not authorization:
            return None
        token = self.tokens.get(authorization.removeprefix("Bearer "))
        if token is None or (token.expires is not None and token.expires < time.time()):
            raise Refusal(401, "Invalid credentials in Authorization header")
        return token

    def role_in(self, token: Token, namespace: str) -> str | None:
        """admin, write or read where the token's user belongs to the namespace."""
        if namespace == token.user:
            return "admin"
        return self.orgs.get(namespace, {}).get(token.user)

    def may_see(self, token: Token | None, repo: Repo) -> bool:
        return not repo.private or (token is not None and self._belongs(token, repo))

    def may_open(self, token: Token | None, repo: Repo) -> bool:
        """Whether the files of a repository that may be seen can be read too."""
        if not repo.gated:
            return True
        if token is None:
            return False
        return self._belongs(token, repo) or (token.only is None and token.user in repo.access)

    def may_write(self, token: Token, repo: Repo) -> bool:
        """Whether a token of role write is good for this repository."""
        if token.only:
            return token.only == repo.key
        return self.role_in(token, repo.namespace) in ("admin", "write")

    def _belongs(self, token: Token, repo: Repo) -> bool:
        if token.only:
            return token.only == repo.key
        return self.role_in(token, repo.namespace) is not None

    def sign(self, text: str) -> str:
        """A seal that nobody else can put on the text."""
        return hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()

    def identity(self, request_token: str, audience: str) -> str:
        """What the code host says of a running job: a signed id token for one audience."""
        if request_token not in self.jobs:
            raise Refusal(401, "No job has this request token")
        claims = {
            "iss": "https://token.actions.example",
            "aud": audience,
            "repository": self.jobs[request_token],
            "exp": time.time() + _LIFETIME,
        }
        text = ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "HS256"}, claims))
        return f"{text}.{_base64(self.sign(text).encode())}"

    def exchange(self, identity: str, resource: str, audience: str) -> str:
        """A short-lived token that writes `resource` alone, for a job that it trusts; 400
        otherwise."""
        text, _, seal = identity.rpartition(".")
        if not text or not hmac.compare_digest(_base64(self.sign(text).encode()), seal):
            raise _invalid_grant("the id token is not signed by a known provider")
        claims = json.loads(_unbase64(text.split(".")[1]))
        if claims["aud"] != audience or claims["exp"] < time.time():
            raise _invalid_grant("the id token is expired or for another audience")
        if claims["repository"] not in self.publishers.get(resource, []):
            raise _invalid_grant(f"{resource} has no trusted publisher for this job")
        name = f"hf_jwt_{secrets.token_hex(12)}"
        self.tokens[name] = Token(claims["repository"], "write", resource, time.time() + _LIFETIME)
        return name


def _invalid_grant(why: str) -> Refusal:
    return Refusal(400, why, error="invalid_grant", error_description=why)


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _unbase64(value: str) -> bytes:
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
