// Packages that are chosen or dropped: sent one after another, with their progress.

import { headers, refusal } from "./session.js";

/** Take packages in, where the page has a place for them. */
export function takeUploads() {
  const choice = document.getElementById("package");
  if (!choice) return;
  let last = Promise.resolve();
  const take = (files) => {
    for (const file of files) {
      const line = new Line(file.name);
      last = last.then(() => deploy(file, line));
    }
  };
  choice.addEventListener("change", () => {
    take([...choice.files]);
    choice.value = ""; // so that the same file can be chosen again
  });
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (drag) => {
      if (!drag.dataTransfer?.types.includes("Files")) return;
      drag.preventDefault();
      document.body.classList.add("is-over");
    });
  }
  document.addEventListener("dragleave", (drag) => {
    if (!drag.relatedTarget) document.body.classList.remove("is-over");
  });
  document.addEventListener("drop", (drop) => {
    document.body.classList.remove("is-over");
    if (!drop.dataTransfer?.files.length) return;
    drop.preventDefault();
    take([...drop.dataTransfer.files]);
  });
}

/** What is said of one package. */
class Line {
  constructor(name) {
    this.item = document.createElement("li");
    const title = document.createElement("b");
    title.textContent = name;
    this.bar = document.createElement("progress");
    this.bar.max = 1;
    this.bar.value = 0;
    this.bar.setAttribute("aria-label", `Upload of ${name}`);
    this.words = document.createElement("span");
    this.words.textContent = "waits";
    this.item.append(title, this.bar, this.words);
    document.getElementById("uploads").prepend(this.item);
  }

  progress(sent, total) {
    this.bar.value = total ? sent / total : 1;
    this.words.textContent = sent < total ? `${Math.floor((100 * sent) / total)} % sent` : "is checked";
  }

  succeed(words, agent) {
    this.bar.remove();
    this.words.textContent = words;
    const link = document.createElement("a");
    link.href = `/?agent=${encodeURIComponent(agent)}`;
    link.textContent = agent;
    this.words.prepend(link, " ");
  }

  fail(error) {
    this.bar.remove();
    this.words.className = "problem";
    this.words.textContent = error.message;
    const problems = error.problem?.errors ?? [];
    if (!problems.length) return;
    const list = document.createElement("ul");
    for (const { where, message } of problems) {
      const one = document.createElement("li");
      one.textContent = `${where}: ${message}`;
      list.append(one);
    }
    this.item.append(list);
  }
}

/** Send a package; the deployment that comes of it is shown by the page itself. */
function deploy(file, line) {
  return new Promise((done) => {
    const request = new XMLHttpRequest(); // fetch tells nothing of an upload's progress
    request.open("POST", "/v1/deployments");
    request.setRequestHeader("Content-Type", "application/zip");
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.addEventListener("progress", (sent) => line.progress(sent.loaded, sent.total));
    request.addEventListener("load", () => {
      const answer = request.response ?? {};
      if (request.status >= 300) line.fail(refusal(request.status, answer));
      else if (request.status === 202) line.succeed("is being deployed.", answer.agent ?? answer.name);
      else line.succeed("runs this very package already.", answer.agent ?? answer.name);
    });
    request.addEventListener("error", () => line.fail(new Error("The upload broke off.")));
    request.addEventListener("loadend", done);
    request.send(file);
  });
}
