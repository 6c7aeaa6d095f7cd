"""`/audio/transcriptions` and `/audio/translations`."""

from __future__ import annotations

from proxy import call
from proxy.audio import Form, duration_milliseconds, parse_form
from proxy.call import Audio, Call, InvalidBody


def parse_transcription(body: bytes, content_type: str) -> tuple[Call, str | None]:
    """The call, and the `security_key` of its form. Raises FormError, InvalidBody."""
    return _call("audio.transcriptions", "/audio/transcriptions", body, content_type)


def parse_translation(body: bytes, content_type: str) -> tuple[Call, str | None]:
    """The call, and the `security_key` of its form. Raises FormError, InvalidBody."""
    return _call("audio.translations", "/audio/translations", body, content_type)


def _call(endpoint: str, path: str, body: bytes, content_type: str) -> tuple[Call, str | None]:
    form = parse_form(body, content_type)
    return call_of(endpoint, path, form, form.fields.get("model"))


def call_of(endpoint: str, path: str, form: Form, model: str | None) -> tuple[Call, str | None]:
    """The call that a form is, for this model, and its `security_key`. Raises InvalidBody."""
    if form.file is None:
        raise InvalidBody("You must provide a 'file'.", "file")
    fields = form.fields
    milliseconds, exact = duration_milliseconds(form.file.body, form.file.file_name or "")
    made = Call(
        endpoint=endpoint,
        path=path,
        model=call.model_name(model),
        stream=fields.get("stream", "").lower() == "true",
        fields={},
        input_tokens_estimate=0,
        form=form,
        audio=Audio(milliseconds, exact),
    )
    return made, fields.get("security_key")
