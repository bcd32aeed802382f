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

function showApp(device, app, parent) {
  const path = `/api/devices/${encodeURIComponent(device)}/apps/${encodeURIComponent(app)}`;
  const figure = element("figure", parent);
  const image = element("img", figure);
  const caption = element("figcaption", figure);
  image.alt = `${app} on ${device}`;
  const draw = async () => {
    try {
      const answer = await ask(`${path}/picture.png`);
      const old = image.src;
      image.src = URL.createObjectURL(await answer.blob());
      if (old) URL.revokeObjectURL(old);
      const { keys } = await (await ask(`${path}/stats`)).json();
      const source = answer.headers.get("Matrx-Asked") === "0" ? "cached" : "source asked";
      caption.textContent =
        `${app}: ${answer.headers.get("Matrx-Milliseconds")} ms, ${source}, ` +
        (keys === null ? "Redis is away" : `${keys} keys`);
    } catch (error) {
      caption.textContent = `${app}: ${error.message}`;
    }
  };
  image.addEventListener("click", draw);
  const flush = element("button", figure, "flush app");
  flush.addEventListener("click", async () => {
    await ask(`${path}/flush`, "POST");
    await draw();
  });
  return draw;
}

async function start() {
  const { devices, apps } = await (await ask("/api/devices")).json();
  for (const device of devices) {
    const section = element("section", document.getElementById("devices"));
    const flush = element("button", element("h2", section, device), "flush device");
    const draws = apps.map((app) => showApp(device, app, section));
    const drawAll = () => Promise.all(draws.map((draw) => draw()));
    flush.addEventListener("click", async () => {
      await ask(`/api/devices/${encodeURIComponent(device)}/flush`, "POST");
      await drawAll();
    });
    drawAll();
    setInterval(drawAll, 15000);
  }
}

start();
