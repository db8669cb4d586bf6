"""Who is asking, the exchange of job identities for tokens, and the checks that need no repo."""

from __future__ import annotations

from typing import Any

import yaml

from tests.hub.answers import Answer, Refusal, as_json
from tests.hub.calls import Call, route
from tests.hub.state import State

_LISTS = ("task_categories", "task_ids", "size_categories", "tags", "configs")


@route("whoami", "GET", "/api/whoami-v2")
def whoami(state: State, call: Call) -> Answer:
    token = state.accounts.who(call.headers["Authorization"])
    if token is None:
        raise Refusal(401, "Invalid username or password.")
    orgs = [
        {"type": "org", "name": name, "fullname": name, "roleInOrg": members[token.user]}
        for name, members in state.accounts.orgs.items()
        if token.user in members
    ]
    auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": token.role}}
    return as_json(
        {"type": "user", "name": token.user, "fullname": token.user, "orgs": orgs, "auth": auth}
    )


@route("agent-harnesses", "GET", "/api/agent-harnesses")
def agent_harnesses(state: State, call: Call) -> Answer:
    return as_json({"standardEnvVars": [], "harnesses": {}})


@route("validate-yaml", "POST", "/api/validate-yaml")
def validate_yaml(state: State, call: Call) -> Answer:
    """What is wrong in the front matter of a card: 400 where anything is."""
    errors = [{"message": message} for message in _wrong(call.json().get("content", ""))]
    return as_json({"errors": errors, "warnings": []}, 400 if errors else 200)


def _wrong(content: str) -> list[str]:
    head = content.split("---\n")[1] if content.startswith("---\n") else ""
    try:
        values = yaml.safe_load(head)
    except yaml.YAMLError as error:
        return [f"YAML metadata is broken: {error}"]
    if values is None:
        return []
    if not isinstance(values, dict):
        return ["YAML metadata must be a mapping"]
    return [
        f'"{name}" must be an array'
        for name in _LISTS
        if not isinstance(values.get(name, []), list)
    ]


@route("oidc-token", "GET", "/oidc/token")
def oidc_token(state: State, call: Call) -> Answer:
    """The code host's side: says which job is running, to the audience that is asked for."""
    request_token = (call.headers["Authorization"] or "").removeprefix("Bearer ")
    return as_json({"value": state.accounts.identity(request_token, call.query["audience"])})


@route("oauth-token", "POST", "/oauth/token")
def oauth_token(state: State, call: Call) -> Answer:
    """The Hub's side: a token that writes one repository, for a job that it trusts."""
    values: dict[str, Any] = call.json()
    if not values.get("grant_type", "").endswith("token-exchange"):
        raise Refusal(400, "unsupported grant type", error="unsupported_grant_type")
    token = state.accounts.exchange(values["subject_token"], values["resource"], state.url)
    state.save()
    return as_json({"access_token": token, "token_type": "bearer", "expires_in": 3600})
