// Which model a chat begins with, where nobody has chosen one. Pure.

// Names of models that do something else than talk, as OpenAI and others give them (their lists, 2026-11).
const OTHERS = /embed|whisper|transcri|tts|audio|realtime|dall-e|image|sora|moderation|rerank|babbage|davinci/i;
const CANNED = "demo";

// The one of `names` that was used last, else the operator's, else one that talks.
export function preferred(names, { last = null, operators = null } = {}) {
  const talking = names.filter((name) => !OTHERS.test(name));
  const found = [last, operators].find((name) => names.includes(name));
  return found ?? talking.find((name) => name !== CANNED) ?? talking[0] ?? names[0] ?? null;
}
