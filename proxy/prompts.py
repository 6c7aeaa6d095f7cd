"""A tenant's system prompt, put before what its callers send. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec

from accounts.keys import Caller
from proxy.call import Call, string

_NOW = re.compile(r"\{now(?::([^{}]*))?\}")
_DEFAULT_FORMAT = "%Y-%m-%d %H:%M"


def render(prompt: str, now: datetime) -> str:
    """The prompt with `{now}` and `{now:%Y-%m-%d}` filled in (strftime); other braces are text."""
    return _NOW.sub(lambda match: now.strftime(match[1] or _DEFAULT_FORMAT), prompt)


def prompted(call: Call, caller: Caller, now: datetime) -> Call:
    """The call, begun as its caller's tenant wants. Raises InvalidBody."""
    if not caller.system_prompt:
        return call
    return with_system_prompt(call, render(caller.system_prompt, now.astimezone(ZoneInfo(caller.timezone))))


def with_system_prompt(call: Call, prompt: str) -> Call:
    """A chat with one system message more, before all others; a Response with its instructions begun so.

    Other calls have no place for one. Raises InvalidBody.
    """
    if call.endpoint == "chat.completions":
        message = msgspec.json.encode({"role": "system", "content": prompt})
        rest = bytes(call.fields["messages"])[1:].lstrip()
        messages = b"[" + message + (b"" if rest.startswith(b"]") else b",") + rest
        return replace(call, fields={**call.fields, "messages": msgspec.Raw(messages)})
    if call.endpoint == "responses":
        given = string(call.fields, "instructions")
        joined = f"{prompt}\n\n{given}" if given else prompt
        return replace(call, fields={**call.fields, "instructions": msgspec.Raw(msgspec.json.encode(joined))})
    return call
