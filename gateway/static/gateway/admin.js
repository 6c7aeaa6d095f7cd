// The admin's pages: buttons that copy what stands in another element, and what the theme leaves to the mouse.

"use strict";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copies]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copies);
  button.textContent = (await copy(source)) ? "Copied" : "Press Ctrl+C";
});

// Browsers keep the clipboard from pages that came over plain HTTP from another machine: the text is at least chosen.
async function copy(source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(source);
    return document.execCommand("copy");
  }
}

// What opens and closes the menus are no buttons in the theme (django-unfold 0.91).
const OPENERS = '[x-on\\:click*="sidebar"], [x-on\\:click^="openUserLinks"]';

document.addEventListener("DOMContentLoaded", () => {
  document.getElementById("main")?.setAttribute("role", "main");
  for (const opener of document.querySelectorAll(OPENERS)) {
    opener.setAttribute("role", "button");
    opener.tabIndex = 0;
    if (opener.matches(".material-symbols-outlined")) opener.setAttribute("aria-label", "Menu");
  }
});

document.addEventListener("keydown", (event) => {
  if (!["Enter", " "].includes(event.key) || !event.target.matches(OPENERS)) return;
  event.preventDefault();
  event.target.click();
});

// Nor have the fields that look things up a name. They are made some time after the page, in the place of others.
document.addEventListener("DOMContentLoaded", () => {
  const fields = document.querySelectorAll("select.admin-autocomplete");
  if (!fields.length) return;
  new MutationObserver(() => fields.forEach(name)).observe(document.body, { childList: true, subtree: true });
});

function name(field) {
  const parts = field.nextElementSibling?.querySelectorAll("[role=combobox], [role=textbox]") ?? [];
  for (const part of parts) part.setAttribute("aria-label", field.labels[0]?.textContent.trim() ?? field.name);
}
