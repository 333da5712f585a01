const data = JSON.parse(document.getElementById("data").textContent);
const text = document.getElementById("text"), tip = document.getElementById("tip");
const places = new Map([...text.children].map((element, i) => [element, i]));
const percent = (share) => (100 * share)[share < 1e-4 ? "toPrecision" : "toFixed"](2) + " %";
function line(parent, tag, content, name) {
  const element = document.createElement(tag);
  element.textContent = content;
  if (name) element.className = name;
  return parent.appendChild(element);
}
function fill(i) {
  const bits = data.bits[i] / 10000, size = data.size, first = i * size;
  tip.replaceChildren();
  line(tip, "div", data.names[data.ids[i]]);
  if (!i) return line(tip, "div", "the first character is not predicted");
  line(tip, "div", percent(2 ** -bits) + ", " + bits.toFixed(2) + " bits");
  const table = line(tip, "table", "");
  for (let k = first; k < first + size; k++) {
    const row = line(table, "tr", "", data.guesses[k] === data.ids[i] ? "hit" : "");
    line(row, "td", percent(data.probabilities[k] / 10000));
    line(row, "td", data.names[data.guesses[k]]);
  }
}
text.addEventListener("pointerover", (event) => {
  const i = places.get(event.target);
  if (i === undefined) return;
  fill(i);
  tip.style.display = "block";
  const box = event.target.getBoundingClientRect(), edge = document.documentElement;
  const below = box.bottom + 8 + tip.offsetHeight < edge.clientHeight;
  tip.style.top = (below ? box.bottom + 8 : Math.max(0, box.top - 8 - tip.offsetHeight)) + "px";
  tip.style.left = Math.max(0, Math.min(box.left, edge.clientWidth - tip.offsetWidth - 8)) + "px";
});
text.addEventListener("pointerleave", () => { tip.style.display = "none"; });
