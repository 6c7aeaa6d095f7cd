"""What goes wrong in the management API → what the caller is told: OpenAI's shape, as everywhere."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import PermissionDenied as DjangoDenied
from django.core.exceptions import SuspiciousOperation
from django.core.exceptions import ValidationError as DjangoInvalid
from django.db import IntegrityError, InterfaceError, InternalError, OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.serializers import as_serializer_error

from accounts.errors import ApiError

_EVERYWHERE = "non_field_errors"


def respond(error: Exception, context: dict[str, Any]) -> Response | None:
    """REST framework's exception handler. None for a mistake of ours, which Django logs and answers."""
    refusal = _refusal(error, context)
    if refusal is None:
        return None
    response = Response(json.loads(refusal.body()), status=refusal.status)
    for name, value in refusal.headers:
        response[name.decode()] = value.decode()
    return response


def _refusal(error: Exception, context: dict[str, Any]) -> ApiError | None:
    match error:
        case ApiError():
            return error
        case DjangoInvalid():
            return invalid(as_serializer_error(error))
        case Http404():
            return ApiError(404, "There is nothing here.", code="not_found")
        case DjangoDenied():
            return ApiError(403, "You may not do this.")
        case SuspiciousOperation():
            return ApiError(400, "The request cannot be read.")
        case IntegrityError():
            return ApiError(409, "It was changed meanwhile, or is there already. Look, and try again.")
        case OperationalError() | InterfaceError() | InternalError():
            retry = ((b"retry-after", b"2"),)
            return ApiError(
                503, "The gateway's database is away.", code="database_unavailable", headers=retry
            )
        case exceptions.APIException():
            return _of_framework(error, context)
    return None


def _of_framework(error: exceptions.APIException, context: dict[str, Any]) -> ApiError:
    match error:
        case exceptions.ValidationError():
            return invalid(error.detail)
        case exceptions.NotAuthenticated():
            challenge = ((b"www-authenticate", b"Bearer"),)
            return ApiError(
                401,
                "Send an API key, or sign in at /accounts/login/.",
                code="missing_api_key",
                headers=challenge,
            )
        case exceptions.MethodNotAllowed():
            allowed = ", ".join(context["view"].allowed_methods)
            return ApiError(
                405,
                f"{context['request'].method} is not allowed here.",
                code="method_not_allowed",
                headers=((b"allow", allowed.encode()),),
            )
        case exceptions.Throttled():
            wait = math.ceil(getattr(error, "wait", None) or 1)
            return ApiError(
                429,
                f"Too many requests: try again in {wait} s.",
                code="rate_limit_exceeded",
                headers=((b"retry-after", b"%d" % wait),),
            )
    kind = "permission_error" if error.status_code == 403 else "invalid_request_error"
    return ApiError(error.status_code, str(error.detail), type=kind)


def invalid(detail: object) -> ApiError:
    """Every mistake in one sentence each; `param` is the first field that one was made in."""
    told = list(_sentences(detail, ""))
    param = next((name for name, _ in told if name), None)
    message = " ".join(f"{name}: {sentence}" if name else sentence for name, sentence in told)
    return ApiError(400, message or "The request cannot be meant.", param=param)


def _sentences(detail: object, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(detail, dict):
        for key, value in detail.items():
            inner = str(key) if key not in (_EVERYWHERE, "__all__") else ""
            yield from _sentences(value, f"{name}.{inner}" if name and inner else name or inner)
    elif isinstance(detail, list | tuple):
        for value in detail:
            yield from _sentences(value, name)
    else:
        yield name, str(detail)
