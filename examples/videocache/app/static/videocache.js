"use strict";

const element = (id) => document.getElementById(id);
const percent = (rate) => `${(100 * rate).toFixed(1)} %`;

const KEPT = 120; // points of the curve
const rates = [];

function show(stats) {
  for (const name of ["cache_type", "total_entries", "hits", "misses"]) {
    element(name).textContent = stats[name];
  }
  element("cache_type").classList.toggle("memory", stats.cache_type === "memory");
  element("hit_rate").textContent = percent(stats.hit_rate);
  const all = stats.all_workers;
  element("all_hits").textContent = all.hits;
  element("all_misses").textContent = all.misses;
  element("all_hit_rate").textContent = percent(all.hit_rate);
  draw(all.hit_rate);
}

// The curve has a point for each time that the statistics changed.
function draw(rate) {
  rates.push(rate);
  if (rates.length === 1) rates.push(rate);
  if (rates.length > KEPT) rates.shift();
  const step = 600 / (rates.length - 1);
  const points = rates.map((value, number) => `${number * step},${95 - 90 * value}`);
  element("curve").setAttribute("points", points.join(" "));
}

// The statistics come as they change; a lost connection is made again.
function follow() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(`${scheme}//${location.host}/ws/stats`);
  socket.onopen = () => { element("link").textContent = ""; };
  socket.onmessage = (event) => show(JSON.parse(event.data));
  socket.onclose = () => {
    element("link").textContent = "(connection lost)";
    setTimeout(follow, 1000);
  };
}

async function ask(event) {
  event.preventDefault();
  const whites = element("whites").value.split("\n").filter((line) => line.trim());
  const started = performance.now();
  element("answer").textContent = "…";
  try {
    const response = await fetch("/api/videos", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        black_card: element("black").value,
        white_cards: whites,
        permanent: element("permanent").checked,
      }),
    });
    if (!response.ok) {
      element("answer").textContent = `refused: ${response.status}`;
      return;
    }
    const video = await response.json();
    const time = Math.round(performance.now() - started);
    element("answer").textContent = `${video.cached ? "cached" : "generated"}, ${time} ms`;
    element("video").src = video.video_url;
    element("video").hidden = false;
  } catch {
    element("answer").textContent = "no answer";
  }
}

async function showProgress() {
  try {
    const state = await (await fetch("/api/pregeneration")).json();
    element("progress").textContent =
      `${state.done} of ${state.total} looked at, ${state.generated} generated` +
      (state.failed ? `, ${state.failed} failed` : "") + (state.running ? " …" : "");
  } catch {
    element("progress").textContent = "–";
  }
}

element("cards").addEventListener("submit", ask);
element("pregenerate").addEventListener("click", async () => {
  await fetch("/api/pregeneration", { method: "POST" });
  showProgress();
});
setInterval(showProgress, 2000);
showProgress();
follow();
