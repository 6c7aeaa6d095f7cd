// What went wrong, and what an answer took, in words. Pure.

const TITLES = {
  network: "The connection was lost",
  cut: "The answer broke off",
  unreadable: "The answer cannot be read",
  signed_out: "You are signed out",
  rate_limit_exceeded: "Too many requests",
  insufficient_quota: "The budget is spent",
  budget_busy: "The budget is in use",
  model_not_found: "There is no such model for you",
  model_not_allowed: "This model is not for you",
  model_unpriced: "This model has no price",
  upstream_unreachable: "The model cannot be reached",
  upstream_timeout: "The model took too long",
  upstream_truncated: "The answer broke off",
  upstream_malformed: "The model's answer cannot be read",
  upstream_error: "The model's server failed",
  request_too_large: "This is too much at once",
  history_too_large: "This chat has become too long",
  shutdown: "The gateway restarts",
  database_unavailable: "The gateway is not well",
  internal_error: "The gateway made a mistake",
};

const ADVICE = {
  network: "Check your connection, and try again.",
  signed_out: "Sign in to go on. What you see here stays until you leave the page.",
  insufficient_quota: "Ask an owner or an admin for more, or wait until its period is over.",
};

// Whether asking for the same once more may help.
const FINAL = new Set(["signed_out", "insufficient_quota", "model_unpriced", "model_not_allowed", "request_too_large"]);

// An error is `{status, code, message, retryAfterSeconds, midway}`; all but the code may be missing.
export function trouble(error) {
  const title = TITLES[error.code] ?? otherTitle(error);
  const told = [error.message ?? "", ADVICE[error.code] ?? ""].filter(Boolean).join(" ");
  const waits = Number.isFinite(error.retryAfterSeconds) ? Math.max(0, Math.ceil(error.retryAfterSeconds)) : 0;
  return { title, text: told, waitSeconds: waits, mayRetry: !FINAL.has(error.code) };
}

function otherTitle(error) {
  if (error.midway) return TITLES.cut;
  return error.status === 429 ? TITLES.rate_limit_exceeded : "That did not work";
}

export function countdown(seconds) {
  if (seconds <= 0) return "You can try again now.";
  if (seconds < 90) return `You can try again in ${seconds} s.`;
  return `You can try again in ${Math.ceil(seconds / 60)} minutes.`;
}

// How an answer ended, where that is not as one expects; `finish` is the API's word for it.
export function ending({ text, finish, stopped, error }) {
  if (stopped) return "Stopped";
  if (finish === "length") return "Ended at the greatest length that is allowed";
  if (finish === "content_filter") return "Ended by the provider's content filter";
  return text === "" && !error ? "The model said nothing" : "";
}

// `usage` as the API reports it, or null; times in milliseconds, the first null where nothing came.
export function figures({ usage, firstMilliseconds, totalMilliseconds }) {
  const told = [];
  if (usage) {
    told.push(`${number(usage.prompt_tokens)} tokens in`);
    const thought = usage.completion_tokens_details?.reasoning_tokens;
    const thoughts = thought > 0 ? `, ${number(thought)} of them reasoning` : "";
    told.push(`${number(usage.completion_tokens)} out${thoughts}${usage.estimated === true ? " (estimated)" : ""}`);
  }
  told.push(seconds(totalMilliseconds));
  if (firstMilliseconds !== null) told.push(`first word after ${seconds(firstMilliseconds)}`);
  return told.join(" · ");
}

function number(count) {
  return Number.isFinite(count) ? count.toLocaleString("en-US") : "?";
}

export function seconds(milliseconds) {
  if (milliseconds < 10_000) return `${(milliseconds / 1000).toFixed(1)} s`;
  const whole = Math.round(milliseconds / 1000);
  return whole < 90 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
