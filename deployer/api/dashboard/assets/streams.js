// Server-sent events over fetch: an EventSource sends no headers, and hides why it was refused.

import { headers, refusal } from "./session.js";

const LONGEST_PAUSE_MS = 15_000;
const LONGEST_SILENCE_MS = 25_000; // the server breaks it after 10 s: whoever is silent longer is gone

/**
 * Follow a stream while the page is looked at, from where it broke off, until it ends or is ended.
 *
 * @param {string} path
 * @param {{event: Function, state: Function}} told `event(kind, data)` of what arrives, and
 *   `state(word, error)` of how the stream is: live, lost, or over.
 * @returns {() => void} Ends it.
 */
export function follow(path, told) {
  const ended = new AbortController();
  run(path, told, ended.signal);
  return () => ended.abort();
}

async function run(path, told, ended) {
  let lastId = "";
  let pause = 500;
  while (!ended.aborted) {
    await looked(ended);
    const attempt = new AbortController();
    let silence = 0;
    const listen = () => {
      clearTimeout(silence);
      silence = setTimeout(() => attempt.abort(new Error("silent")), LONGEST_SILENCE_MS);
    };
    const leave = () => document.hidden && attempt.abort();
    document.addEventListener("visibilitychange", leave);
    const signal = AbortSignal.any([ended, attempt.signal]);
    try {
      listen();
      const answer = await fetch(path, {
        signal,
        headers: { ...headers(), Accept: "text/event-stream", ...(lastId && { "Last-Event-ID": lastId }) },
      });
      if (!answer.ok) throw refusal(answer.status, await answer.json().catch(() => ({})));
      told.state("live");
      pause = 500;
      for await (const event of events(answer.body, listen)) {
        if (event.id) lastId = event.id;
        if (event.kind === "problem") {
          const problem = JSON.parse(event.data);
          throw refusal(problem.status, problem);
        }
        if (event.data !== "") told.event(event.kind, event.data);
        if (event.kind === "end") return told.state("over");
      }
    } catch (error) {
      if (ended.aborted) return;
      // Refused for good: asking again would change nothing.
      if ([401, 403, 404].includes(error.status)) return told.state("over", error);
      if (!document.hidden) told.state("lost", error);
    } finally {
      clearTimeout(silence);
      document.removeEventListener("visibilitychange", leave);
    }
    if (!document.hidden) {
      await new Promise((done) => setTimeout(done, pause));
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    }
  }
}

/** Wait until somebody looks at the page: a stream holds a place that others may need. */
function looked(ended) {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => {
    document.addEventListener("visibilitychange", () => done(), { once: true, signal: ended });
    ended.addEventListener("abort", () => done(), { once: true });
  });
}

/** Give the events in a body, as the HTML standard reads them (9.2.6), and tell of every byte. */
async function* events(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { kind: "message", lines: [], id: "" };
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (event.lines.length || event.id) {
          yield { kind: event.kind, data: event.lines.join("\n"), id: event.id };
        }
        event = { kind: "message", lines: [], id: "" };
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const text = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "event") event.kind = text;
      else if (field === "data") event.lines.push(text);
      else if (field === "id") event.id = text;
    }
  }
}
