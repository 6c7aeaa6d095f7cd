"""A client of GPTOSS-Proxy, by OpenAI's SDK: a stream with reasoning, then a thread that goes on."""

import os

from openai import OpenAI

client = OpenAI(base_url=os.environ["BASE_URL"] + "/v1", api_key="dummy")
stream = client.chat.completions.create(
    model="gpt-oss-120b",
    messages=[{"role": "user", "content": "think"}],
    stream=True,
    extra_headers={"X-Reasoning-Effort": "high", "X-Show-Reasoning": "true"},
)
thoughts, said, ended = [], [], None
for chunk in stream:
    delta = chunk.choices[0].delta
    thoughts.append(getattr(delta, "reasoning_content", None) or "")
    said.append(delta.content or "")
    ended = chunk.choices[0].finish_reason or ended
print("thoughts:", "".join(thoughts).replace("\n", "|"))
print("said:", "".join(said), "ended:", ended)

raw = client.chat.completions.with_raw_response
begun = raw.create(
    model="gpt-oss-120b",
    messages=[{"role": "user", "content": "One"}],
    extra_headers={"X-GPTOSS-User-Id": "ada"},
)
thread, user = begun.headers["x-gptoss-thread-id"], begun.headers["x-gptoss-user-id"]
went_on = client.chat.completions.create(
    model="gpt-oss-120b",
    messages=[{"role": "user", "content": "count"}],
    extra_body={"metadata": {"gptoss_thread_id": thread, "gptoss_user_id": user}},
)
print("counted:", went_on.choices[0].message.content)
