"""The API as OpenAPI 3.1 describes it; `/openapi.json` serves it."""

from __future__ import annotations

from functools import cache
from typing import Any

from longshore import __version__
from longshore.config_values import LEVELS
from longshore.service.asked import (
    DURATION_PATTERN,
    MAX_GIVEN,
    MAX_NAME,
    MAX_SERVICES,
    NAME_PATTERN,
    SIZE_PATTERN,
    SWITCHES,
)
from longshore.service.task import GIVEN, OPTIONS

Schema = dict[str, Any]

_STATES = ["queued", "running", "succeeded", "failed", "cancelled", "superseded"]
_NAME: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_NAME,
    "pattern": NAME_PATTERN,
}
_TEXT: Schema = {"type": "string", "maxLength": MAX_GIVEN}
_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_OPTIONS: dict[str, Schema] = {
    **{name: {"type": "boolean"} for name in SWITCHES},
    "level": {
        "description": "`auto` compresses more or less by what is idle, the network or the CPU.",
        "anyOf": [
            {"const": "auto"},
            {"type": "integer", "minimum": LEVELS[0], "maximum": LEVELS[-1]},
        ],
    },
    "scope": _NAME,
    "timeout": {
        "type": "string",
        "pattern": DURATION_PATTERN,
        "description": "More than nothing, at most 7d.",
        "examples": ["90s", "1h30m"],
    },
    "max-image-size": {"type": "string", "pattern": SIZE_PATTERN, "examples": ["50GB"]},
}


