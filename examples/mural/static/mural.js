// The Mural's page: draws the canvas, places pixels, polls for what others placed.
"use strict";

const POLL_MS = 3000;
const canvas = document.getElementById("canvas");
const context = canvas.getContext("2d");
const userId = localStorage.userId ??= `guest-${Math.random().toString(36).slice(2, 10)}`;
let readyAt = 0;

function show(id, text) {
  document.getElementById(id).textContent = text;
}

async function getJson(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
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

async function refresh() {
  draw(await getJson("/api/canvas"));
  show("total", (await getJson("/api/stats")).total_pixels);
  const mine = await getJson(`/api/user-stats/${encodeURIComponent(userId)}`);
  show("mine", mine.user_pixels);
}

async function place(event) {
  const box = canvas.getBoundingClientRect();
  const scale = canvas.width / box.width;
  const inside = (value) => Math.min(canvas.width - 1, Math.max(0, Math.floor(value * scale)));
  const response = await fetch("/api/place-pixel", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      x: inside(event.clientX - box.left),
      y: inside(event.clientY - box.top),
      color: document.getElementById("color").value,
      user_id: userId,
    }),
  });
  const answer = await response.json();
  const wait = answer.cooldown ?? answer.retry_after;
  if (wait !== undefined) readyAt = Date.now() + wait * 1000;
  if (response.ok) await refresh();
  else if (response.status !== 429) show("cooldown", answer.error);
}

function showCooldown() {
  const left = Math.ceil((readyAt - Date.now()) / 1000);
  if (left > 0) show("cooldown", `Wait ${left} s.`);
  else if (readyAt) {
    readyAt = 0;
    show("cooldown", "Click to place a pixel.");
  }
}

async function poll() {
  try {
    await refresh();
  } catch (error) {
    console.warn(error);
  }
  setTimeout(poll, POLL_MS);
}

canvas.addEventListener("click", (event) => place(event).catch(console.warn));
setInterval(showCooldown, 250);
poll();
