"""THE table: exception → what the caller is told. Nothing else decides a status."""

from __future__ import annotations

import logging
from typing import Any

from accounts.database import DatabaseUnavailable
from accounts.errors import ApiError
from accounts.keys import InvalidCredential
from proxy import (
    audio,
    before,
    budgets,
    call,
    demands,
    event_log,
    fold,
    http,
    http_connection,
    idempotency,
    intake,
    limiting,
    passage,
    query,
    routing,
    running,
    sse,
    upstream,
)
from proxy.admission import Status
from proxy.reported import UpstreamReported, text
from threads import conversations, history, queue, responses
from threads.errors import NotFound

UPSTREAM_TYPE = "upstream_error"

logger = logging.getLogger(__name__)


class WrongMethod(Exception):
    """The path is known, the method is not one of `allowed`."""

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__(method)
        self.method = method
        self.allowed = allowed


class HeadersTooLarge(Exception):
    """The headers pass 16 KiB."""


class HeadersTooSlow(Exception):
    """The headers did not come in time."""


def to_api_error(error: Exception) -> ApiError:
    """The refusal for an exception of ours. An exception that is not in the table is raised again."""
    for kind, answer in _TABLE.items():
        if isinstance(error, kind):
            made = answer(error)
            assert isinstance(made, ApiError)
            return made
    raise error


def refusal(error: Exception) -> ApiError:
    """As `known`; a mistake of ours is logged."""
    if not isinstance(error, tuple(_TABLE)):
        logger.error("A call failed in a way that nobody expected.", exc_info=error)
    return known(error)


def known(error: Exception) -> ApiError:
    """As `to_api_error`; an exception that is not in the table is a mistake of ours."""
    if isinstance(error, tuple(_TABLE)):
        return to_api_error(error)
    return ApiError(500, "The gateway made a mistake. It has been logged.", code="internal_error")


def outcome(error: Exception) -> Status:
    """How a call that ended in this exception stands in the ledger."""
    if isinstance(error, http.ClientLeft | running.Cancelled):
        return Status.CANCELLED
    if isinstance(error, passage.Truncated | http_connection.Broken | http.IdleTimeout | http.TotalTimeout):
        return Status.TRUNCATED
    return Status.FAILED


def _invalid(message: str, **more: Any) -> ApiError:
    return ApiError(400, message, **more)


def _gateway_trouble(status: int, message: str, code: str) -> ApiError:
    return ApiError(status, message, type=UPSTREAM_TYPE, code=code)


def _reported(error: UpstreamReported) -> ApiError:
    """An upstream's own 4xx passes through; what is our operator's fault or the upstream's own is a 502."""
    status, told = error.status, error.error
    hidden = status in (401, 403, 407) and not error.of_caller
    if status is not None and (hidden or not 400 <= status < 500):
        return _gateway_trouble(502, f"The upstream answered with status {status}.", "upstream_error")
    return ApiError(
        status or 502,
        text(told.get("message")) or "The upstream refused the request.",
        type=text(told.get("type")) or (None if status else UPSTREAM_TYPE),
        code=text(told.get("code")) or (None if status else "upstream_error"),
        param=text(told.get("param")),
        headers=((b"retry-after", error.retry_after.encode()),) if error.retry_after else (),
    )


def _unavailable(message: str, code: str) -> ApiError:
    return ApiError(503, message, code=code, headers=((b"retry-after", b"2"),))


def _wrong_method(error: WrongMethod) -> ApiError:
    allowed = ", ".join(error.allowed)
    return ApiError(
        405,
        f"Method {error.method} is not allowed here; use {allowed}.",
        code="method_not_allowed",
        headers=((b"allow", allowed.encode()),),
    )


def _not_found(error: routing.ModelNotFound) -> ApiError:
    message = f"The model '{error}' does not exist or you do not have access to it."
    return ApiError(404, message, code="model_not_found", param="model")


