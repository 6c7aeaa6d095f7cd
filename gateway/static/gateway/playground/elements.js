// The page's elements, found and made. What is given as text is never read as anything else.

export function found(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`There is no #${id}.`);
  return element;
}

export function make(tag, properties = {}, ...children) {
  const { dataset = {}, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

export function show(element, isShown) {
  element.classList.toggle("hidden", !isShown);
}

// Copies, and says so on the button for a moment.
export async function copy(text, button) {
  const before = (button.dataset.label ??= button.textContent);
  let told = "Copied";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    told = copiedByHand(text) ? "Copied" : "Not allowed";
  }
  button.textContent = told;
  setTimeout(() => {
    button.textContent = before;
  }, 1500);
}

// Over plain HTTP a page has no clipboard of the newer kind.
function copiedByHand(text) {
  const field = make("textarea", { value: text, className: "unseen", ariaHidden: "true" });
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  return copied;
}
