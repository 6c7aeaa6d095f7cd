// An upstream's page in the admin: asks it through the management API whether it answers and which models it has,
// and makes models of the chosen. Everything that was said by others is put in as text.

const tools = () => document.getElementById("upstream-tools");

addEventListener("click", (event) => {
  const button = event.target.closest("#upstream-tools button[name]");
  if (button) during(button, button.name === "test" ? test : discover);
});

addEventListener("submit", (event) => {
  if (!event.target.closest("#upstream-tools")) return;
  event.preventDefault();
  during(event.submitter, adopt);
});

addEventListener("input", (event) => {
  if (!event.target.matches("#upstream-tools [data-filter]")) return;
  const wanted = event.target.value.toLowerCase();
  for (const row of tools().querySelectorAll("[data-models] li")) {
    row.hidden = !row.dataset.name.toLowerCase().includes(wanted);
  }
});

async function during(button, work) {
  button.disabled = true;
  say("Asking …");
  try {
    await work();
  } catch (error) {
    say(error.message);
  } finally {
    button.disabled = false;
  }
}

async function test() {
  tell(await ask("test/", "POST"));
}

async function discover() {
  const found = await ask("models/", "GET");
  tell(found);
  const list = tools().querySelector("[data-models]");
  list.replaceChildren(...found.models.map(choice));
  tools().querySelector("[data-found]").hidden = found.models.length === 0;
}

async function adopt() {
  const chosen = [...tools().querySelectorAll("[data-models] input:checked")].map((box) => box.value);
  if (!chosen.length) return say("Choose at least one.");
  const made = await ask("models/", "POST", { models: chosen });
  await discover();
  say(`${counted(made.models.length, "model")} and ${counted(made.routes.length, "route")} made.`);
}

function choice({ name, routed_from: names }) {
  const row = document.createElement("li");
  const label = row.appendChild(document.createElement("label"));
  const box = label.appendChild(document.createElement("input"));
  Object.assign(box, { type: "checkbox", value: name });
  row.dataset.name = name;
  label.append(" ", Object.assign(document.createElement("bdi"), { textContent: name }));
  if (names.length) label.append(` (asked for as ${names.join(", ")})`);
  return row;
}

function tell(probe) {
  const took = probe.milliseconds === null ? "" : ` It took ${probe.milliseconds} ms.`;
  const status = probe.status === null ? "" : ` Status ${probe.status}.`;
  say(`${probe.message}${status}${took}`, probe.well ? "well" : "ill");
}

function say(text, mood = "") {
  const said = tools().querySelector("[data-said]");
  said.textContent = text;
  said.dataset.said = mood;
}

function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

async function ask(path, method, body) {
  const headers = { "x-csrftoken": document.querySelector("[name=csrfmiddlewaretoken]").value };
  if (body) headers["content-type"] = "application/json";
  const answer = await fetch(tools().dataset.upstream + path, {
    method,
    headers,
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(30_000),
  });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error.message);
  return told;
}
