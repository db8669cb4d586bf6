"""For whoever runs the server by hand: faults, accounts and the log, from the shell."""

from __future__ import annotations

from dataclasses import asdict

from tests.hub.answers import Answer, Refusal, as_json
from tests.hub.calls import Call, route
from tests.hub.state import State


@route("admin-faults", "POST", "/admin/faults")
def ask_for_fault(state: State, call: Call) -> Answer:
    """Takes {route, kind, nth, times, retry_after}, as `Faults.fail` does."""
    try:
        state.faults.fail(**call.json())
    except (TypeError, ValueError) as error:
        raise Refusal(400, str(error)) from None
    return as_json({})


@route("admin-faults", "GET", "/admin/faults")
def happened(state: State, call: Call) -> Answer:
    return as_json(state.faults.happened)


@route("admin-faults", "DELETE", "/admin/faults")
def clear(state: State, call: Call) -> Answer:
    """Nothing fails any more, and what stalls goes on."""
    state.faults.clear()
    return as_json({})


@route("admin-users", "POST", "/admin/users")
def add_user(state: State, call: Call) -> Answer:
    """Takes {name, token, role}."""
    state.add_user(**call.json())
    return as_json({})


@route("admin-log", "GET", "/admin/log")
def log(state: State, call: Call) -> Answer:
    return as_json([asdict(request) for request in state.log])
