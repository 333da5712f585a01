"use strict";
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const { properties, units, first, second, text } = data;
const bytes = Uint8Array.from(atob(data.values), (c) => c.charCodeAt(0));
const values = new Int8Array(bytes.buffer); // of unit u at character t: values[u * text.length + t]
const DRAWN = 2000;
let property = 0, unit = 0;

function option(select, content, value) {
  const made = document.createElement("option");
  made.textContent = content;
  made.value = value;
  select.append(made);
}

// The units in the order of how well they track the property in the first half of the text.
function order() {
  const strength = (u) => Math.abs(first[u][property]);
  return units.map((_, u) => u).sort((a, b) => strength(b) - strength(a));
}

function choose() {
  const select = $("unit");
  select.replaceChildren();
  for (const u of order()) option(select, `${units[u]}: ${second[u][property].toFixed(2)}`, u);
  select.value = unit;
  $("property").value = property;
  const r = second[unit][property];
  $("said").textContent =
    `${units[unit]} and "${properties[property]}": r = ${r.toFixed(3)} in the second half of the ` +
    `text, ${first[unit][property].toFixed(3)} in the first, by which it was chosen.`;
  colour();
  draw();
  list();
}

function colour() {
  const length = text.length, of = (t) => values[unit * length + t] / 127;
  [...$("text").children].forEach((element, t) => {
    const value = of(t), name = value < 0 ? "--low" : "--high";
    element.style.background = `rgb(var(${name}) / ${Math.abs(value).toFixed(2)})`;
    element.title = value.toFixed(2);
  });
}

function draw() {
  const canvas = $("picture"), count = Math.min(DRAWN, text.length);
  canvas.width = canvas.clientWidth;
  const { width, height } = canvas, context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  context.strokeStyle = getComputedStyle(document.body).color;
  context.beginPath();
  for (let t = 0; t < count; t++) {
    const value = values[unit * text.length + t] / 127;
    context.lineTo((t / count) * width, height / 2 - (value * height) / 2.2);
  }
  context.stroke();
}

function list() {
  const table = $("table"), head = document.createElement("thead"), row = head.insertRow();
  const heading = (content, press) => {
    const cell = document.createElement("th"), button = document.createElement("button");
    button.textContent = content;
    button.addEventListener("click", press);
    cell.append(button);
    row.append(cell);
  };
  row.append(document.createElement("th"));
  properties.forEach((name, p) => heading(name, () => {
    property = p;
    unit = order()[0];
    choose();
  }));
  const body = document.createElement("tbody");
  for (const u of order()) {
    const line = body.insertRow();
    line.className = u === unit ? "chosen" : "";
    line.addEventListener("click", () => {
      unit = u;
      choose();
    });
    line.insertCell().textContent = units[u];
    for (const r of second[u]) line.insertCell().textContent = r.toFixed(2);
  }
  table.replaceChildren(head, body);
}

properties.forEach((name, p) => option($("property"), name, p));
$("property").addEventListener("change", (event) => {
  property = Number(event.target.value);
  unit = order()[0];
  choose();
});
$("unit").addEventListener("change", (event) => {
  unit = Number(event.target.value);
  choose();
});
for (const character of text) {
  const element = document.createElement("i");
  element.textContent = character;
  $("text").append(element);
}
unit = order()[0];
choose();
