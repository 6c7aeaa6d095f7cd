// The call that a chat makes: what is asked, and with which headers. Pure.
//
// Settings are `model`, `system`, `temperature` (null: the model's own), `effort` ("": the model's own) and
// `showsReasoning`. A turn is `{role, text, images}`, its images data URLs.

export function chatBody(settings, turns) {
  const body = { model: settings.model, messages: messages(settings, turns) };
  if (settings.temperature !== null) body.temperature = settings.temperature;
  if (settings.effort !== "") body.reasoning_effort = settings.effort;
  return { ...body, stream: true, stream_options: { include_usage: true } };
}

export function chatHeaders(settings) {
  return settings.showsReasoning ? {} : { "X-Show-Reasoning": "false" };
}

function messages(settings, turns) {
  const system = settings.system.trim() === "" ? [] : [{ role: "system", content: settings.system }];
  const said = turns.filter((turn) => turn.text !== "" || turn.images.length > 0);
  return [...system, ...said.map((turn) => ({ role: turn.role, content: content(turn) }))];
}

function content(turn) {
  if (turn.images.length === 0) return turn.text;
  const text = turn.text === "" ? [] : [{ type: "text", text: turn.text }];
  return [...text, ...turn.images.map((url) => ({ type: "image_url", image_url: { url } }))];
}
