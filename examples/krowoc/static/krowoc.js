"use strict";

const SHOWN = 50;
const element = (id) => document.getElementById(id);
const seen = new Map(); // by id

// Text only: what others publish is never taken for HTML.
function line(event) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  const channel = document.createElement("b");
  time.textContent = new Date(1000 * event.timestamp).toLocaleTimeString();
  channel.textContent = event.channel;
  item.append(time, channel, JSON.stringify(event.message));
  return item;
}

function add(events) {
  for (const event of events) seen.set(event.id, event);
  const newest = [...seen.values()].sort((a, b) => b.timestamp - a.timestamp);
  for (const event of newest.splice(SHOWN)) seen.delete(event.id);
  element("events").replaceChildren(...newest.map(line));
}

// What was published while there was no connection is loaded.
async function catchUp() {
  const response = await fetch(`/api/recent-events?limit=${SHOWN}`);
  if (response.ok) add((await response.json()).events);
}

const events = new EventSource("/api/events");
events.onopen = () => { element("link").textContent = "live"; catchUp().catch(() => {}); };
events.onmessage = (message) => add([JSON.parse(message.data)]);
events.onerror = () => { element("link").textContent = "connection lost"; };

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
    element("health").textContent = `${state.status}, on ${state.mode}`;
  } catch {
    element("health").textContent = "no answer";
  }
}
setInterval(health, 5000);
health();
