// Parts of the page that arrive anew: what differs is put in place, and all else stays as it is,
// with its focus, its selection and what somebody has opened.

/** Put a part in place of the element with the same id. */
export function place(html) {
  const part = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
  const shown = part && document.getElementById(part.id);
  if (!shown) return null;
  liken(shown, part);
  return shown;
}

/** Show each moment below an element in the time zone of whoever looks. */
export function tellTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    const moment = new Date(time.dateTime);
    const isToday = moment.toDateString() === new Date().toDateString();
    time.textContent = isToday
      ? moment.toLocaleTimeString([], { hourCycle: "h23" })
      : moment.toLocaleDateString([], { day: "numeric", month: "short" });
    time.title = moment.toLocaleString();
  }
}

function liken(shown, wanted) {
  if (shown.dataset?.busy !== undefined) return;
  if (shown.nodeName === "TIME" && shown.dateTime === wanted.dateTime) return;
  for (const { name, value } of wanted.attributes) {
    if (shown.getAttribute(name) !== value && name !== "open") shown.setAttribute(name, value);
  }
  for (const { name } of [...shown.attributes]) {
    if (!wanted.hasAttribute(name) && name !== "open") shown.removeAttribute(name);
  }
  likenChildren(shown, wanted);
}

function likenChildren(shown, wanted) {
  const named = new Map([...shown.children].filter((each) => each.id).map((each) => [each.id, each]));
  let next = shown.firstChild;
  for (const child of [...wanted.childNodes]) {
    const known = child.id ? named.get(child.id) : isAlike(next, child) ? next : null;
    if (!known || known.nodeName !== child.nodeName) {
      shown.insertBefore(document.importNode(child, true), next);
      continue;
    }
    if (known === next) next = next.nextSibling;
    else shown.insertBefore(known, next);
    if (known.nodeType === Node.ELEMENT_NODE) liken(known, child);
    else if (known.data !== child.data) known.data = child.data;
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

function isAlike(shown, wanted) {
  return shown && shown.nodeName === wanted.nodeName && !shown.id;
}
