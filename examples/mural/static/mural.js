// The Mural's page: draws the canvas, places pixels, and hears by WebSocket what is placed.
"use strict";

const RETRY_MS = [250, 10000]; // the first wait, and the longest
const STEADY_MS = 5000; // a connection that lasted so long was a good one
const canvas = document.getElementById("canvas");
const context = canvas.getContext("2d");
const userId = localStorage.userId ??= `guest-${Math.random().toString(36).slice(2, 10)}`;
let owners = new Map(); // "x,y" -> user id
let sequence = null; // of the last placement that is drawn; null: load the canvas
let mine = 0;
let readyAt = 0;

function show(id, text) {
  document.getElementById(id).textContent = text;
}

function showCounts() {
  show("total", owners.size);
  show("mine", mine);
}

async function load() {
  const response = await fetch("/api/canvas");
  if (!response.ok) throw new Error(`canvas: ${response.status}`);
  const pixels = await response.json();
  draw(pixels);
  owners = new Map(Object.entries(pixels).map(([key, pixel]) => [key, pixel.user_id]));
  mine = [...owners.values()].filter((owner) => owner === userId).length;
  sequence = Number(response.headers.get("Mural-Sequence"));
  showCounts();
}

function draw(pixels) {
  const image = context.createImageData(canvas.width, canvas.height);
  const words = new DataView(image.data.buffer);
  for (const [key, { color }] of Object.entries(pixels)) {
    const [x, y] = key.split(",").map(Number);
    const rgba = parseInt(color.slice(1), 16) * 256 + 255;
    words.setUint32(4 * (y * canvas.width + x), rgba);
  }
  context.putImageData(image, 0, 0);
}

function apply(placement) {
  if (placement.sequence <= sequence) return;
  sequence = placement.sequence;
  const key = `${placement.x},${placement.y}`;
  mine += (placement.user_id === userId) - (owners.get(key) === userId);
  owners.set(key, placement.user_id);
  context.fillStyle = placement.color;
  context.fillRect(placement.x, placement.y, 1, 1);
  showCounts();
}

// Resolves when the connection has ended. What happened since the canvas was made, or
// since the last connection, comes first.
function listen() {
  return new Promise((resolve) => {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(
      `${scheme}://${location.host}/api/placements?since=${sequence}`,
    );
    socket.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data);
      if (message.reload) sequence = null;
      else if (sequence !== null) apply(message);
    });
    socket.addEventListener("open", () => show("link", "live"));
    // It follows an error, too.
    socket.addEventListener("close", () => {
      show("link", "connecting");
      resolve();
    });
  });
}

async function follow() {
  let wait = RETRY_MS[0];
  for (;;) {
    const began = Date.now();
    try {
      if (sequence === null) await load();
      await listen();
    } catch (error) {
      console.warn(error);
    }
    if (Date.now() - began > STEADY_MS) wait = RETRY_MS[0];
    // At random, so that not all pages come back at once.
    await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random() / 2)));
    wait = Math.min(2 * wait, RETRY_MS[1]);
  }
}

async function place(x, y) {
  const response = await fetch("/api/place-pixel", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ x, y, color: document.getElementById("color").value, user_id: userId }),
  });
  const answer = await response.json();
  const wait = answer.cooldown ?? answer.retry_after;
  if (wait !== undefined) readyAt = Date.now() + wait * 1000;
  // The pixel itself comes by WebSocket, as everybody's do.
  if (!response.ok && response.status !== 429) show("cooldown", answer.error);
  showCooldown();
}

function showCooldown() {
  const left = Math.ceil((readyAt - Date.now()) / 1000);
  if (left > 0) show("cooldown", `Wait ${left} s.`);
  else if (readyAt) {
    readyAt = 0;
    show("cooldown", "Click to place a pixel.");
  }
}

function choose(color) {
  document.getElementById("color").value = color;
}

for (const button of document.querySelectorAll("#palette button")) {
  button.style.background = button.value;
  button.addEventListener("click", () => choose(button.value));
}
const view = new View(document.getElementById("frame"), canvas, (x, y) => {
  place(x, y).catch(console.warn);
});
document.getElementById("closer").addEventListener("click", () => view.zoomBy(2));
document.getElementById("farther").addEventListener("click", () => view.zoomBy(0.5));
setInterval(showCooldown, 250);
follow();
