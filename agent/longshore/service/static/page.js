// What makes the page live: progress of jobs, the dialog before a flush, and news without a reload.
// Everything works without it, too. Texts are set as texts: nothing of them becomes HTML.
"use strict";

const NEWS_EVERY = 3000; // ms, while somebody looks
const MOST_LINES = 200;
const streams = new Map();
let refreshing = false;
let stale = false;

function say(text) {
  document.getElementById("said").textContent = text;
}

// As `wording.size` does.
function size(bytes) {
  for (const unit of ["B", "kB", "MB", "GB", "TB"]) {
    if (bytes < 999.95 || unit === "TB") {
      return `${bytes.toFixed(unit === "B" ? 0 : 1)} ${unit}`;
    }
    bytes /= 1000;
  }
}

function showProgress(job, progress) {
  const bar = job.querySelector("progress");
  const figures = job.querySelector("[data-figures]");
  if (progress.ended) {
    bar.removeAttribute("value");
    figures.textContent = "at work";
    return;
  }
  const done = `${progress.what} ${size(progress.done_bytes)}`;
  if (progress.total_bytes) {
    bar.value = Math.min(100, (100 * progress.done_bytes) / progress.total_bytes);
    figures.textContent = `${done} of ${size(progress.total_bytes)}`;
  } else {
    bar.removeAttribute("value");
    figures.textContent = done;
  }
}

function showLine(job, line) {
  const lines = job.querySelector("[data-lines]");
  const item = document.createElement("li");
  item.textContent = line.word ? `${line.word}: ${line.text}` : line.text;
  if (line.word) item.className = line.word;
  const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 8;
  lines.append(item);
  while (lines.childElementCount > MOST_LINES) lines.firstElementChild.remove();
  if (atEnd) lines.scrollTop = lines.scrollHeight;
}

function follow(job) {
  if (streams.has(job.id)) return;
  const stream = new EventSource(job.dataset.events);
  streams.set(job.id, stream);
  const here = () => document.getElementById(job.id); // it may have been replaced by a newer one
  let shown = Number(job.dataset.after);
  stream.addEventListener("line", (event) => {
    const number = Number(event.lastEventId);
    const place = here();
    if (number <= shown || !place) return;
    shown = number;
    showLine(place, JSON.parse(event.data));
  });
  stream.addEventListener("progress", (event) => {
    const place = here();
    if (place && place.dataset.events) showProgress(place, JSON.parse(event.data));
  });
  stream.addEventListener("ended", (event) => {
    unfollow(job.id);
    const ended = JSON.parse(event.data);
    const title = job.querySelector("h3").textContent;
    say(ended.reason ? `${title}: ${ended.state}, ${ended.reason}` : `${title}: ${ended.state}`);
    refresh();
  });
}

function unfollow(id) {
  streams.get(id)?.close();
  streams.delete(id);
}

// A hidden page follows nothing: browsers have few connections for each server.
function followAll() {
  const jobs = document.querySelectorAll("[data-events]");
  const wanted = new Set(document.hidden ? [] : [...jobs].map((job) => job.id));
  for (const id of [...streams.keys()]) if (!wanted.has(id)) unfollow(id);
  for (const job of jobs) if (wanted.has(job.id)) follow(job);
  for (const lines of document.querySelectorAll("[data-lines]")) {
    lines.scrollTop = lines.scrollHeight;
  }
}

// What has the focus is found again by its id, or as the same control of the same part.
function placeOf(element) {
  const part = element.closest("[id]");
  if (!part || part.id === "main") return null;
  const all = [...part.querySelectorAll("a, button, summary, [tabindex]")];
  return { id: part.id, index: all.indexOf(element), label: element.getAttribute("aria-label") };
}

function focusAgain(place) {
  const part = place && document.getElementById(place.id);
  if (!part) return;
  const all = [...part.querySelectorAll("a, button, summary, [tabindex]")];
  const same = all.find((one) => place.label && one.getAttribute("aria-label") === place.label);
  (place.index < 0 ? part : same || all[place.index] || part).focus({ preventScroll: true });
}

// Fetch the page anew and put it in place, with what was open and had the focus.
async function refresh() {
  if (refreshing || document.querySelector("dialog[open]")) {
    stale = true;
    return;
  }
  refreshing = true;
  stale = false;
  try {
    const answer = await fetch("/", { headers: { Accept: "text/html" } });
    if (answer.status === 401) {
      location.reload();
      return;
    }
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = document.getElementById("main");
    if (document.querySelector("dialog[open]")) {
      stale = true;
      return;
    }
    const open = [...main.querySelectorAll("details[open]")].map((one) => one.id);
    const place = main.contains(document.activeElement) ? placeOf(document.activeElement) : null;
    main.replaceWith(document.adoptNode(fresh.getElementById("main")));
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    focusAgain(place);
    followAll();
  } catch {
    // The sidecar has gone, or is about to come back: the next news will tell.
  } finally {
    refreshing = false;
    if (stale && !document.querySelector("dialog[open]")) refresh();
  }
}

async function hearNews() {
  if (document.hidden) return;
  try {
    const answer = await fetch("/changes");
    if (answer.status === 401) location.reload();
    const known = document.getElementById("main").dataset.signature;
    if (answer.ok && (await answer.text()) !== known) refresh();
  } catch {
    say("The sidecar does not answer.");
  }
}

function askBeforeFlush() {
  const dialog = document.getElementById("flush");
  if (!dialog) return;
  const form = dialog.querySelector("form");
  document.addEventListener("submit", (event) => {
    const asking = event.target.dataset.flush;
    if (!asking) return;
    event.preventDefault();
    const service = event.target.elements.namedItem("service");
    form.elements.namedItem("service").value = service ? service.value : "";
    dialog.querySelector("h2").textContent = `${asking}?`;
    dialog.querySelector("[data-do]").textContent = asking;
    dialog.showModal();
  });
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => stale && refresh());
}

askBeforeFlush();
followAll();
document.addEventListener("visibilitychange", () => {
  followAll();
  hearNews();
});
setInterval(hearNews, NEWS_EVERY);
