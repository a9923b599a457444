// A log that is followed: lines are text, whatever is in them.

import { follow } from "./streams.js";

const MOST_LINES = 2000;
const NEAR_END = 40;

/** Show the log that the page has a place for. */
export function takeLog() {
  const log = document.getElementById("log");
  if (!log) return;
  const choices = [...document.querySelectorAll("button[data-stream]")];
  const box = document.getElementById("follow");
  let end = () => {};

  const show = (stream) => {
    end();
    log.replaceChildren();
    for (const each of choices) each.setAttribute("aria-pressed", String(each.dataset.stream === stream));
    end = follow(`${log.dataset.log}?follow=1&tail=200&stream=${stream}`, {
      event: (kind, data) => add(log, box, kind, data),
      state: (word, error) => error && word === "over" && note(log, box, error.message),
    });
  };
  for (const each of choices) each.addEventListener("click", () => show(each.dataset.stream));
  log.addEventListener("scroll", () => {
    box.checked = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END;
  });
  box.addEventListener("change", () => box.checked && toEnd(log));
  show(choices.find((each) => each.getAttribute("aria-pressed") === "true").dataset.stream);
}

function add(log, box, kind, data) {
  if (kind === "message") return append(log, box, data.split("\n").map((line) => document.createTextNode(`${line}\n`)));
  const told = JSON.parse(data);
  if (kind === "release") note(log, box, `release ${told.release}`);
  else note(log, box, told.message ?? told.reason ?? kind);
}

function note(log, box, words) {
  const line = document.createElement("span");
  line.className = "note";
  line.textContent = `— ${words}\n`;
  append(log, box, [line]);
}

function append(log, box, nodes) {
  const stays = box.checked;
  log.append(...nodes);
  while (log.childNodes.length > MOST_LINES) log.firstChild.remove();
  if (stays) toEnd(log);
}

function toEnd(log) {
  log.scrollTop = log.scrollHeight;
}
