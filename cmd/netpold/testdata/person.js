// SPDX-License-Identifier: Apache-2.0
"use strict";
// What a person does to the page of TestPage, with the mouse and the keyboard. What is hit is what is on top there.
const picture = document.querySelector("#picture"), all = document.querySelector("#all");

function fire(x, y, ...types) {
  const hit = document.elementFromPoint(x, y);
  for (const type of types) {
    hit.dispatchEvent(new MouseEvent(type, {bubbles: true, cancelable: true, view: window, clientX: x, clientY: y}));
  }
  return hit;
}
function click(element) {
  const r = element.getBoundingClientRect(), [x, y] = [r.x + r.width / 2, r.y + r.height / 2];
  const hit = document.elementFromPoint(x, y);
  if (!element.contains(hit)) throw new Error("not the element, but " + hit.outerHTML.slice(0, 80) + " is clicked on");
  fire(x, y, "mousedown", "mouseup", "click");
}
const nth = (label) => data.nodes.findIndex(n => n.label === label);
const card = label => click(document.querySelector(`[data-node="${nth(label)}"] .card`));
const namespace = name => click(document.querySelector(`[data-namespace="${name}"] > text`));
const link = text => click([...document.querySelectorAll("#panel .link")].find(b => b.textContent === text));
const fit = () => click(document.querySelector("#fit"));
function arrow(from, to) { // where nothing covers it
  const i = data.edges.findIndex(e => e.from === nth(from) && e.to === nth(to));
  const path = document.querySelector(`path[data-edge="${i}"]`), matrix = path.getScreenCTM();
  for (let part = 0.01; part < 1; part += 0.01) {
    const p = path.getPointAtLength(part * path.getTotalLength()).matrixTransform(matrix);
    if (document.elementFromPoint(p.x, p.y) === path) return fire(p.x, p.y, "mousedown", "mouseup", "click");
  }
  throw new Error("the arrow is covered everywhere");
}
function paper() {
  const r = picture.getBoundingClientRect();
  fire(r.x + 5, r.y + 5, "mousedown", "mouseup", "click");
}
function drag() { // which is no click
  const r = picture.getBoundingClientRect();
  fire(r.x + 5, r.y + 5, "mousedown");
  fire(r.x + 90, r.y + 50, "mousemove", "mouseup", "click");
}
function wheel() {
  picture.dispatchEvent(new WheelEvent("wheel", {bubbles: true, cancelable: true, view: window, deltaY: -300}));
}
function enter(id, text) { // types it, or chooses it
  const input = document.querySelector(id);
  input.focus();
  input.value = text;
  input.dispatchEvent(new Event(input.tagName === "SELECT" ? "change" : "input", {bubbles: true}));
}
function why(word, label) {
  const select = document.querySelector(`#panel select[aria-label="why ${word}"]`);
  enter(`#panel select[aria-label="why ${word}"]`, [...select.options].find(o => o.text === label).value);
}

function torn() { // fails if a line begins with a comma, at whatever width
  const panel = document.querySelector("#panel");
  for (let width = 120; width < 400; width += 3) {
    panel.style.width = width + "px";
    for (const comma of panel.querySelectorAll(".link + span")) {
      const before = comma.previousElementSibling.getBoundingClientRect();
      if (comma.getClientRects()[0].top >= before.bottom) throw new Error("a line begins with a comma");
    }
  }
  panel.style.width = "";
}

// What the page shows: one line for each thing.
function seen() {
  const bright = [...document.querySelectorAll(".chosen .workload.on .name")].map(t => t.textContent).sort();
  return [
    "count: " + document.querySelector("#count").textContent, "bright: " + bright.join(" "),
    "moved: " + all.getAttribute("transform"), document.querySelector("#panel").innerText,
  ].join("\n").replace(/\n\n+/g, "\n");
}

(async () => {
  const results = [];
  for (const step of steps) {
    try {
      step();
    } catch (e) {
      results.push("failed: " + e.message);
      continue;
    }
    await new Promise(done => setTimeout(done, 600)); // until nothing moves any more
    results.push(seen());
  }
  document.body.dataset.results = encodeURIComponent(JSON.stringify(results));
})();
