// The page while it is open: parts arrive as they change, and people act.

import { refuse, takeActs } from "./acts.js";
import { takeLog } from "./logs.js";
import { place, tellTimes } from "./parts.js";
import { keepProof, logIn, logOut } from "./session.js";
import { follow } from "./streams.js";
import { takeUploads } from "./uploads.js";

const link = document.getElementById("link");
const latest = new Map();

function show(news) {
  for (const [name, html] of Object.entries(news)) {
    latest.set(name, html);
    const part = place(html);
    if (!part) continue;
    tellTimes(part);
    if (part.dataset.title) document.title = `${part.dataset.title} · ATOLL Deployment Server`;
  }
}

function tell(state, error) {
  if (error?.status === 401) return logIn();
  const isCrowded = error?.status === 429;
  if (state === "lost" && link.dataset.state === "lost") return; // since then
  link.dataset.state = state;
  const time = new Date().toLocaleTimeString([], { hourCycle: "h23" });
  if (state === "live") link.textContent = "live";
  else if (state === "lost") link.textContent = isCrowded ? `too many look on; as of ${time}` : `no connection since ${time}`;
  else link.textContent = `as of ${time}`;
  if (state === "over" && error) refuse(error.message);
}

keepProof();
tellTimes(document);
takeActs(() => show(Object.fromEntries(latest)));
takeUploads();
takeLog();
document.getElementById("log-out")?.addEventListener("click", logOut);
follow(link.dataset.live, { event: (kind, data) => kind === "parts" && show(JSON.parse(data)), state: tell });
