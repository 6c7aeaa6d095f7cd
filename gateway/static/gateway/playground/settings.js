// What the person wants of the model; remembered in this browser, but for the words of the system prompt.

import { found } from "./elements.js";
import { preferred } from "./models.js";

const REMEMBERED = "tollgate.playground";

export class Settings {
  constructor() {
    this.fields = {
      model: found("model"),
      system: found("system"),
      temperature: found("temperature"),
      effort: found("effort"),
      showsReasoning: found("shows-reasoning"),
    };
    this.#restore();
    for (const field of Object.values(this.fields)) field.addEventListener("change", () => this.#remember());
  }

  read() {
    const { model, system, temperature, effort, showsReasoning } = this.fields;
    return {
      model: model.value,
      system: system.value,
      temperature: temperature.value === "" || !temperature.validity.valid ? null : temperature.valueAsNumber,
      effort: effort.value,
      showsReasoning: showsReasoning.checked,
    };
  }

  // Whether they may be sent; what may not is shown as such, and said.
  check() {
    return this.fields.temperature.reportValidity();
  }

  // The models that there are; `operators` is what calls without a model get.
  offer(names, operators = null) {
    const { model } = this.fields;
    model.replaceChildren(...names.map((name) => new Option(name, name)));
    model.disabled = names.length === 0;
    model.value = preferred(names, { last: this.wanted, operators }) ?? "";
    if (names.length === 0) model.replaceChildren(new Option("No models", ""));
  }

  #restore() {
    const kept = remembered();
    const { temperature, effort, showsReasoning } = this.fields;
    this.wanted = kept.model;
    if (typeof kept.temperature === "number") temperature.valueAsNumber = kept.temperature;
    if ([...effort.options].some((option) => option.value === kept.effort)) effort.value = kept.effort;
    showsReasoning.checked = kept.showsReasoning !== false;
  }

  #remember() {
    const { model, temperature, effort, showsReasoning } = this.read();
    try {
      localStorage.setItem(REMEMBERED, JSON.stringify({ model, temperature, effort, showsReasoning }));
    } catch {
      // A browser that keeps nothing forgets these too.
    }
  }
}

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(REMEMBERED)) ?? {};
  } catch {
    return {};
  }
}
