// The API Tokens page works without this script, except its Copy buttons, which are hidden until the script runs.
"use strict";

async function copy(button) {
  const source = document.getElementById(button.dataset.copies);
  const message = document.getElementById("copied");
  try {
    // Browsers offer the clipboard only on HTTPS and on localhost.
    await navigator.clipboard.writeText(source.textContent);
    message.textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(source);
    message.textContent = "The text is selected. Press Ctrl+C (or ⌘C) to copy it.";
  }
}

for (const button of document.querySelectorAll("[data-copies]")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
}
