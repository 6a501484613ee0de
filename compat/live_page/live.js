"use strict";
// Asks for the page's parts every few seconds and replaces those that changed. Without it the page reloads itself.
const stale = document.getElementById("stale");
let lastMs = Date.now();

async function update() {
  if (document.hidden) return;
  const parts = [...document.querySelectorAll("[data-part]")];
  const have = parts.map((part) => part.dataset.version).join(",");
  try {
    const link = new URL(document.body.dataset.parts, location.href);
    link.searchParams.set("have", have);
    const answer = await fetch(link, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const told = await answer.json();
    const same = told.parts.length === parts.length && told.parts.every(({ name }, i) => name === parts[i].dataset.part);
    // There are other parts now: a first surface came, or a second one.
    if (!same) return location.reload();
    told.parts.forEach(({ version, html }, i) => html === undefined || replace(parts[i], version, html));
    document.title = told.title;
    lastMs = Date.now();
    stale.hidden = true;
  } catch (error) {
    stale.textContent = `No answer for ${Math.round((Date.now() - lastMs) / 1000)} s: these figures are old. Trying again.`;
    stale.hidden = false;
  }
}

// What a reader opened stays open, and a table stays in the order that it was given.
function replace(part, version, html) {
  const open = new Set([...part.querySelectorAll("details[open] > summary")].map((summary) => summary.textContent));
  const sorted = [...part.querySelectorAll("th[aria-sort]")].map((head) => [key(head), head.getAttribute("aria-sort")]);
  const before = part.querySelector("details") !== null;
  part.innerHTML = html;
  part.dataset.version = version;
  if (before) {
    for (const summary of part.querySelectorAll("details > summary")) {
      summary.parentElement.open = open.has(summary.textContent);
    }
  }
  makeSortable(part);
  for (const [name, order] of sorted) {
    const head = [...part.querySelectorAll("th")].find((each) => key(each) === name);
    for (let i = 0; i < 2 && head && head.getAttribute("aria-sort") !== order; i++) head.querySelector("button").click();
  }
}

function key(head) {
  return `${head.closest("table").caption.textContent}\n${head.textContent}`;
}

setInterval(update, Number(document.body.dataset.everyMs));
document.addEventListener("visibilitychange", update);
