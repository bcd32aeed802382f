// What stands beside the canvas: the colour, the cooldown, the counts, the latest pixels.
"use strict";

const COUNTS_MS = 1000; // the least between two looks at the counters
const LOOK_MS = 15000; // and the longest; they mend themselves without a placement, too
const LATEST = 5;

function element(id) {
  return document.getElementById(id);
}

function show(id, text) {
  element(id).textContent = text;
}

// Who this browser is, and until when it has to wait, outlast a reload of the page.
const userId = (localStorage.userId ??= `guest-${Math.random().toString(36).slice(2, 10)}`);

const cooldown = {
  readyAt: Number(localStorage.readyAt ?? 0),
  seconds: Number(localStorage.cooldown ?? 1), // of a whole one

  begin(left, whole) {
    this.readyAt = Date.now() + left * 1000;
    this.seconds = whole ?? Math.max(left, this.seconds);
    Object.assign(localStorage, { readyAt: this.readyAt, cooldown: this.seconds });
    this.show();
  },

  show() {
    const left = (this.readyAt - Date.now()) / 1000;
    const waiting = left > 0;
    element("turn").classList.toggle("waiting", waiting);
    const part = waiting ? Math.min(1, left / this.seconds) : 0;
    element("ring").style.strokeDashoffset = 100 * part;
    if (waiting) show("cooldown", `Wait ${Math.ceil(left)} s.`);
    else if (this.readyAt) {
      this.readyAt = 0;
      show("cooldown", "Click to place a pixel.");
    }
  },
};

const counts = {
  asked: 0,
  timer: null,

  // Asks for them soon; many calls are one request.
  refresh() {
    const wait = Math.max(0, this.asked + COUNTS_MS - Date.now());
    this.timer ??= setTimeout(() => this.ask().catch(console.warn), wait);
  },

  async ask() {
    this.timer = null;
    this.asked = Date.now();
    const [all, own] = await Promise.all(
      ["/api/stats", `/api/user-stats/${userId}`].map(async (path) => {
        const response = await fetch(path);
        if (!response.ok) throw new Error(`${path}: ${response.status}`);
        return response.json();
      }),
    );
    show("total", all.total_pixels.toLocaleString("en"));
    show("mine", own.user_pixels.toLocaleString("en"));
  },
};

function tellLatest({ x, y, color, user_id: user }) {
  const [item, square, who] = ["li", "i", "b"].map((name) => document.createElement(name));
  square.style.background = color;
  who.textContent = user === userId ? "you" : user;
  item.append(square, `${x}, ${y}`, who);
  element("latest").prepend(item);
  while (element("latest").children.length > LATEST) element("latest").lastChild.remove();
}

function choose(color) {
  element("color").value = color;
  show("code", color);
  for (const button of document.querySelectorAll("#palette button")) {
    button.classList.toggle("chosen", button.value === color);
  }
}

for (const button of document.querySelectorAll("#palette button")) {
  button.style.background = button.value;
  button.addEventListener("click", () => choose(button.value));
}
element("color").addEventListener("input", () => choose(element("color").value));
choose("#e4002b");
show("me", userId);
cooldown.show();
setInterval(() => cooldown.show(), 250);
setInterval(() => counts.refresh(), LOOK_MS);
