"""The playground in a browser: chats that stream, stop, fail and are kept, on desktops and phones."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import FilePayload, Page, Route, expect

from tests import machine
from tests.browser.conftest import DESKTOP, PHONE, Tab, Visit, accessible, user_called
from tests.deadline import until
from tests.server import Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

SECONDS = 30
AT_THE_END = """() => {
  const { scrollTop, scrollHeight, clientHeight } = document.querySelector("#log");
  return scrollTop > 0 && scrollHeight - scrollTop - clientHeight < 2;
}"""
NUMBERS = count(1)
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
REFUSED = "Failed to load resource"


@pytest.fixture(scope="module")
def pat(session_gateway: Gateway) -> Person:
    """Who plays; of a tenant of their own, in which some calls are limited."""
    [owner] = session_gateway.tenant("playing", ("pat",))
    limits = [{"scope": "model", "name": "gpt-other", "requests_per_minute": 1}]
    session_gateway.configure({"tenants": [{"slug": "playing", "limits": limits}]})
    user_called(session_gateway, "pat@playing.test")
    return owner


class Playground:
    """A page with it, ready to be talked to."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.page = tab.page
        expect(self.page.locator("#model")).to_be_enabled()

    def ask(self, words: str, model: str = "gpt-test") -> None:
        self.page.select_option("#model", model)
        self.page.fill("#words", words)
        self.page.click("#send")

    @property
    def answer(self) -> Any:
        return self.page.locator(".turn.assistant").last

    def ended(self) -> str:
        """What the answer says once it is there, with what it took."""
        expect(self.answer.locator("footer")).to_be_visible()
        text: str = self.answer.inner_text()
        return text


Play = Callable[..., Playground]


@pytest.fixture
def play(visit: Visit, pat: Person, upstream: ScriptedUpstream) -> Play:
    def opened(width: int = DESKTOP, path: str = "/playground/") -> Playground:
        return Playground(visit(path, width=width, user="pat@playing.test"))

    return opened


def conversation_of(page: Page) -> str:
    page.wait_for_url("**#conv_*")
    return urlsplit(page.url).fragment


def items_of(pat: Person, conversation: str) -> list[tuple[str, str]]:
    found = pat.http.get(f"/v1/conversations/{conversation}/items", params={"order": "asc"}).json()["data"]
    return [(item.get("role", item["type"]), item["content"][0].get("text", "")) for item in found]


def usage_of(gateway: Gateway, model: str) -> dict[str, Any]:
    return gateway.usage("model = %s", model)[-1]


def test_it_streams_word_by_word_and_keeps_what_was_said(
    play: Play, pat: Person, upstream: ScriptedUpstream, session_gateway: Gateway
) -> None:
    upstream.behave("gpt-test", "pace=50+words=24+reasoning=reasoning_content+reasoning_tokens=7")
    playground = play()
    page = playground.page
    playground.ask("Say **it** slowly")
    expect(playground.answer.locator(".markdown")).to_contain_text("w3")
    so_far = playground.answer.locator(".markdown").inner_text()
    assert so_far.startswith("w1 w2 w3")
    assert "w24" not in so_far
    expect(page.locator("#stop")).to_be_visible()
    told = playground.ended()
    assert "w22 w23 w24" in told
    assert "11 tokens in · 31 out, 7 of them reasoning" in told
    thoughts = playground.answer.locator(".reasoning")
    assert "Let me think." not in playground.answer.locator(".markdown").inner_text()
    expect(thoughts.locator(".thoughts")).to_be_hidden()
    thoughts.locator("summary").click()
    expect(thoughts.locator(".thoughts")).to_have_text("Let me think.")
    accessible(page)

    record = usage_of(session_gateway, "gpt-test")
    [key] = session_gateway.query(
        "SELECT name, playground FROM accounts_apikey WHERE id = %s", record["api_key_id"]
    )
    assert (record["status"], key["name"], bool(key["playground"])) == (
        "completed",
        "Playground (pat@playing.test)",
        True,
    )
    secrets = (
        "JSON.stringify([localStorage, sessionStorage, location.href, document.documentElement.outerHTML])"
    )
    assert "sk-" not in page.evaluate(secrets)

    conversation = conversation_of(page)
    page.reload()
    expect(page.locator(".turn.assistant .markdown")).to_contain_text("w24")
    expect(page.locator(".turn.user .bubble")).to_have_text("Say **it** slowly")
    expect(page.locator("#chat-list .open[aria-current]")).to_have_text("Say **it** slowly")
    playground.ask("And again")
    playground.ended()
    asked = upstream.call("gpt-test").document["messages"]
    assert [message["role"] for message in asked] == ["user", "assistant", "user"]
    assert [who for who, _ in items_of(pat, conversation)] == ["user", "reasoning", "assistant"] * 2

    row = page.locator("#chat-list li").first
    row.locator("summary").click()
    row.get_by_role("button", name="Rename").click()
    page.locator("#chat-list input").fill("<b>Slow</b> words")
    page.keyboard.press("Enter")
    expect(page.locator("#chat-list .open").first).to_have_text("<b>Slow</b> words")
    assert pat.http.get(f"/v1/conversations/{conversation}").json()["metadata"] == {
        "title": "<b>Slow</b> words"
    }
    page.click("#new-chat")
    expect(page.locator(".turn")).to_have_count(0)
    page.locator("#chat-list .open").first.click()
    expect(page.locator(".turn")).to_have_count(4)
    row = page.locator("#chat-list li").first
    row.locator("summary").click()
    row.get_by_role("button", name="Delete").click()
    row.get_by_role("button", name="Delete it?").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.locator("#chat-list .open", has_text="Slow")).to_have_count(0)
    assert pat.http.get(f"/v1/conversations/{conversation}").status_code == 404


