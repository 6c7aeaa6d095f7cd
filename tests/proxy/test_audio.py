"""Forms with sound in them."""

import io
import wave

import httpx
import pytest

from proxy.audio import FormError, duration_milliseconds, parse_form, rewrite_form

SOUND = bytes(range(256)) * 10 + b"\r\n--not-the-boundary\r\n"


def form_of(data: dict[str, str], file: bytes = SOUND) -> tuple[bytes, str]:
    request = httpx.Request("POST", "http://x", data=data, files={"file": ("a b.wav", file, "audio/wav")})
    return request.read(), request.headers["content-type"]


def silence(seconds: float) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(round(seconds * 32_000)))
    return out.getvalue()


def test_it_reads_the_fields_and_the_file() -> None:
    form = parse_form(*form_of({"model": "whisper-1", "language": "de"}))
    assert form.fields == {"model": "whisper-1", "language": "de"}
    assert form.file is not None
    assert (form.file.file_name, form.file.body) == ("a b.wav", SOUND)


def test_it_changes_a_field_and_leaves_the_rest_as_it_came() -> None:
    form = parse_form(*form_of({"model": "public", "security_key": "s3cret", "odd": "\u00fc"}))
    body, content_type = rewrite_form(form, {"model": "theirs", "security_key": None})
    again = parse_form(body, content_type)
    assert again.fields == {"model": "theirs", "odd": "\u00fc"}
    assert b"s3cret" not in body
    assert again.file == form.file


def test_it_adds_a_field_that_was_not_there() -> None:
    body, content_type = rewrite_form(parse_form(*form_of({})), {"model": "theirs"})
    assert parse_form(body, content_type).fields == {"model": "theirs"}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"", "multipart/form-data"),
        (b"", "multipart/form-data; boundary=x"),
        (b"garbage", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\na', "multipart/form-data; boundary=x"),
    ],
)
def test_what_is_no_form_is_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(FormError):
        parse_form(body, content_type)


def test_too_many_parts_are_refused() -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\na\r\n'
    with pytest.raises(FormError, match="64"):
        parse_form(part * 65 + b"--x--\r\n", "multipart/form-data; boundary=x")


def test_a_field_that_is_too_large_is_refused() -> None:
    with pytest.raises(FormError, match="model"):
        parse_form(*form_of({"model": "m" * 70_000}))


@pytest.mark.parametrize("seconds", [0.5, 2.0, 61.25])
def test_it_reads_how_long_a_sound_is(seconds: float) -> None:
    assert duration_milliseconds(silence(seconds), "a.wav") == (round(seconds * 1000), True)


@pytest.mark.parametrize("sound", [b"", b"RIFF", b"\x1a\x45\xdf\xa3" + bytes(1000), b"OggS" + bytes(50)])
def test_a_sound_that_cannot_be_read_is_told_from_its_size(sound: bytes) -> None:
    milliseconds, exact = duration_milliseconds(sound, "a.webm")
    assert exact is False
    assert milliseconds == -(-len(sound) * 1000 // 16_000)
