"use strict";

const ask = async (path, method = "GET") => {
  const answer = await fetch(path, { method });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer;
};

const element = (name, parent, text = "") => {
  const made = document.createElement(name);
  made.textContent = text;
  parent.append(made);
  return made;
};

function describe(app, answer, keys) {
  const source = answer.headers.get("Matrx-Asked") === "0" ? "cached" : "source asked";
  const kept = keys === null ? "Redis is away" : `${keys} ${keys === 1 ? "key" : "keys"}`;
  return `${app}: ${answer.headers.get("Matrx-Milliseconds")} ms, ${source}, ${kept}`;
}

// Tells what went wrong where the picture's numbers would stand.
function guard(caption, work) {
  return () => work().catch((error) => { caption.textContent = error.message; });
}

function showApp(device, app, parent) {
  const path = `/api/devices/${encodeURIComponent(device)}/apps/${encodeURIComponent(app)}`;
  const figure = element("figure", parent);
  const screen = element("button", figure);
  const image = element("img", screen);
  const line = element("figcaption", figure);
  const caption = element("span", line);
  const flush = element("button", line, "flush app");
  screen.className = "screen";
  image.alt = `${app} on ${device}`;
  const draw = guard(caption, async () => {
    const answer = await ask(`${path}/picture.png`);
    const old = image.src;
    image.src = URL.createObjectURL(await answer.blob());
    if (old) URL.revokeObjectURL(old);
    const { keys } = await (await ask(`${path}/stats`)).json();
    caption.textContent = describe(app, answer, keys);
  });
  screen.addEventListener("click", draw);
  flush.addEventListener("click", guard(caption, async () => {
    await ask(`${path}/flush`, "POST");
    await draw();
  }));
  return draw;
}

function showDevice(device, apps) {
  const section = element("section", document.getElementById("devices"));
  section.dataset.device = device;
  const title = element("h2", section, device);
  const flush = element("button", title, "flush device");
  const pictures = element("div", section);
  pictures.className = "apps";
  const draws = apps.map((app) => showApp(device, app, pictures));
  const drawAll = () => Promise.all(draws.map((draw) => draw()));
  flush.addEventListener("click", async () => {
    await ask(`/api/devices/${encodeURIComponent(device)}/flush`, "POST").catch(() => {});
    await drawAll();
  });
  return drawAll;
}

async function start() {
  const { devices, apps } = await (await ask("/api/devices")).json();
  const drawAll = devices.map((device) => showDevice(device, apps));
  const turn = () => drawAll.forEach((draw) => draw());
  turn();
  setInterval(turn, 15000);
}

start();
