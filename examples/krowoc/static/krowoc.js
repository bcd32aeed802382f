"use strict";

const SHOWN = 50;
const element = (id) => document.getElementById(id);
const seen = new Map(); // by id

// Text only: what others publish is never taken for HTML.
function line(event, isNew) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  const channel = document.createElement("b");
  const message = document.createElement("code");
  time.textContent = new Date(1000 * event.timestamp).toLocaleTimeString();
  channel.textContent = event.channel;
  message.textContent = JSON.stringify(event.message);
  item.append(time, channel, message);
  item.classList.toggle("new", isNew);
  return item;
}

function add(events, live = false) {
  const added = new Set();
  for (const event of events) {
    if (live && !seen.has(event.id)) added.add(event.id);
    seen.set(event.id, event);
  }
  const newest = [...seen.values()].sort((a, b) => b.timestamp - a.timestamp);
  for (const event of newest.splice(SHOWN)) seen.delete(event.id);
  const lines = newest.map((event) => line(event, added.has(event.id)));
  element("events").replaceChildren(...lines);
}

function say(id, text, isGood) {
  element(id).textContent = text;
  element(id).classList.toggle("good", isGood);
  element(id).classList.toggle("bad", !isGood);
}

// What was published while there was no connection is loaded.
async function catchUp() {
  const response = await fetch(`/api/recent-events?limit=${SHOWN}`);
  if (response.ok) add((await response.json()).events);
}

const events = new EventSource("/api/events");
events.onopen = () => { say("link", "live", true); catchUp().catch(() => {}); };
events.onmessage = (message) => add([JSON.parse(message.data)], true);
events.onerror = () => say("link", "connection lost", false);

function send(path, body) {
  const headers = { "Content-Type": "application/json" };
  return fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
}

async function tell(request) {
  try {
    const response = await request;
    element("answer").textContent = `${response.status} ${await response.text()}`;
  } catch {
    element("answer").textContent = "no answer";
  }
}

for (const button of document.querySelectorAll("[data-get]")) {
  button.addEventListener("click", () => tell(fetch(button.dataset.get)));
}
for (const button of document.querySelectorAll("[data-post]")) {
  button.addEventListener("click", () => tell(send(button.dataset.post, {})));
}
element("publish").addEventListener("submit", (event) => {
  event.preventDefault();
  const body = { channel: element("channel").value, message: element("message").value };
  tell(send("/api/publish-event", body));
});

async function health() {
  try {
    const state = await (await fetch("/health/deep")).json();
    say("health", `${state.status}, on ${state.mode}`, state.status === "ok");
  } catch {
    say("health", "no answer", false);
  }
}
setInterval(health, 2000);
health();
