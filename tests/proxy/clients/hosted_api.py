"""A client of hosted-api, by requests: both of its upstreams, an image, a stream."""

import json
import os
from typing import Any

import requests

url = os.environ["BASE_URL"] + "/v1/chat/completions"


def ask(model: str, content: Any) -> str:
    body: Any = {"model": model, "messages": [{"role": "user", "content": content}]}
    answer = requests.post(url, json=body, timeout=30)
    answer.raise_for_status()
    return str(answer.json()["choices"][0]["message"]["content"])


print("chatkit:", ask("gpt-oss-20b", "Hello"))
print("ai sdk:", ask("gpt-4o-mini", "Hello"))
image = {"type": "image_url", "image_url": {"url": "https://a.test/2.png"}}
seen = json.loads(ask("gpt-4o", [{"type": "text", "text": "prompt"}, image]))
print("image:", seen[-1]["content"][-1]["type"])

body: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "tool"}], "stream": True}
said, ended = "", None
with requests.post(url, json=body, stream=True, timeout=30) as answer:
    for line in answer.iter_lines():
        if line.startswith(b"data: ") and line != b"data: [DONE]":
            choice = json.loads(line[6:])["choices"][0]
            said += choice["delta"].get("content") or ""
            ended = choice["finish_reason"] or ended
print("stream:", said.replace("\n", "|"), "ended:", ended)
