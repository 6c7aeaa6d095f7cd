/* Says in words what becomes of a passkey that was not used; what allauth's own script would only log. */

const sentences = {
  NotAllowedError: "Nothing was signed. Try again, or use another way.",
  InvalidStateError: "This device is there already.",
  SecurityError: "Passkeys need a host name and HTTPS, or localhost.",
  NotSupportedError: "This device cannot do that.",
};

document.addEventListener("allauth.error", (event) => {
  event.preventDefault();
  const problem = document.getElementById("passkey-problem");
  const name = event.detail.exception && event.detail.exception.name;
  problem.textContent = sentences[name] || "The passkey could not be asked for. Try again, or use another way.";
  problem.hidden = false;
});
