"use strict";
const $ = (id) => document.getElementById(id);
const { about, manifest, names } = JSON.parse($("data").textContent);
const characters = [...about.vocabulary];
const ids = new Map(characters.map((character, id) => [character, id]));
const PICTURES = (point) => String.fromCodePoint(point === 127 ? 0x2421 : 0x2400 + point);
const text = $("text"), tip = $("tip"), status = $("status");
let written = []; // for each character: id, bits, guesses, and whether it was given
let drawn = 0, here = -1, busy = false, scoring = false, seed;

const url = URL.createObjectURL(new Blob([$("worker").textContent], { type: "text/javascript" }));
const worker = new Worker(url);
const [weights, wasm] = ["weights", "wasm"].map((id) => $(id).textContent);
worker.postMessage({ load: { about, manifest, weights, wasm } });
$("weights").textContent = "";

// What a character looks like: others than it could reorder or hide the text around it.
function shown(character) {
  const point = character.codePointAt(0);
  if (character === "\n" || character === "\t") return character;
  if (point < 32 || point === 127) return PICTURES(point);
  if ((point >= 0x202a && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069))
    return "\\u" + point.toString(16);
  return character;
}

function number(id) {
  const value = $(id).value.trim();
  return value === "" ? null : Number(value);
}

function settings() {
  return {
    temperature: number("temperature") ?? 1,
    topK: number("top_k"),
    topP: number("top_p"),
    minP: number("min_p"),
  };
}

// Return the ids of a text; say which characters the model does not know.
function encode(content) {
  const known = [...content].filter((c) => ids.has(c));
  const unknown = [...new Set([...content].filter((c) => !ids.has(c)))];
  if (unknown.length)
    status.textContent = `left out, since the model does not know them: ${unknown.join(" ")}`;
  return known.map((c) => ids.get(c));
}

function write(keep, add, count) {
  hide();
  written = written.slice(0, keep);
  while (text.childNodes.length > keep) text.lastChild.remove();
  if (!keep) {
    drawn = 0;
    seed = number("seed") ?? Math.floor(Math.random() * 2 ** 32);
  }
  busy = true;
  document.body.dataset.state = "busy";
  worker.postMessage({ write: { keep, add, drawn, count, seed, settings: settings() } });
}

worker.onmessage = ({ data }) => {
  if (data.ready) {
    status.textContent = "Ready.";
    document.body.dataset.state = "ready";
    return;
  }
  if (!busy) return;
  const piece = document.createDocumentFragment();
  for (const character of data.characters) {
    written.push(character);
    piece.append(element(character));
  }
  text.append(piece);
  drawn = data.drawn ?? drawn;
  const stopped = stop();
  if (stopped && !data.done) worker.postMessage({ pause: true });
  busy = !(data.done || stopped);
  document.body.dataset.state = busy ? "busy" : "ready";
  status.textContent = report(data.speed);
};

function element(character) {
  const made = document.createElement("i");
  made.textContent = shown(characters[character.id]);
  if (character.given) made.className = "prime";
  if (character.bits !== undefined)
    made.style.background = `rgb(var(--heat) / ${(Math.min(8, Math.floor(character.bits)) * 0.08).toFixed(2)})`;
  return made;
}

// End the text before the stop text, if it was written.
function stop() {
  const wanted = $("stop").value;
  if (!wanted || scoring) return false;
  const given = written.findIndex((c) => !c.given);
  if (given < 0) return false;
  const at = plain(given).indexOf(wanted);
  if (at < 0) return false;
  const keep = given + [...plain(given).slice(0, at)].length;
  written = written.slice(0, keep);
  while (text.childNodes.length > keep) text.lastChild.remove();
  return true;
}

function plain(from = 0) {
  return written.slice(from).map((c) => characters[c.id]).join("");
}

function report(speed) {
  const predicted = written.filter((c) => c.bits !== undefined && (scoring || !c.given));
  const bits = predicted.reduce((sum, c) => sum + c.bits, 0) / predicted.length;
  const rate = busy && speed ? `, ${Math.round(speed)} characters/s` : "";
  const mean = predicted.length ? `, ${bits.toFixed(4)} bits per character` : "";
  return `${busy ? "Writing" : "Done"}: ${written.length} characters${mean}${rate}`;
}

function begin(count) {
  scoring = count === 0;
  status.textContent = "";
  write(0, encode($("prime").value), count);
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  begin(number("length") ?? 0);
});
$("score").addEventListener("click", () => begin(0));
$("go").addEventListener("click", () => {
  scoring = false;
  if (!busy) write(written.length, [], number("length") ?? 0);
});
$("pause").addEventListener("click", () => {
  worker.postMessage({ pause: true });
});
$("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(plain());
  status.textContent = "Copied.";
});
$("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([plain()], { type: "text/plain;charset=utf-8" }));
  link.download = "text.txt";
  link.click();
});
$("shade").addEventListener("change", () => text.classList.toggle("plain", !$("shade").checked));

// The tip: what was likely at a place; its buttons go on from there with another character.
const percent = (share) => (100 * share)[share < 1e-4 ? "toPrecision" : "toFixed"](2) + " %";

function line(tag, content) {
  const made = document.createElement(tag);
  made.textContent = content;
  return tip.appendChild(made);
}

function show(i, pinned) {
  hide();
  here = i;
  const { id, bits, guesses } = written[i], box = text.childNodes[i].getBoundingClientRect();
  text.childNodes[i].classList.add("here");
  line("div", names[id]);
  if (bits === undefined) line("div", "the first character is not predicted");
  else line("div", `${percent(2 ** -bits)}, ${bits.toFixed(2)} bits`);
  for (const [other, share] of guesses ?? []) {
    const made = line(pinned ? "button" : "div", `${percent(share)}  ${names[other]}`);
    if (pinned) made.addEventListener("click", () => write(i, [other], number("length") ?? 0));
  }
  tip.dataset.pinned = pinned ? "yes" : "";
  tip.style.display = "block";
  const edge = document.documentElement, below = box.bottom + 8;
  const fits = below + tip.offsetHeight < edge.clientHeight;
  tip.style.top = `${fits ? below : Math.max(0, box.top - 8 - tip.offsetHeight)}px`;
  tip.style.left = `${Math.max(0, Math.min(box.left, edge.clientWidth - tip.offsetWidth - 8))}px`;
  if (pinned) tip.querySelector("button")?.focus();
}

function hide() {
  text.childNodes[here]?.classList.remove("here");
  tip.replaceChildren();
  tip.style.display = "none";
  tip.dataset.pinned = "";
}

const place = (event) => [...text.childNodes].indexOf(event.target);
text.addEventListener("pointerover", (event) => {
  if (event.target !== text && !tip.dataset.pinned) show(place(event), false);
});
text.addEventListener("pointerleave", () => {
  if (!tip.dataset.pinned) hide();
});
text.addEventListener("click", (event) => {
  if (event.target !== text) show(place(event), true);
});
text.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step && written.length) {
    show(Math.max(0, Math.min(written.length - 1, here + step)), false);
    event.preventDefault();
  }
  if (event.key === "Enter" && here >= 0) show(here, true);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const pinned = tip.dataset.pinned;
  hide();
  if (pinned) text.focus();
});
