// The Mural's page: draws the canvas, places pixels, and hears by WebSocket what is placed.
"use strict";

const RETRY_MS = [250, 10000]; // the first wait, and the longest
const STEADY_MS = 5000; // a connection that lasted so long was a good one
const canvas = element("canvas");
const context = canvas.getContext("2d", { willReadFrequently: true });
let owners = new Map(); // "x,y" -> user id
let sequence = null; // of the last placement that is drawn; null: load the canvas

async function load() {
  const response = await fetch("/api/canvas");
  if (!response.ok) throw new Error(`canvas: ${response.status}`);
  const pixels = await response.json();
  draw(pixels);
  owners = new Map(Object.entries(pixels).map(([key, pixel]) => [key, pixel.user_id]));
  sequence = Number(response.headers.get("Mural-Sequence"));
  counts.refresh();
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
  owners.set(`${placement.x},${placement.y}`, placement.user_id);
  context.fillStyle = placement.color;
  context.fillRect(placement.x, placement.y, 1, 1);
  tellLatest(placement);
  counts.refresh();
  point();
}

function showLink(live) {
  show("link", live ? "live" : "connecting");
  element("link").className = live ? "live" : "connecting";
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
    socket.addEventListener("open", () => showLink(true));
    // It follows an error, too.
    socket.addEventListener("close", () => {
      showLink(false);
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
    body: JSON.stringify({ x, y, color: element("color").value, user_id: userId }),
  });
  const answer = await response.json();
  // The pixel itself comes by WebSocket, as everybody's do.
  if (response.ok) cooldown.begin(answer.cooldown, answer.cooldown);
  else if (response.status === 429) cooldown.begin(answer.retry_after);
  else show("cooldown", answer.error);
}

let pointer = null; // where the mouse is, in the window

function point() {
  const [x, y] = (pointer && view.placeAt(...pointer)) ?? [];
  element("where").hidden = element("aim").hidden = x === undefined;
  show("scale", `${Math.round(view.zoom * 100)} %`);
  if (x === undefined) return;
  const owner = owners.get(`${x},${y}`);
  show("where", owner ? `${x}, ${y} · ${owner === userId ? "you" : owner}` : `${x}, ${y}`);
  const [left, top, size] = view.boxOf(x, y);
  const style = { transform: `translate(${left}px, ${top}px)`, width: `${size}px` };
  Object.assign(element("aim").style, style, { height: `${size}px` });
  element("aim").hidden = size < 4;
}

canvas.addEventListener("pointermove", (event) => {
  pointer = [event.clientX, event.clientY];
  point();
});
canvas.addEventListener("pointerleave", () => {
  pointer = null;
  point();
});
const view = new View(element("frame"), canvas, {
  clicked: (x, y) => place(x, y).catch(console.warn),
  changed: () => queueMicrotask(point), // the view may just be being made
});
element("closer").addEventListener("click", () => view.zoomBy(2));
element("farther").addEventListener("click", () => view.zoomBy(0.5));
element("whole").addEventListener("click", () => view.zoomBy(0));
follow();
