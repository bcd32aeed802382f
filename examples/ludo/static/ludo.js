// The page: holds one WebSocket for the game in its address, shows what comes, sends clicks.
"use strict";

const RETRY_MS = [250, 5000]; // the first wait, and the longest
const NO_GAME = 4404; // the code of a WebSocket to a game that is not there
const DICE = ["", "⚀", "⚁", "⚂", "⚃", "⚄", "⚅"];
const $ = (id) => document.getElementById(id);

// Of this tab: a second one is another player, and a reload is the same.
const key = sessionStorage.key ??= Array.from(
  crypto.getRandomValues(new Uint8Array(16)),
  (byte) => byte.toString(16).padStart(2, "0"),
).join("");
let game = null;
let me = null; // my user id
let socket = null;
let wait = RETRY_MS[0];
let retry = null;

$("name").value = sessionStorage.name ??= `Guest ${1 + Math.floor(Math.random() * 999)}`;
drawBoard($("board"));

function isMyTurn() {
  return game.phase !== "waiting" && game.players[game.turn].user_id === me;
}

function show() {
  drawTokens($("board"), game, isMyTurn() && game.phase === "move", (circle, token) => {
    if (circle.classList.contains("movable")) send({ do: "move", token });
  });
  $("news").textContent = game.news;
  $("die").textContent = DICE[game.rolled ?? 0];
  $("roll").disabled = !(isMyTurn() && game.phase === "roll");
  const seated = game.players.some((player) => player.user_id === me);
  $("sit").hidden = game.phase !== "waiting" || seated;
  $("players").replaceChildren(...game.players.map((player, index) => {
    const line = document.createElement("li");
    line.textContent = `${player.name}, ${player.color}${player.user_id === me ? " (you)" : ""}`;
    line.classList.toggle("turn", game.phase !== "waiting" && index === game.turn);
    return line;
  }));
  document.body.dataset.version = game.version;
  document.body.dataset.phase = game.phase;
}

function showOnline(users) {
  $("online").replaceChildren(...users.map((user) => {
    const line = document.createElement("li");
    line.textContent = user.name;
    return line;
  }));
}

function take(message) {
  if ("you" in message) {
    me = message.you;
    if (game) show();
  } else if ("online" in message) {
    showOnline(message.online);
  } else if ("error" in message) {
    $("error").textContent = message.error;
  } else if (!game || message.version >= game.version) {
    game = message;
    $("error").textContent = "";
    show();
  }
}

function send(action) {
  if (socket?.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify({ ...action, version: game.version }));
}

// Connects to the game in the address, and again whenever the connection ends.
function connect() {
  clearTimeout(retry);
  const id = location.hash.slice(1);
  if (!id) return;
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const mine = socket = new WebSocket(
    `${scheme}://${location.host}/ws/games/${encodeURIComponent(id)}`,
  );
  mine.onopen = () => {
    mine.send(JSON.stringify({ key, name: $("name").value, version: game?.version ?? 0 }));
  };
  mine.onmessage = (event) => {
    wait = RETRY_MS[0];
    $("link").textContent = "connected";
    take(JSON.parse(event.data));
  };
  mine.onclose = (event) => {
    if (mine !== socket) return; // another one has taken its place
    if (event.code === NO_GAME) {
      $("link").textContent = "there is no such game";
      return;
    }
    $("link").textContent = "connecting …";
    retry = setTimeout(connect, wait * (0.5 + Math.random() / 2));
    wait = Math.min(2 * wait, RETRY_MS[1]);
  };
}

function open() {
  const old = socket;
  socket = game = null;
  old?.close();
  for (const token of document.querySelectorAll(".token")) token.remove();
  $("invite").value = location.href;
  connect();
}

$("new").addEventListener("click", async () => {
  const response = await fetch("/api/games", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ key, size: Number($("size").value) }),
  });
  const answer = await response.json();
  if (response.ok) location.hash = answer.id;
  else $("error").textContent = answer.error ?? "try again";
});
$("sit").addEventListener("click", () => send({ do: "sit" }));
$("roll").addEventListener("click", () => send({ do: "roll" }));
$("name").addEventListener("change", () => {
  sessionStorage.name = $("name").value;
  socket?.close(); // the next connection says the new name
});
window.addEventListener("hashchange", open);
if (location.hash) open();