def test_it_stops_and_answers_once_more(
    play: Play, pat: Person, upstream: ScriptedUpstream, session_gateway: Gateway
) -> None:
    upstream.behave("gpt-test", "pace=40+words=200+reasoning=reasoning_content")
    playground = play()
    page = playground.page
    playground.ask("Go on and on")
    expect(playground.answer.locator(".markdown")).to_contain_text("w3")
    page.click("#stop")
    told = playground.ended()
    assert "Stopped" in told
    assert "w3" in told
    assert upstream.ended("gpt-test").ending == "left"
    conversation = conversation_of(page)
    expect(page.locator("#chat-list .open").first).to_have_text("Go on and on")
    page.wait_for_function("document.querySelector('#keeping').classList.contains('hidden')")
    upstream.behave("gpt-test", "words=4")
    playground.answer.get_by_role("button", name="Retry").click()
    expect(page.locator(".turn.assistant")).to_have_count(1)
    assert "w1 w2 w3 w4" in playground.ended()
    records = session_gateway.usage("model = %s", "gpt-test")[-2:]
    assert [record["status"] for record in records] == ["cancelled", "completed"]
    page.locator(".turn.user").hover()
    page.get_by_role("button", name="Edit").click()
    expect(page.locator("#words")).to_have_value("Go on and on")
    page.fill("#words", "Be brief")
    page.keyboard.press("Enter")
    assert "w4" in playground.ended()
    page.reload()
    expect(page.locator(".turn.user .bubble")).to_have_text("Be brief")
    assert items_of(pat, conversation) == [("user", "Be brief"), ("assistant", "w1 w2 w3 w4")]


def test_it_says_in_words_what_went_wrong_and_keeps_what_there_was(
    play: Play, pat: Person, upstream: ScriptedUpstream
) -> None:
    playground = play()
    page, tab = playground.page, playground.tab
    tab.expected.append(REFUSED)
    trouble = page.locator(".turn.last .trouble")

    upstream.behave("gpt-test", "words=9+error_after=5")
    playground.ask("Fail")
    expect(trouble).to_contain_text("The upstream broke down.")
    assert "w1 w2 w3 w4" in playground.ended()

    upstream.behave("gpt-test", "words=9+cut=4")
    playground.ask("Break")
    expect(trouble).to_contain_text("The answer broke off")
    assert "w1 w2" in playground.ended()
    expect(page.locator(".turn.assistant .trouble:visible")).to_have_count(2)
    accessible(page)

    upstream.behave("gpt-test", "status=503")
    playground.ask("Refuse")
    expect(trouble).to_contain_text("The model's server failed")

    playground.ask("Once", "gpt-other")
    expect(playground.answer.locator(".markdown")).to_contain_text("w5")
    playground.ask("Twice", "gpt-other")
    expect(trouble).to_contain_text("Too many requests")
    expect(trouble).to_contain_text("You can try again in")
    expect(playground.answer.get_by_role("button", name="Retry")).to_be_disabled()

    page.context.set_offline(True)
    playground.ask("Anybody there?")
    expect(trouble).to_contain_text("The connection was lost")
    expect(page.locator("#keeping")).to_contain_text("not being saved")
    page.context.set_offline(False)
    upstream.behave("gpt-test", "words=3")
    playground.answer.get_by_role("button", name="Retry").click()
    assert "w1 w2 w3" in playground.ended()
    expect(page.locator("#keeping")).to_be_hidden()
    conversation = conversation_of(page)
    kept = [("user", "Anybody there?"), ("assistant", "w1 w2 w3")]
    until(lambda: items_of(pat, conversation)[-2:] == kept, seconds=5, what="what could not be kept before")


