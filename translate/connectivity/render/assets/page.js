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

  // Why something is open from one end to another, in one direction. An end is a class, or a network.
  function say(direction, source, target, out) {
    const own = direction === EGRESS ? source : target, peer = direction === EGRESS ? target : source;
    const word = direction === EGRESS ? "egress" : "ingress";
    line(out, "h3", word + (direction === EGRESS ? " of the source" : " of the destination"));
    const isolation = own.class === undefined ? -1 : data.classes[own.class].isolations[direction];
    if (isolation < 0) return line(out, "p", "open: no policy isolates it for " + word, "yes");
    const i = data.isolations[isolation];
    const said = i.says[peer.class === undefined ? i.networks[peer.network] : i.peers[peer.class]];
    line(out, "p", "isolated by " + i.policies.join(", "), "dim");
    said.rules.forEach((r, n) => {
      line(out, "p", "allowed by " + data.rules[r].name + ": " + said.ports[n], "yes");
      line(out, "pre", yaml(data.rules[r].text, 0).trim());
    });
    if (said.rules.length > 0) return;
    line(out, "p", "denied: no rule allows it", "no");
    if (!said.lacks) return;
    line(out, "p", "nearest: " + data.rules[said.nearest].name + ": " + said.lacks);
    line(out, "pre", yaml(data.rules[said.nearest].text, 0).trim());
  }

  // The distinct ways in which what one node stands for may talk to what another does.
  function ways(from, to) {
    const ends = node => node.network >= 0 ? [{network: node.network, name: node.label}] :
      node.workloads.flatMap(w => (data.members[w] || []).map(c => ({class: c, workload: w, name: data.workloads[w].name})));
    const found = new Map();
    for (const a of ends(from)) for (const b of ends(to)) {
      const f = a.class === undefined ? 0 : data.classes[a.class].family, g = b.class === undefined ? 0 : data.classes[b.class].family;
      if (f && g && f !== g) continue;
      const key = [EGRESS, INGRESS].map(d => {
        const own = d === EGRESS ? a : b, peer = d === EGRESS ? b : a;
        const i = own.class === undefined ? -1 : data.classes[own.class].isolations[d];
        return i < 0 ? "-" : i + "." + data.isolations[i][peer.class === undefined ? "networks" : "peers"][peer.class ?? peer.network];
      }).join("/");
      if (!found.has(key)) found.set(key, [a, b]);
    }
    return [...found.values()];
  }

  function why(from, to, ports) {
    panel.html("");
    line(panel, "h2", from.label + " → " + to.label);
    if (ports) line(panel, "p", ports, "yes");
    const several = ways(from, to), most = 4;
    several.slice(0, most).forEach(([a, b]) => {
      if (several.length > 1) line(panel, "h2", a.name + " → " + b.name).style("margin-top", "22px");
      say(EGRESS, a, b, panel);
      say(INGRESS, a, b, panel);
    });
    if (several.length > most) line(panel, "p", "and " + (several.length - most) + " more ways", "dim");
  }

  function intro() {
    panel.html("");
    line(panel, "h2", data.workloads.length + " workloads");
    line(panel, "p", "Click on a workload for all that is open to and from it, or on an arrow for the rules that allow it.");
    line(panel, "p", "An arrow is what rules of policies allow. What no policy isolates is open to everything that is open, " +
      "and has no arrows for that.", "dim");
    line(panel, "h3", "left of a card: ingress, right: egress");
    [["isolated", "policies isolate the pods"], ["open", "no policy isolates them"], ["partly", "policies isolate some of the pods"],
      ["host", "host network: policies see the node"]].forEach(([state, text]) => {
      const bar = document.querySelector(".workload .gate." + state);
      if (bar) line(panel, "p", text, "key").style("--sign", getComputedStyle(bar).fill);
    });
  }

  function workload(w) {
    const it = data.workloads[w];
    panel.html("");
    line(panel, "h2", it.name);
    line(panel, "p", it.kind + ", " + it.pods + (it.pods === 1 ? " pod" : " pods"), "dim");
    line(panel, "p", "ingress: " + it.ingress);
    line(panel, "p", "egress: " + it.egress);
    const list = (title, key, other) => {
      line(panel, "h3", title);
      const rows = data.connections.filter(c => (c[key] || []).includes(w));
      const ul = panel.append("ul");
      rows.forEach(c => {
        const li = ul.append("li");
        line(li, "span", c[other]);
        line(li, "span", c.ports);
      });
      if (rows.length === 0) line(panel, "p", "nothing", "no");
    };
    list("may talk to", "from", "toText");
    list("may be reached from", "to", "fromText");
    line(panel, "h3", "why, or why not?");
    [["to ", (o) => [w, o]], ["from ", (o) => [o, w]]].forEach(([word, pair]) => {
      const select = panel.append("select").attr("aria-label", "why " + word);
      select.append("option").text(word + "…");
      data.workloads.forEach((o, n) => { if (n !== w && data.members[n]) select.append("option").attr("value", n).text(word + o.name); });
      select.on("change", function () {
        const [a, b] = pair(+this.value).map(n => ({label: data.workloads[n].name, workloads: [n], network: -1}));
        why(a, b);
      });
    });
  }

  // What is chosen, and what is connected with it, stands out.
  function choose(kind, id) {
    svg.classed("chosen", kind !== null);
    nodes.classed("picked", false).classed("on", false);
    edges.classed("on", false);
    labels.classed("on", false);
    if (kind === null) return intro();
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
    edges.classed("on", function () { return on.has(number(this, "edge")); });
    labels.classed("on", function () { return on.has(number(this, "edge")); });
    nodes.classed("on", function () { return bright.has(number(this, "node")); });
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
    if (id >= 0 && other >= 0) why(data.nodes[id], data.nodes[other]);
  }
  window.addEventListener("hashchange", fromAddress);
  fromAddress();
})();
