// Buttons that do something: each says in its data what it sends, and what is asked before.

import { send } from "./session.js";

const ACCEPTED = 202;
const READ_MS = 6000;
let forgetting = 0;

/** Say what was done. */
export function say(words) {
  const said = document.getElementById("said");
  document.getElementById("refused").replaceChildren();
  said.textContent = words;
  clearTimeout(forgetting);
  forgetting = setTimeout(() => said.replaceChildren(), READ_MS);
}

/** Say what could not be done; it stays until somebody has read it. */
export function refuse(words) {
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "Close";
  close.addEventListener("click", () => document.getElementById("refused").replaceChildren());
  document.getElementById("said").replaceChildren();
  document.getElementById("refused").replaceChildren(words, close);
}

/** Have every button with an act send it; `settled` is called when an answer is there. */
export function takeActs(settled) {
  document.addEventListener("click", async (click) => {
    const button = click.target.closest?.("button[data-act]");
    if (!button || button.getAttribute("aria-disabled") === "true") return;
    const { act, ask, why, verb, body, done, pending } = button.dataset;
    if (ask && !(await isWanted(ask, why, verb))) return;
    const [method, path] = act.split(" ");
    // Not `disabled`, which would take the focus away from whoever uses the keyboard.
    button.dataset.busy = "";
    button.setAttribute("aria-disabled", "true");
    try {
      const status = await send(method, path, body);
      // Not done yet, and nobody tells whether it will be: the page shows how it ends.
      say(status === ACCEPTED && pending ? pending : done);
    } catch (error) {
      refuse(error.message);
    }
    delete button.dataset.busy;
    button.removeAttribute("aria-disabled");
    settled();
  });
}

function isWanted(ask, why, verb) {
  const dialog = document.getElementById("ask");
  document.getElementById("ask-title").textContent = ask;
  document.getElementById("ask-why").textContent = why;
  document.getElementById("ask-verb").textContent = verb;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((answer) => {
    dialog.addEventListener("close", () => answer(dialog.returnValue === "yes"), { once: true });
  });
}