def test_it_sends_images_and_settings_to_the_upstream(play: Play, upstream: ScriptedUpstream) -> None:
    playground = play()
    page = playground.page
    page.set_input_files("#files", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"words"})
    expect(page.locator("#composer-trouble")).to_contain_text("notes.txt is no PNG")
    picture: FilePayload = {"name": "cat.png", "mimeType": "image/png", "buffer": PNG}
    page.set_input_files("#files", [picture, picture])
    expect(page.locator("#images img")).to_have_count(2)
    page.get_by_role("button", name="Remove image 1").click()
    expect(page.locator("#images img")).to_have_count(1)
    page.fill("#system", "You know cats.")
    page.fill("#temperature", "0.3")
    page.select_option("#effort", "low")
    page.uncheck("#shows-reasoning")
    upstream.behave("gpt-test", "words=2+reasoning=reasoning_content")
    playground.ask("What is it?")
    playground.ended()
    expect(playground.answer.locator(".reasoning")).to_be_hidden()
    asked = upstream.call("gpt-test").document
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    image = {"type": "image_url", "image_url": {"url": url}}
    assert asked["messages"] == [
        {"role": "system", "content": "You know cats."},
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]},
    ]
    assert (asked["temperature"], asked["reasoning_effort"]) == (0.3, "low")
    conversation_of(page)
    page.wait_for_load_state("networkidle")
    page.reload()
    expect(page.locator(".bubble img")).to_have_attribute("src", url)
    expect(page.locator("#system")).to_have_value("You know cats.")
    expect(page.locator("#temperature")).to_have_value("0.3")


def test_it_copies_calls_that_run_where_they_are_pasted(play: Play, pat: Person) -> None:
    machine.need("curl", "apt-get install curl")
    playground = play()
    page = playground.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.select_option("#model", "demo")
    page.fill("#words", 'It\'s "quoted" $HOME `id`')
    for language in ("curl", "python", "node"):
        page.click(f"[data-copy-as={language}]")
        expect(page.locator(f"[data-copy-as={language}]")).to_have_text("Copied")
        code: str = page.evaluate("navigator.clipboard.readText()")
        assert "TOLLGATE_API_KEY" in code
        assert "sk-" not in code
        if language == "curl":
            environment = {**os.environ, "TOLLGATE_API_KEY": pat.api_key, "NO_PROXY": "*"}
            ran = subprocess.run(
                ["sh", "-c", code],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
                timeout=SECONDS,
            )
            assert "built-in demo model" in spoken(ran.stdout)


def spoken(stream: str) -> str:
    chunks = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


HOSTILE = """
# Title <script>window.ran = 1</script>

<img src="https://spy.test/a.png" onerror="window.ran = 1"> <style>body { display: none }</style>
<iframe srcdoc="<script>parent.ran = 1</script>"></iframe><svg onload="window.ran = 1">

![pixel](https://spy.test/b.png) ![x](javascript:window.ran=1 "y") [go](javascript:window.ran=1)
[d](data:text/html,x)
[ok](https://example.com "title\\" onmouseover=window.ran=1") <https://auto.test/> [here](/accounts/logout/)

```html"onclick=window.ran=1
</code></pre><script>window.ran = 1</script>
```

<form action="https://spy.test/"><input name=csrf_token id=words><button>x</button></form>
<a href="javascript:window.ran=1" id="send">x</a>
<math><mtext><table><mglyph><style><img src=x onerror=window.ran=1>

| a | b |
|---|---|
| <b onclick=window.ran=1>x</b> | `<i>` |

- [x] done
"""
# Draws it in pieces, and then in one; what stays, and whether both look the same.
DRAWN = """async (text) => {
  const { GrowingMarkdown } = await import("/static/gateway/playground/markdown.js");
  const frame = () => new Promise(requestAnimationFrame);
  const [grown, whole] = [0, 1].map(() => document.createElement("div"));
  document.querySelector("#turns").append(grown, whole);
  new GrowingMarkdown(whole).end(text);
  const growing = new GrowingMarkdown(grown);
  for (let end = 1; end <= text.length; end += 37) {
    growing.grow(text.slice(0, end));
    await frame();
  }
  growing.grow(text);
  const settled = () => grown.innerHTML.replace("<!---->", "") === whole.innerHTML;
  for (let frames = 0; frames < 200 && !settled(); frames += 1) await frame();
  const before = settled();
  growing.end(text);
  const all = [...whole.querySelectorAll("*")];
  const drawn = {
    same: before && grown.innerHTML === whole.innerHTML,
    tags: [...new Set(all.map((element) => element.localName))],
    attributes: [...new Set(all.flatMap((element) => element.getAttributeNames()))],
    links: [...whole.querySelectorAll("a")].map((a) => [a.getAttribute("href"), a.rel, a.target]),
    text: whole.innerText,
  };
  grown.remove();
  whole.remove();
  return drawn;
}"""


