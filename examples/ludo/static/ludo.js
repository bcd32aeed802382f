// The page: holds one WebSocket for the game in its address, shows what comes, sends clicks.
"use strict";

const RETRY_MS = [250, 5000]; // the first wait, and the longest
const NO_GAME = 4404; // the code of a WebSocket to a game that is not there
const TOKENS_HOME = 56; // the place of a token that is home
const $ = (id) => document.getElementById(id);

// Of this tab: a second one is another player, and a reload is the same.
const key = remembered("ludo-key", () => Array.from(
  crypto.getRandomValues(new Uint8Array(16)),
  (byte) => byte.toString(16).padStart(2, "0"),
).join(""));
let game = null;
let me = null; // my user id
let present = new Set(); // the players of the game that are online
let live = false; // the server has answered on this connection
let socket = null;
let wait = RETRY_MS[0];
let retry = null;

$("name").value = remembered("ludo-name", () => `Guest ${1 + Math.floor(Math.random() * 999)}`);
drawBoard($("board"));
drawDie($("die"), 0);

function remembered(name, make) {
  if (sessionStorage.getItem(name) === null) sessionStorage.setItem(name, make());
  return sessionStorage.getItem(name);
}

function isMyTurn() {
  return live && ["roll", "move"].includes(game.phase) && current().user_id === me;
}

function current() {
  return game.players[game.turn];
}

function isAway(player) {
  return player.user_id !== me && !present.has(player.user_id);
}

// --- what is seen -----------------------------------------------------------------

function show() {
  document.body.classList.toggle("away", !live);
  if (!game) return;
  drawTokens($("board"), game, isMyTurn() && game.phase === "move", (circle, token) => {
    if (circle.classList.contains("movable")) send({ do: "move", token });
  });
  const begun = game.phase !== "waiting";
  const color = begun ? `var(--${current().color})` : "";
  $("prompt").textContent = prompt();
  $("turn").style.setProperty("--turn", color);
  $("turn").classList.toggle("mine", isMyTurn());
  $("turn").classList.toggle("won", game.phase === "over");
  $("news").textContent = game.news;
  $("roll").disabled = !(isMyTurn() && game.phase === "roll");
  $("roll").hidden = !begun || game.phase === "over";
  $("sit").hidden = begun || game.players.some((player) => player.user_id === me);
  $("sit").disabled = !live;
  $("seats").hidden = false;
  $("players").replaceChildren(...game.players.map(line));
  document.title = isMyTurn() ? "● Your turn – Ludo" : "Ludo";
  Object.assign(document.body.dataset, { version: game.version, phase: game.phase });
}

// What the player is to do, or is waiting for.
function prompt() {
  if (!live) return "The server is away. Your game goes on when it is back.";
  const seated = game.players.some((player) => player.user_id === me);
  const missing = game.size - game.players.length;
  if (game.phase === "waiting") {
    if (!seated) return "Sit down to play.";
    return `Waiting for ${missing === 1 ? "one more player" : `${missing} more players`} …`;
  }
  if (game.phase === "over") {
    const winner = game.players.find((player) => player.user_id === game.winner);
    return winner.user_id === me ? "You have won! 🎉" : `${winner.name} has won.`;
  }
  if (isMyTurn()) return game.phase === "roll" ? "Your turn: roll the die." : "Your turn: move a token.";
  const { name } = current();
  return isAway(current()) ? `${name} is away: the game waits.` : `It is the turn of ${name}.`;
}

function line(player, index) {
  const item = document.createElement("li");
  const playing = game.phase === "roll" || game.phase === "move";
  item.className = player.color;
  item.classList.toggle("turn", playing && index === game.turn);
  item.classList.toggle("gone", isAway(player));
  const home = player.tokens.filter((token) => token === TOKENS_HOME).length;
  const notes = document.createElement("small");
  notes.textContent = `${isAway(player) ? "away · " : ""}${home} of 4 home`;
  item.append(player.user_id === me ? `${player.name} (you)` : player.name, notes);
  return item;
}

function showOnline({ online, total }) {
  $("total").textContent = total;
  $("online").replaceChildren(...online.map((user) => {
    const item = document.createElement("li");
    item.textContent = user.name;
    return item;
  }));
}

function showDie(rolled, tumble) {
  drawDie($("die"), rolled ?? 0);
  $("die").classList.remove("rolled");
  void $("die").getBoundingClientRect(); // the animation begins anew
  $("die").classList.toggle("rolled", tumble);
}

function showLink(text, kind) {
  $("link").textContent = text;
  $("link").className = kind;
}

// --- the WebSocket ----------------------------------------------------------------

function take(message) {
  if ("you" in message) {
    me = message.you;
    show();
  } else if ("online" in message) {
    present = new Set(message.present);
    showOnline(message);
    show();
  } else if ("error" in message) {
    $("error").textContent = message.error;
  } else if (!game || message.version >= game.version) {
    // A roll leaves a die to use, unless nothing can move: then the turn has gone on.
    const rolled = game !== null && message.version > game.version && game.phase === "roll";
    game = message;
    $("error").textContent = "";
    showDie(game.rolled, rolled);
    show();
  }
}

function send(action) {
  if (!live) return;
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
    if (mine !== socket) return; // another one has taken its place
    wait = RETRY_MS[0];
    live = true;
    showLink("connected", "up");
    take(JSON.parse(event.data));
  };
  mine.onclose = (event) => {
    if (mine !== socket) return;
    live = false;
    show();
    if (event.code === NO_GAME) {
      showLink("there is no such game", "down");
      return;
    }
    showLink("connecting …", "down");
    retry = setTimeout(connect, wait * (0.5 + Math.random() / 2));
    wait = Math.min(2 * wait, RETRY_MS[1]);
  };
}

function leave() {
  const old = socket;
  socket = null;
  live = false;
  clearTimeout(retry);
  old?.close();
}

function open() {
  leave();
  game = null;
  for (const token of document.querySelectorAll(".token")) token.remove();
  $("invite").value = location.href;
  connect();
}

// --- what can be clicked ----------------------------------------------------------

$("new").addEventListener("click", async () => {
  try {
    const response = await fetch("/api/games", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ key, size: Number($("size").value) }),
    });
    const answer = await response.json();
    if (response.ok) location.hash = answer.id;
    else $("error").textContent = answer.error ?? "That was refused.";
  } catch {
    $("error").textContent = "The server does not answer. Try again.";
  }
});
$("sit").addEventListener("click", () => send({ do: "sit" }));
$("roll").addEventListener("click", () => send({ do: "roll" }));
$("copy").addEventListener("click", () => {
  $("invite").select();
  navigator.clipboard?.writeText($("invite").value).catch(() => {}); // or by hand
});
$("name").addEventListener("change", () => {
  const name = $("name").value.trim();
  if (name) sessionStorage.setItem("ludo-name", name);
  $("name").value = sessionStorage.getItem("ludo-name");
  socket?.close(); // the next connection says the new name
});
window.addEventListener("hashchange", open);
// A browser may keep a page that was left, with its connection: the player would stay.
window.addEventListener("pagehide", leave);
window.addEventListener("pageshow", (event) => {
  if (event.persisted) open();
});
if (location.hash) open();
