// The API Tokens page works without this, but for its Copy buttons, which are hidden until it runs.
"use strict";

async function copy(button) {
  const source = document.getElementById(button.dataset.copies);
  const said = document.getElementById("copied");
  try {
    // Not there where the page came by plain HTTP from another host (secure contexts only).
    await navigator.clipboard.writeText(source.textContent);
    said.textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(source);
    said.textContent = "It is selected now; press Ctrl+C (or ⌘C) to copy it.";
  }
}

for (const button of document.querySelectorAll("[data-copies]")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
}
