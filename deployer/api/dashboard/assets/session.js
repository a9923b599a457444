// How this page talks to its server: by the session's cookie, and the proof that it is this page.

const PROOF = "atoll-proof";

/** Keep the proof that the login left behind the #, where no server and no history sees it. */
export function keepProof() {
  const given = location.hash.match(/^#proof=([0-9a-f]{64})$/);
  if (!given) return;
  localStorage.setItem(PROOF, given[1]);
  history.replaceState(null, "", location.pathname + location.search);
}

export function headers() {
  const proof = localStorage.getItem(PROOF);
  return proof ? { "X-Session-Proof": proof } : {};
}

export function logIn() {
  localStorage.removeItem(PROOF);
  location.assign("/login");
}

export async function logOut() {
  await fetch("/login", { method: "DELETE" });
  logIn();
}

/** Send a request; give its answer's status, or throw an Error whose message says why not. */
export async function send(method, path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      body,
      headers: { ...headers(), ...(body ? { "Content-Type": "application/json" } : {}) },
    });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  if (answer.ok) return answer.status;
  throw refusal(answer.status, await answer.json().catch(() => ({})));
}

/** Make an error out of a problem document. */
export function refusal(status, problem) {
  let words = [problem.detail ?? `The server answered ${status}.`, problem.hint].filter(Boolean).join("; ");
  if (status === 401) words = "This page may only be looked at by now: log out and in again.";
  const error = new Error(words);
  return Object.assign(error, { status, problem });
}
