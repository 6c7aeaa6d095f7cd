// The admin's pages: buttons that copy what stands in another element.

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
