"""Forms with sound in them."""

import io
import struct
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


def test_it_takes_out_a_secret_that_was_sent_as_a_file() -> None:
    files = {"file": ("a.wav", SOUND), "security_key": ("key.txt", b"s3cret")}
    request = httpx.Request("POST", "http://x", files=files)
    form = parse_form(request.read(), request.headers["content-type"])
    body, _ = rewrite_form(form, {"security_key": None})
    assert b"s3cret" not in body


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"", "multipart/form-data"),
        (b"", "multipart/form-data; boundary=x"),
        (b"garbage", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\na', "multipart/form-data; boundary=x"),
        (b"", f"multipart/form-data; boundary={'x' * 300}"),
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


def flac(seconds: int) -> bytes:
    """Only the header: 16 kHz, mono, 16 bits (RFC 9639, section 8.2)."""
    packed = (16_000 << 44) | (15 << 36) | (16_000 * seconds)
    info = struct.pack(">HH6x", 4096, 4096) + packed.to_bytes(8, "big") + bytes(16)
    return b"fLaC" + b"\x80" + len(info).to_bytes(3, "big") + info


def mp3(frames: int) -> bytes:
    """Silent frames of 417 bytes and 1152 samples: MPEG-1 layer III, 128 kbit/s, 44.1 kHz."""
    return (b"\xff\xfb\x90\x00" + bytes(413)) * frames


def ogg(seconds: int) -> bytes:
    """A Vorbis identification header at 16 kHz, and a last page that says how many samples there were."""
    head = b"\x01vorbis" + struct.pack("<IBIiiiBB", 0, 1, 16_000, 0, 32_000, 0, 0xB8, 1)
    pages = [(2, 0, head), (4, 16_000 * seconds, b"")]
    return b"".join(
        struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, 1, number, 0, 1) + bytes([len(data)]) + data
        for number, (flags, granule, data) in enumerate(pages)
    )


def m4a(ticks: int, ticks_per_second: int = 1000) -> bytes:
    """Only what tells the length: ftyp, and moov with mvhd (ISO 14496-12, version 0)."""
    mvhd = _box(b"mvhd", struct.pack(">IIIII", 0, 0, 0, ticks_per_second, ticks) + bytes(80))
    return _box(b"ftyp", b"M4A \0\0\0\0M4A ") + _box(b"moov", mvhd)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


@pytest.mark.parametrize(
    ("sound", "name", "milliseconds"),
    [
        (flac(7), "a.flac", 7000),
        (ogg(3), "a.ogg", 3000),
        (m4a(5250), "a.m4a", 5250),
        (mp3(100), "a.mp3", 2612),
    ],
)
def test_it_knows_the_usual_formats(sound: bytes, name: str, milliseconds: int) -> None:
    read, exact = duration_milliseconds(sound, name)
    assert exact
    assert read == pytest.approx(milliseconds, rel=0.02)


def test_it_does_not_believe_a_length_that_no_file_could_have() -> None:
    forged = m4a(2**32 - 1, ticks_per_second=1)
    assert duration_milliseconds(forged, "a.m4a") == (-(-len(forged) * 1000 // 16_000), False)