def test_it_shows_what_models_write_and_lets_none_of_it_do_anything(play: Play, pat: Person) -> None:
    title = "<img src=x onerror=window.ran=1>"
    made = pat.http.post("/v1/conversations", json={"metadata": {"title": title}})
    playground = play()
    page = playground.page
    elsewhere: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url))
    expect(page.locator("#chat-list .open", has_text=title)).to_have_count(1)

    drawn = page.evaluate(DRAWN, HOSTILE)
    assert drawn["same"]
    assert set(drawn["tags"]) <= {
        *(
            "h1",
            "p",
            "a",
            "code",
            "pre",
            "div",
            "span",
            "button",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
        ),
        *("ul", "li", "br"),
    }
    assert set(drawn["attributes"]) <= {"href", "rel", "target", "class", "type", "data-copies", "tabindex"}
    hrefs = {href for href, _, _ in drawn["links"] if href is not None}
    assert hrefs == {"https://spy.test/b.png", "https://example.com", "https://auto.test/"}
    assert {(rel, target) for _, rel, target in drawn["links"]} == {
        ("noopener noreferrer nofollow", "_blank")
    }
    assert "<script>window.ran = 1</script>" in drawn["text"]
    assert "pixel (not loaded)" in drawn["text"]
    assert "☑ done" in drawn["text"]

    model = "\"><script>window.ran=1</script><img src='https://spy.test/c.png' onerror=window.ran=1>"
    page.route("**/v1/models", lambda route: fulfil(route, {"object": "list", "data": [{"id": model}]}))
    page.route("**/v1/chat/completions", lambda route: answer(route, HOSTILE))
    page.reload()
    expect(page.locator("#model")).to_have_value(model)
    playground.ask(HOSTILE, model)
    expect(playground.answer.locator("header")).to_have_text(model)
    expect(playground.answer.locator("h1")).to_contain_text("<script>")
    expect(playground.answer.locator(".code button")).to_have_text("Copy")
    accessible(page)
    assert page.evaluate("window.ran") is None
    assert {urlsplit(url).netloc for url in elsewhere} == {f"127.0.0.1:{playground.tab.gateway.port}"}
    pat.http.delete(f"/v1/conversations/{made.json()['id']}")


def fulfil(route: Route, document: object) -> None:
    route.fulfill(status=200, content_type="application/json", body=json.dumps(document))


def answer(route: Route, text: str) -> None:
    chunk = json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]})
    route.fulfill(status=200, content_type="text/event-stream", body=f"data: {chunk}\n\ndata: [DONE]\n\n")


def test_it_works_on_a_phone(play: Play, upstream: ScriptedUpstream) -> None:
    upstream.behave("gpt-test", "words=400")
    playground = play(PHONE)
    page = playground.page
    expect(page.locator("#settings")).to_be_hidden()
    page.get_by_role("button", name="Settings").click()
    page.fill("#system", "Be kind.")
    accessible(page)
    page.keyboard.press("Escape")
    expect(page.locator("#settings")).to_be_hidden()
    playground.ask(f"Speak to a phone {next(NUMBERS)}")
    assert "w400" in playground.ended()
    page.wait_for_function(AT_THE_END)
    page.evaluate("document.querySelector('#log').scrollTop = 0")
    page.get_by_role("button", name="To the latest").click()
    expect(page.locator("#latest")).to_be_hidden()
    assert upstream.call("gpt-test").document["messages"][0] == {"role": "system", "content": "Be kind."}
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
    accessible(page)
    page.get_by_role("button", name="Chats").click()
    expect(page.locator("#chat-list .open[aria-current]")).to_contain_text("Speak to a phone")
    accessible(page)
    page.get_by_role("button", name="New chat").click()
    expect(page.locator("#chats")).to_be_hidden()
    expect(page.locator("#welcome")).to_be_visible()


def test_it_is_for_people_who_sign_in(visit: Visit, pat: Person) -> None:
    tab = visit("/readyz")
    answer = tab.page.request.get(f"{tab.gateway.url}/playground/", max_redirects=0)
    assert answer.status == 302
    assert "next=/playground/" in answer.headers["location"]
