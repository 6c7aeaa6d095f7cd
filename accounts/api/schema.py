"""The OpenAPI document of the management API: what REST framework does not say by itself."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.openapi import AutoSchema
from rest_framework.serializers import Serializer

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_REFUSED = {
    "description": "Why not, in the shape of OpenAI's errors",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}
_METHODS = ("get", "post", "patch", "delete")


class Described(AutoSchema):
    """An operation of a resource."""

    view: Any

    def get_tags(self) -> list[str]:
        return [self.view.resource]

    def get_operation_id(self) -> str:
        return f"{self.view.resource}_{self.view.action}".replace("-", "_")

    def get_override_parameters(self) -> list[Any]:
        if self.view.action != "list":
            return []
        asked: list[Any] = [self.view.asked]
        return asked

    def get_filter_backends(self) -> list[Any]:
        return []

    def get_auth(self) -> list[dict[str, list[str]]]:
        return [{"key": []}, {"session": []}]

    def _map_basic_serializer(self, serializer: Any, direction: str) -> Any:
        """What is not always shown is not promised."""
        mapped: dict[str, Any] = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]
        promised = [name for name in mapped.pop("required", ()) if name not in _sometimes(serializer)]
        return {**mapped, "required": promised} if promised else mapped

    def map_parsers(self) -> list[str]:
        return ["application/json"]


def _sometimes(serializer: Any) -> tuple[str, ...]:
    names: tuple[str, ...] = getattr(serializer, "sometimes", ())
    return names


def with_errors(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """drf-spectacular's hook: every operation may end in a refusal."""
    components = result.setdefault("components", {})
    components.setdefault("schemas", {})["Error"] = _ERROR
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "A member's API key"},
        "session": {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME},
    }
    for operations in result["paths"].values():
        for method in _METHODS:
            if method in operations:
                operations[method]["responses"]["default"] = _REFUSED
    return result


class Nothing(Serializer[Any]):
    """No body."""