_TABLE: dict[type[Exception], Any] = {
    ApiError: lambda error: error,
    intake.NoCredential: lambda error: ApiError(
        401,
        "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'.",
        code="missing_api_key",
    ),
    intake.TwoCredentials: lambda error: _invalid(
        "The request carries two different credentials; send one.", code="ambiguous_credentials"
    ),
    intake.TooMuchAtOnce: lambda error: _unavailable(
        "Too many large requests are being received. Try again shortly.", "too_many_bytes"
    ),
    InvalidCredential: lambda error: ApiError(
        401, "The API key provided is not valid.", code="invalid_api_key"
    ),
    call.InvalidBody: lambda error: _invalid(str(error), param=error.param),
    call.NotOffered: lambda error: _invalid(str(error), param=error.param, code="not_offered"),
    audio.FormError: lambda error: _invalid(str(error)),
    http.BodyTooLarge: lambda error: ApiError(
        413, f"The body is larger than {error.limit} bytes.", code="request_too_large"
    ),
    HeadersTooLarge: lambda error: ApiError(
        413, "The headers are larger than 16 KiB.", code="headers_too_large"
    ),
    HeadersTooSlow: lambda error: ApiError(
        408, "The headers took too long to arrive.", code="request_timeout"
    ),
    http.BodyTooSlow: lambda error: ApiError(
        408, "The body took too long to arrive.", code="request_timeout"
    ),
    WrongMethod: _wrong_method,
    routing.ModelForbidden: lambda error: ApiError(
        403, f"This API key may not use the model '{error}'.", code="model_not_allowed", param="model"
    ),
    routing.ModelNotFound: _not_found,
    demands.RateLimited: lambda error: ApiError(
        429,
        f"Rate limit reached: {error}. Try again in {error.retry_after_seconds:.3g} s.",
        code="rate_limit_exceeded",
        headers=error.headers,
    ),
    queue.QueueFull: lambda error: ApiError(
        429,
        f"{queue.MOST_QUEUED} responses are waiting already. Try again when some of them are done.",
        code="queue_full",
        headers=((b"retry-after", b"5"),),
    ),
    event_log.LogUnavailable: lambda error: _unavailable(
        "The events of the response cannot be read. Try again shortly, or ask for the response itself.",
        "events_unavailable",
    ),
    event_log.LogBroken: lambda error: _unavailable(
        "Some events of the response are lost. Ask for the response itself.", "events_lost"
    ),
    idempotency.InvalidKey: lambda error: _invalid(
        "The header 'Idempotency-Key' must be one key of 1 to 255 printable ASCII characters.",
        code="invalid_idempotency_key",
        param="Idempotency-Key",
    ),
    idempotency.InProgress: lambda error: ApiError(
        409,
        "A call with this Idempotency-Key is still running.",
        code="idempotency_in_progress",
        headers=((b"retry-after", b"1"),),
    ),
    idempotency.Mismatch: lambda error: ApiError(
        422, "This Idempotency-Key was used for another request.", code="idempotency_mismatch"
    ),
    idempotency.AnswerTooLarge: lambda error: ApiError(
        409,
        "The call with this Idempotency-Key was answered, with more than the 1 MiB that is kept.",
        code="idempotency_answer_too_large",
        headers=((b"x-should-retry", b"false"),),
    ),
    budgets.QuotaExceeded: lambda error: ApiError(
        429,
        "The budget is spent, or what is left of it does not pay for this call.",
        type="insufficient_quota",
        code="insufficient_quota",
        headers=((b"retry-after", b"%d" % error.retry_after_seconds), (b"x-should-retry", b"false")),
    ),
    limiting.BudgetBusy: lambda error: ApiError(
        429,
        "What is left of the budget is held by calls under way. Try again shortly.",
        code="budget_busy",
        headers=((b"retry-after", b"5"),),
    ),
    limiting.BudgetUnavailable: lambda error: _unavailable(
        "The gateway cannot tell what is left of the budget. Try again shortly.", "budget_unavailable"
    ),
    budgets.Unpriced: lambda error: ApiError(
        403,
        f"The model '{error}' has no known price, and a budget applies to this call.",
        code="model_unpriced",
        param="model",
    ),
    DatabaseUnavailable: lambda error: _unavailable(
        "The gateway cannot reach its database. Try again shortly.", "database_unavailable"
    ),
    running.Cancelled: lambda error: ApiError(409, "The call was cancelled.", code="cancelled"),
    before.PreviousResponseNotFound: lambda error: ApiError(
        404,
        "The previous response does not exist.",
        code="previous_response_not_found",
        param="previous_response_id",
    ),
    history.NotContinuable: lambda error: _invalid(
        f"The previous response is {error.status}; go on from one that is completed or incomplete.",
        param="previous_response_id",
    ),
    history.PastTooLarge: lambda error: ApiError(
        413, "What was said before is too much to go on from.", code="history_too_large"
    ),
    NotFound: lambda error: ApiError(404, f"No such {error.what}."),
    query.InvalidQuery: lambda error: _invalid(str(error), param=error.param),
    conversations.TooManyItems: lambda error: _invalid(
        f"'items' may hold {conversations.ITEMS_AT_ONCE} at most.", param="items"
    ),
    responses.NotCancellable: lambda error: _invalid("Cannot cancel a synchronous response."),
    UpstreamReported: _reported,
    upstream.ConnectTimeout: lambda error: _gateway_trouble(
        504, "The upstream could not be reached in time.", "upstream_timeout"
    ),
    upstream.Unreachable: lambda error: _gateway_trouble(
        502, "The upstream could not be reached.", "upstream_unreachable"
    ),
    upstream.Silent: lambda error: _gateway_trouble(
        504, "The upstream did not answer in time.", "upstream_timeout"
    ),
    http.IdleTimeout: lambda error: _gateway_trouble(
        504, "The upstream stopped in the middle of its answer.", "upstream_timeout"
    ),
    http.TotalTimeout: lambda error: _gateway_trouble(504, "The call took too long.", "upstream_timeout"),
    passage.Truncated: lambda error: _gateway_trouble(
        502, "The upstream's answer was cut short.", "upstream_truncated"
    ),
    http_connection.Broken: lambda error: _gateway_trouble(
        502, "The connection to the upstream broke in the middle of its answer.", "upstream_truncated"
    ),
    passage.Garbled: lambda error: _gateway_trouble(
        502, "The upstream's answer could not be understood.", "upstream_malformed"
    ),
    sse.OversizedEvent: lambda error: _gateway_trouble(
        502, "The upstream sent an event that is too large.", "upstream_malformed"
    ),
    fold.TooMuchToFold: lambda error: _gateway_trouble(
        502, "The upstream's answer is too large.", "upstream_malformed"
    ),
    upstream.TooLong: lambda error: _gateway_trouble(
        502, "The upstream's answer is too large.", "upstream_malformed"
    ),
}
