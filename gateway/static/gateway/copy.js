// Buttons that copy the text of another element: <button data-copies="its id">.

const SAID_MS = 2000;

function select(node) {
  getSelection().selectAllChildren(node);
}

async function copy(button) {
  const node = document.getElementById(button.dataset.copies);
  const label = button.dataset.label ?? (button.dataset.label = button.textContent);
  try {
    await navigator.clipboard.writeText(node.textContent);
    button.textContent = "Copied";
  } catch {
    // Browsers copy only from pages that came over HTTPS, or from this machine.
    select(node);
    button.textContent = "Selected: copy it with the keyboard";
  }
  setTimeout(() => (button.textContent = label), SAID_MS);
}

for (const button of document.querySelectorAll("button[data-copies]")) {
  button.addEventListener("click", () => copy(button));
}
