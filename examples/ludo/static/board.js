// Draws board, tokens and die as SVG. Places are those of the rules: steps from a seat's own start.
"use strict";

const COLORS = ["red", "green", "yellow", "blue"];
const SAFE = [0, 8, 13, 21, 26, 34, 39, 47];
const YARDS = [[0, 0], [9, 0], [9, 9], [0, 9]]; // the corners of red, green, yellow, blue
const HOMES = [[6.6, 7.5], [7.5, 6.6], [8.4, 7.5], [7.5, 8.4]];

// The 52 squares of the track as [column, row], from red's start.
const TRACK = (() => {
  const arm = [ // a quarter of it: red's start to the square before green's
    [1, 6], [2, 6], [3, 6], [4, 6], [5, 6], [6, 5], [6, 4], [6, 3], [6, 2], [6, 1], [6, 0],
    [7, 0], [8, 0],
  ];
  const turn = ([x, y]) => [14 - y, x];
  const squares = [];
  for (let seat = 0, part = arm; seat < 4; seat += 1, part = part.map(turn)) {
    squares.push(...part);
  }
  return squares;
})();

// The home columns, from the track to the middle.
const COLUMNS = [0, 1, 2, 3].map((seat) => [1, 2, 3, 4, 5].map((step) => {
  let square = [step, 7];
  for (let turns = 0; turns < seat; turns += 1) square = [14 - square[1], square[0]];
  return square;
}));

function element(name, attributes, parent) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

function drawBoard(board) {
  YARDS.forEach(([x, y], seat) => {
    element("rect", { x, y, width: 6, height: 6, class: `yard ${COLORS[seat]}` }, board);
    element("rect", { x: x + 1, y: y + 1, width: 4, height: 4, rx: 0.6, class: "nest" }, board);
    for (let number = 0; number < 4; number += 1) {
      const [cx, cy] = middleOf(seat, -1, number);
      element("circle", { cx, cy, r: 0.55, class: "spot" }, board);
    }
  });
  const cell = ([x, y], kind) =>
    element("rect", { x, y, width: 1, height: 1, class: `cell ${kind}` }, board);
  TRACK.forEach((square, number) => {
    const start = number % 13 === 0;
    const safe = SAFE.includes(number);
    cell(square, start ? COLORS[number / 13] : safe ? "safe" : "");
    if (safe && !start) {
      element("circle", { cx: square[0] + 0.5, cy: square[1] + 0.5, r: 0.3, class: "star" }, board);
    }
  });
  COLUMNS.forEach((column, seat) => column.forEach((square) => cell(square, COLORS[seat])));
  const middle = [[6, 6], [9, 6], [9, 9], [6, 9]];
  middle.forEach((corner, seat) => {
    const other = middle[(seat + 3) % 4];
    element("polygon", {
      points: `${corner} ${other} 7.5,7.5`, class: `cell ${COLORS[seat]}`,
    }, board);
  });
}

// The middle of the place of a token.
function middleOf(seat, token, number) {
  if (token < 0) {
    const [x, y] = YARDS[seat];
    return [x + 2 + 2 * (number % 2), y + 2 + 2 * Math.floor(number / 2)];
  }
  if (token > 55) return HOMES[seat];
  const [x, y] = token > 50 ? COLUMNS[seat][token - 51] : TRACK[(13 * seat + token) % 52];
  return [x + 0.5, y + 0.5];
}

// All tokens of the game. Those that share a place stand in a grid, smaller, so that each can
// be seen and clicked.
function drawTokens(board, game, mine, choose) {
  const places = new Map();
  for (const player of game.players) {
    player.tokens.forEach((token, number) => {
      const middle = middleOf(player.seat, token, number);
      const here = places.get(String(middle)) ?? [];
      here.push({ player, number, middle });
      places.set(String(middle), here);
    });
  }
  for (const here of places.values()) {
    const columns = Math.ceil(Math.sqrt(here.length));
    const rows = Math.ceil(here.length / columns);
    const step = 0.94 / columns;
    here.forEach(({ player, number, middle: [x, y] }, index) => {
      const circle = tokenOf(board, player, number, choose);
      circle.setAttribute("cx", x + (index % columns - (columns - 1) / 2) * step);
      circle.setAttribute("cy", y + (Math.floor(index / columns) - (rows - 1) / 2) * step);
      circle.setAttribute("r", Math.min(0.34, 0.46 * step));
      const movable = mine && player === game.players[game.turn]
        && game.movable.includes(number);
      circle.classList.toggle("movable", movable);
      circle.tabIndex = movable ? 0 : -1;
    });
  }
}

function tokenOf(board, player, number, choose) {
  const id = `token-${player.color}-${number}`;
  const known = document.getElementById(id);
  if (known) return known;
  const circle = element("circle", { id, class: `token ${player.color}` }, board);
  circle.setAttribute("role", "button");
  circle.setAttribute("aria-label", `${player.color} token ${number + 1}`);
  circle.addEventListener("click", () => choose(circle, number));
  circle.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") choose(circle, number);
  });
  return circle;
}

// The pips of a die lie on a grid of three by three.
const PIPS = [[], [4], [0, 8], [0, 4, 8], [0, 2, 6, 8], [0, 2, 4, 6, 8], [0, 2, 3, 5, 6, 8]];

// 0 for a die that has not been rolled.
function drawDie(die, rolled) {
  die.replaceChildren();
  die.setAttribute("aria-label", rolled ? `The die shows ${rolled}` : "The die");
  element("rect", { x: 0.3, y: 0.3, width: 9.4, height: 9.4, rx: 1.6 }, die);
  for (const pip of PIPS[rolled]) {
    element("circle", { cx: 2.5 + 2.5 * (pip % 3), cy: 2.5 + 2.5 * Math.floor(pip / 3), r: 0.9 }, die);
  }
}