@cache
def describe() -> Schema:
    """Describe the API."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "longshore",
            "version": __version__,
            "description": "A sidecar that keeps the images of builds in S3. On its unix socket"
            " nothing else is needed; on TCP there is a token.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"token": []}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths() -> dict[str, Any]:
    job = _parameter("id", "path", {"type": "string"}, "Of a job.")
    not_found = {"404": _refused("There is no such job.")}
    return {
        "/healthz": {"get": _operation("Whether it lives.", {"200": _answer("It does.", "Alive")})},
        "/readyz": {
            "get": _operation(
                "Whether builds may go on.",
                {
                    "200": _answer("They may.", "Ready"),
                    "400": _refused("`wait` means nothing."),
                    "503": _answer("They may not.", "Ready"),
                },
                _parameter(
                    "wait",
                    "query",
                    {"type": "integer", "minimum": 0, "maximum": 60, "default": 0},
                    "Answer when it is ready or ending, or after so many seconds.",
                ),
            )
        },
        "/openapi.json": {
            "get": _operation("This description.", {"200": _answer("It.", {"type": "object"})})
        },
        "/api/v1": {"get": _operation("What this is.", {"200": _answer("It.", "About")})},
        "/api/v1/config": {"get": _asking("The settings, as `longshore config --json`.")},
        "/api/v1/entries": {
            "get": _asking(
                "What is cached, as `longshore list --json`.",
                _parameter(
                    "all_scopes",
                    "query",
                    {"type": "boolean", "default": False},
                    "Of every scope, not only of those that this build reads.",
                ),
            )
        },
        "/api/v1/entries/{service}": {
            "get": _asking(
                "What an import would load, as `longshore show SERVICE --json`.",
                _parameter("service", "path", {"type": "string"}, "The name of a service."),
            )
        },
        "/api/v1/jobs": {
            "get": _operation("The jobs, the newest first.", {"200": _answer("They.", "Jobs")}),
            "post": {
                **_operation(
                    "Take in a job.",
                    {
                        "202": {
                            **_answer("It was taken in.", "Job"),
                            "headers": {
                                "Location": {
                                    "description": "Where it is.",
                                    "schema": {"type": "string"},
                                }
                            },
                        },
                        "400": _refused("The body is no task."),
                        "413": _refused("The body is too large."),
                        "415": _refused("The body is no JSON by its type."),
                        "429": _refused("Too many jobs wait."),
                        "503": _refused("The sidecar is ending."),
                    },
                ),
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": _ref("Task")}},
                },
            },
        },
        "/api/v1/jobs/{id}": {
            "parameters": [job],
            "get": _operation(
                "A job, with its result.", {"200": _answer("It.", "WholeJob"), **not_found}
            ),
            "delete": _operation(
                "Cancel a job.",
                {
                    "202": _answer("It was told to end.", "Job"),
                    "409": _refused("It has ended already."),
                    **not_found,
                },
            ),
        },
        "/api/v1/jobs/{id}/events": {
            "parameters": [job],
            "get": _operation(
                "What a job does as it does it: `line` (Line), `progress` (Progress), and"
                " `ended` (WholeJob) at the end.",
                {
                    "200": {
                        "description": "Server-sent events.",
                        "content": {"text/event-stream": {"schema": {"type": "string"}}},
                    },
                    **not_found,
                },
                _parameter(
                    "Last-Event-ID",
                    "header",
                    {"type": "string", "pattern": "^[0-9]{1,9}$"},
                    "The last event that was heard; what followed it is told again.",
                ),
            ),
        },
    }


def _schemas() -> dict[str, Schema]:
    line = _object(
        {"word": {"enum": ["", "warning", "error", "stopped"]}, "text": {"type": "string"}}
    )
    progress = _object(
        {
            "what": {"type": "string", "description": "downloading, unpacking or saving"},
            "done_bytes": {"type": "integer"},
            "total_bytes": {"type": ["integer", "null"]},
            "seconds": {"type": "number"},
            "ended": {"type": "boolean"},
        }
    )
    job: dict[str, Schema] = {
        "id": {"type": "string"},
        "command": {"type": "string"},
        "services": {"type": "array", "items": {"type": "string"}},
        "background": {"type": "boolean"},
        "state": {"enum": _STATES},
        "reason": {"type": "string", "description": "Why it did not succeed."},
        "created": _TIME,
        "started": _TIME,
        "ended": _TIME,
        "progress": {"anyOf": [_ref("Progress"), {"type": "null"}]},
        "exit_code": {"type": ["integer", "null"]},
    }
    whole: dict[str, Schema] = {
        **job,
        "lines": {"type": "array", "items": _ref("Line")},
        "text": {"type": "string", "description": "What the command writes without `--json`."},
        "result": {
            "anyOf": [_ref("Document"), {"type": "null"}],
            "description": "What the command writes with `--json`.",
        },
    }
    state = {"ready": {"type": "boolean"}, "reason": {"type": "string"}}
    return {
        "Task": {"oneOf": [_task(command) for command in OPTIONS]},
        "Job": _object(job),
        "WholeJob": _object(whole),
        "Jobs": _object({"schema": {"const": 1}, "jobs": {"type": "array", "items": _ref("Job")}}),
        "Line": line,
        "Progress": progress,
        "Document": {
            "type": "object",
            "required": ["schema", "command", "ok", "exit_code", "error", "warnings"],
            "properties": {
                "schema": {"const": 1},
                "command": {"type": "string"},
                "ok": {"type": "boolean"},
                "exit_code": {"type": "integer"},
                "error": {"anyOf": [_ref("Problem"), {"type": "null"}]},
                "warnings": {"type": "array", "items": _ref("Problem")},
            },
        },
        "Problem": _object(
            {
                "error": {"type": "string"},
                "message": {"type": "string"},
                "exit_code": {"type": "integer"},
            }
        ),
        "Refusal": {
            "type": "object",
            "required": ["schema", "error"],
            "properties": {
                "schema": {"const": 1},
                "error": {
                    "type": "object",
                    "required": ["message"],
                    "properties": {"message": {"type": "string"}},
                },
            },
        },
        "Alive": _object({"alive": {"const": True}}),
        "Ready": _object({**state, "ending": {"type": "boolean"}}),
        "About": _object(
            {
                **state,
                "schema": {"const": 1},
                "version": {"type": "string"},
                "queued": {"type": "integer"},
            }
        ),
    }


def _task(command: str) -> Schema:
    options = {name: _OPTIONS[name] for name in sorted(OPTIONS[command])}
    told = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}, {"const": True}, {"type": "null"}]}
    return {
        "type": "object",
        "title": command,
        "required": ["command"],
        "additionalProperties": False,
        "properties": {
            "command": {"const": command},
            "services": {
                "type": "array",
                "items": _NAME,
                "maxItems": MAX_SERVICES,
                "description": "All, if there are none.",
            },
            "options": {
                "type": "object",
                "additionalProperties": False,
                "properties": options,
            },
            "terminal": {"type": "boolean", "description": "The text is for a terminal."},
            "given": {
                "type": "object",
                "additionalProperties": False,
                "properties": dict.fromkeys(sorted(GIVEN), told),
                "description": "What has to be set in the sidecar, else the job is refused.",
            },
        },
    }


def _operation(summary: str, answers: dict[str, Any], *parameters: Schema) -> Schema:
    operation: Schema = {"summary": summary, "responses": answers}
    return {**operation, "parameters": list(parameters)} if parameters else operation


def _asking(summary: str, *parameters: Schema) -> Schema:
    problem = {
        "anyOf": [_ref("Document"), _ref("Refusal")],
    }
    answers = {
        "200": _answer("The document.", "Document"),
        "400": _answer("What is asked for, or what is set, is wrong.", problem),
        "404": _answer("There is none.", problem),
        "500": _refused("The command crashed."),
        "502": _answer("The store or the engine failed.", "Document"),
    }
    return _operation(summary, answers, *parameters)


def _answer(description: str, schema: str | Schema) -> Schema:
    found = _ref(schema) if isinstance(schema, str) else schema
    return {"description": description, "content": {"application/json": {"schema": found}}}


def _refused(description: str) -> Schema:
    return _answer(description, "Refusal")


def _parameter(name: str, where: str, schema: Schema, description: str) -> Schema:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "schema": schema,
        "description": description,
    }


def _object(properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "required": sorted(properties), "properties": properties}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
