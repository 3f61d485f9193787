// SPDX-License-Identifier: Apache-2.0
"use strict";
(() => {
  const svg = d3.select("#picture"), all = d3.select("#all"), panel = d3.select("#panel");
  const edges = d3.selectAll(".edge"), labels = d3.selectAll(".ports");
  const nodes = d3.selectAll(".workload, .network"), boxes = d3.selectAll(".namespace");
  const EGRESS = 0, INGRESS = 1;
  const number = (element, key) => +element.dataset[key];
  if (data.edges.length > 150) svg.classed("many", true);

  // Pan and zoom.
  const [, , width, height] = svg.attr("viewBox").split(" ").map(Number);
  const zoom = d3.zoom().scaleExtent([0.5, 12]).on("zoom", () => all.attr("transform", d3.event.transform));
  svg.call(zoom).on("dblclick.zoom", null).on("click", () => choose(null));
  d3.select("#fit").on("click", () => svg.transition().duration(250).call(zoom.transform, d3.zoomIdentity));
  const show = (x, y, scale) => svg.transition().duration(300).call(zoom.transform,
    d3.zoomIdentity.translate(width / 2 - scale * x, height / 2 - scale * y).scale(scale));

  // What a text is made of is set as text, never as HTML.
  const line = (parent, tag, text, className) => parent.append(tag).text(text).attr("class", className || null);
  function yaml(value, indent) {
    if (value === null || typeof value !== "object") return " " + JSON.stringify(value).replace(/^"([\w./-]*[a-z][\w./-]*)"$/i, "$1");
    const pad = "\n" + "  ".repeat(indent);
    if (Array.isArray(value)) return value.map(v => pad + "-" + yaml(v, indent + 1).replace(/^\n */, " ")).join("") || " []";
    return Object.keys(value).map(k => pad + k + ":" + yaml(value[k], indent + 1)).join("") || " {}";
  }

  // What the policies at one end say of the other, or of an outside network: nothing. An end is a class, or a network.
  function answer(direction, source, target) {
    const own = direction === EGRESS ? source : target, peer = direction === EGRESS ? target : source;
    if (own.class === undefined) return [];
    const side = data.sides[data.classes[own.class].sides[direction]];
    return side.says[peer.class === undefined ? side.networks[peer.network] : side.peers[peer.class]];
  }
  function say(direction, source, target) {
    const steps = answer(direction, source, target).map(n => data.said[n]);
    if (steps.length > 0) line(panel, "h3", direction === EGRESS ? "egress of the source" : "ingress of the destination");
    steps.forEach(step => {
      line(panel, "p", step.text, step.verdict || "dim");
      if (step.rule >= 0) line(panel, "pre", yaml(data.rules[step.rule].text, 0).trim());
    });
  }

  // The distinct ways in which what one node stands for may talk to what another does.
  function ways(from, to) {
    const ends = node => node.network >= 0 ? [{network: node.network, name: node.label}] :
      node.workloads.flatMap(w => (data.members[w] || []).map(c => ({class: c, workload: w, name: data.workloads[w].name})));
    const found = new Map();
    for (const a of ends(from)) for (const b of ends(to)) {
      const f = a.class === undefined ? 0 : data.classes[a.class].family, g = b.class === undefined ? 0 : data.classes[b.class].family;
      if (f && g && f !== g) continue;
      const key = [EGRESS, INGRESS].map(d => answer(d, a, b)).join("/");
      if (!found.has(key)) found.set(key, [a, b]);
    }
    return [...found.values()];
  }

  function why(from, to, ports) {
    panel.html("");
    line(panel, "h2", from.label + " → " + to.label);
    line(panel, "p", ports || "denied", ports ? "open" : "closed");
    const several = ways(from, to), most = 4;
    several.slice(0, most).forEach(([a, b]) => {
      if (several.length > 1) line(panel, "h2", a.name + " → " + b.name).style("margin-top", "22px");
      say(EGRESS, a, b);
      say(INGRESS, a, b);
    });
    if (several.length > most) line(panel, "p", "and " + (several.length - most) + " more ways", "dim");
  }

  function intro() {
    panel.html("");
    line(panel, "h2", data.workloads.length + " workloads");
    line(panel, "p", "Click on a workload for all that is open to and from it, or on an arrow for the rules that allow it.");
    line(panel, "p", "Arrows show what policies allow. Where policies leave everything open, there are none.", "dim");
    d3.selectAll(".legend").each(function () {
      const bar = this.querySelector(".gate");
      if (bar) line(panel, "p", this.textContent, "key").style("--sign", getComputedStyle(bar).fill);
      else line(panel, "h3", this.textContent);
    });
  }

  function workload(w) {
    const it = data.workloads[w];
    panel.html("");
    line(panel, "h2", it.name);
    line(panel, "p", it.kind + ", " + it.pods + (it.pods === 1 ? " pod" : " pods"), "dim");
    line(panel, "p", "ingress: " + it.ingress);
    line(panel, "p", "egress: " + it.egress);
    const most = 8, pair = (key, o) => key === "from" ? whyPair(w, o) : whyPair(o, w);
    [["may talk to", "from", "to"], ["may be reached from", "to", "from"]].forEach(([title, key, other]) => {
      line(panel, "h3", title);
      const rows = data.connections.filter(c => (c[key] || []).includes(w));
      const ul = panel.append("ul");
      rows.forEach(c => {
        const li = ul.append("li");
        line(li, "span", c[other + "Text"]);
        line(li, "span", c.ports);
      });
      if (rows.length === 0) line(panel, "p", "nothing", "closed");
      const reached = new Set(rows.flatMap(c => c[other] || []));
      const within = n => data.namespace === "" || data.workloads[n].namespace === data.namespace;
      const others = data.workloads.map((_, n) => n).filter(n => n !== w && data.members[n] && (within(w) || within(n)));
      const denied = others.filter(n => !reached.has(n));
      if (denied.length > most) line(panel, "p", "denied: " + denied.length + " others", "closed");
      else if (denied.length > 0) {
        const p = line(panel, "p", "denied: ", "closed");
        denied.forEach((n, i) => {
          const item = p.append("span").attr("class", "item"); // no line begins with its comma
          line(item, "button", data.workloads[n].name, "link").on("click", () => pair(key, n));
          if (i < denied.length - 1) item.append("span").text(",");
          p.append("span").text(" ");
        });
      }
      const select = panel.append("select").attr("aria-label", "why " + other);
      select.append("option").text("why, or why not, " + other + " …");
      others.forEach(n => select.append("option").attr("value", n).text(data.workloads[n].name));
      select.on("change", function () { pair(key, +this.value); });
    });
  }

  // Why one workload may talk to another, or not.
  function whyPair(a, b) {
    const [from, to] = [a, b].map(w => data.nodes.findIndex(n => n.network < 0 && n.workloads.length === 1 && n.workloads[0] === w));
    mark([], [from, to]);
    const open = data.connections.find(c => (c.from || []).includes(a) && (c.to || []).includes(b));
    why(data.nodes[from], data.nodes[to], open && open.ports);
  }

  // What is chosen, and what is connected with it, stands out.
  function mark(someEdges, someNodes) {
    svg.classed("chosen", true);
    nodes.classed("picked", false).classed("on", function () { return someNodes.includes(number(this, "node")); });
    [edges, labels].forEach(of => of.classed("on", function () { return someEdges.includes(number(this, "edge")); }));
  }
  function choose(kind, id) {
    if (kind === null) {
      svg.classed("chosen", false);
      return intro();
    }
    const touches = n => n === id || kind === "node" && data.nodes[id].workloads.length === 1 && data.nodes[id].network < 0 &&
      data.nodes[n].workloads.length > 1 && data.nodes[n].workloads.includes(data.nodes[id].workloads[0]);
    const on = new Set(), bright = new Set();
    const light = n => { // not all others of a namespace that the chosen one is in
      bright.add(n);
      if (kind === "node" && n !== id && touches(n)) return;
      data.nodes.forEach((m, k) => {
        if (m.workloads.length === 1 && data.nodes[n].workloads.includes(m.workloads[0])) bright.add(k);
      });
    };
    data.edges.forEach((e, i) => {
      if (kind === "edge" ? i !== id : !touches(e.from) && !touches(e.to)) return;
      on.add(i);
      light(e.from);
      light(e.to);
    });
    if (kind === "node") bright.add(id);
    mark([...on], [...bright]);
    if (kind === "edge") {
      const e = data.edges[id];
      return why(data.nodes[e.from], data.nodes[e.to], e.ports);
    }
    nodes.filter(function () { return number(this, "node") === id; }).classed("picked", true);
    if (data.nodes[id].network < 0 && data.nodes[id].workloads.length === 1) return workload(data.nodes[id].workloads[0]);
    panel.html("");
    line(panel, "h2", data.nodes[id].label);
    const ul = panel.append("ul");
    data.edges.filter((_, i) => on.has(i)).forEach(e => {
      const li = ul.append("li");
      line(li, "span", e.from === id ? "→ " + data.nodes[e.to].label : "← " + data.nodes[e.from].label);
      line(li, "span", e.ports);
    });
  }
  const click = (selection, kind, key) => selection.on("click", function () {
    d3.event.stopPropagation();
    choose(kind, number(this, key));
  });
  click(edges, "edge", "edge");
  click(labels, "edge", "edge");
  click(nodes, "node", "node");
  boxes.on("click", function () {
    const id = data.nodes.findIndex(n => n.label === this.dataset.namespace + "/*");
    if (id < 0) return;
    d3.event.stopPropagation();
    choose("node", id);
  });

  // Search and filters.
  function hasPort(ports, wanted) {
    const [text, protocol] = wanted.toLowerCase().split("/"), port = +text;
    if (!/^\d+$/.test(text)) return true;
    const but = ports.startsWith("all but ");
    if (ports.startsWith("all") && !but) return true;
    let name = "", found = false;
    for (const part of ports.replace(/^all but /, "").replace(/;?\s*some pods|\(some pods\)/g, ";").split(/[;,]\s*/)) {
      const words = part.trim().split(" ");
      if (words.length > 1) name = words.shift().toLowerCase();
      if (protocol && name !== protocol) continue;
      const [first, last] = words[0] === "any" ? [0, 65535] : words[0].split("-").map(Number);
      if (words[0] !== "" && port >= first && port <= (last ?? first)) found = true;
    }
    return found !== but;
  }
  function filter() {
    const namespace = d3.select("#namespace").property("value"), port = d3.select("#port").property("value").trim();
    const inside = n => namespace === "" || data.nodes[n].workloads.some(w => data.workloads[w].namespace === namespace);
    const shown = new Set(data.edges.keys());
    data.edges.forEach((e, i) => {
      if (!inside(e.from) && !inside(e.to) || port !== "" && !hasPort(e.ports, port)) shown.delete(i);
    });
    const hidden = function () { return !shown.has(number(this, "edge")); };
    edges.classed("hidden", hidden);
    labels.classed("hidden", hidden);
    d3.select("#count").text(shown.size + " of " + data.edges.length + " arrows");
  }
  d3.select("#namespace").on("change", () => {
    filter();
    const name = d3.select("#namespace").property("value");
    const box = boxes.filter(function () { return this.dataset.namespace === name; }).select("rect");
    if (box.empty()) return svg.transition().duration(300).call(zoom.transform, d3.zoomIdentity);
    const [x, y, w, h] = ["x", "y", "width", "height"].map(k => +box.attr(k));
    show(x + w / 2, y + h / 2, Math.min(6, 0.6 * Math.min(width / w, height / h)));
  });
  d3.select("#port").on("input", filter);
  d3.select("#search").on("input", function () {
    const text = this.value.trim().toLowerCase();
    const id = data.nodes.findIndex(n => text !== "" && n.network < 0 && n.workloads.length === 1 &&
      n.label.toLowerCase().includes(text));
    if (id < 0) return choose(null);
    goTo(id);
  });
  function goTo(id) {
    choose("node", id);
    const it = nodes.filter(function () { return number(this, "node") === id; });
    if (it.empty()) return;
    const [x, y] = it.attr("transform").match(/[\d.]+/g).map(Number);
    show(x + 88, y + 22, Math.max(1, Math.min(6, width / 1400)));
  }
  filter();
  intro();

  // page.html#shop/web shows a workload, #3 the arrow of that number, #shop/web->shop/db why one may talk to another, or not.
  function fromAddress() {
    const text = decodeURIComponent(location.hash.slice(1));
    if (text === "") return choose(null);
    if (/^\d+$/.test(text) && data.edges[+text]) return choose("edge", +text);
    const [id, other] = text.split("->").map(name => data.nodes.findIndex(n => n.label === name));
    if (id >= 0) goTo(id);
    const edge = data.edges.findIndex(e => e.from === id && e.to === other);
    if (edge >= 0) choose("edge", edge);
    else if (id >= 0 && other >= 0) whyPair(data.nodes[id].workloads[0], data.nodes[other].workloads[0]);
  }
  window.addEventListener("hashchange", fromAddress);
  fromAddress();
})();
