// SPDX-License-Identifier: Apache-2.0
//
// Asks /api/view for the state of the daemon and shows it. Nothing is ever written into the page as markup: what comes from
// the daemon may hold names that others have chosen.
"use strict";

const LIVE_MILLIS = 500;
const QUIET_MILLIS = 2000;
const SAMPLES = 240;
const GAP = 1;
const KINDS = ["demand", "eager", "zero", "awaited", "missing"];
const ENDED = new Set(["none", "completed", "failed", "cancelled"]);
const SVG = "http://www.w3.org/2000/svg";

const $ = (id) => document.getElementById(id);
const state = { guest: null, view: null, samples: [], blocks: [], timer: 0, asking: false };

// ---- words for numbers

const bytes = (n) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit++;
  }
  return `${n >= 100 || Number.isInteger(n) ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
};
const rate = (n) => (n >= 1e9 ? `${(n / 1e9).toFixed(1)} GB/s` : n >= 1e7 ? `${Math.round(n / 1e6)} MB/s` : `${(n / 1e6).toFixed(1)} MB/s`);
const count = (n) => n.toLocaleString("en-US");
const micros = (n) => (n >= 1e6 ? `${(n / 1e6).toFixed(1)} s` : n >= 1e4 ? `${Math.round(n / 1000)} ms` : n >= 1e3 ? `${(n / 1000).toFixed(1)} ms` : `${Math.round(n)} µs`);
const millis = (n) => (n >= 6e5 ? `${Math.round(n / 6e4)} min` : n >= 1e4 ? `${Math.round(n / 1000)} s` : n >= 1e3 ? `${(n / 1000).toFixed(1)} s` : n >= 10 ? `${Math.round(n)} ms` : `${n.toFixed(1)} ms`);
const percent = (part, whole) => (whole === 0 ? "–" : part > 0 && part < whole / 1000 ? "< 0.1 %" : `${((100 * part) / whole).toFixed(part === 0 || part === whole ? 0 : 1)} %`);

const say = (id, text) => {
  const element = typeof id === "string" ? $(id) : id;
  if (element.textContent !== text) element.textContent = text;
};
const make = (name, text, className) => {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};
const draw = (parent, name, attributes, text) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
};

// ---- state, figures, guests

const received = (ram) => ram.total - ram.remaining;

function showStates(load) {
  const status = $("status");
  say(status, load ? load.status : "none");
  status.className = `status ${load ? load.status : "none"}`;
  const wanted = (load ? load.states : []).map((one) => (one.ms === undefined ? [one.status, ""] : [one.status, millis(one.ms)]));
  const list = $("states");
  while (list.children.length > wanted.length) list.lastChild.remove();
  wanted.forEach(([name, time], i) => {
    let item = list.children[i];
    if (!item) {
      item = make("li");
      item.append(make("b"), " ", make("span", "", "quiet"));
      list.append(item);
    }
    say(item.children[0], name);
    say(item.children[1], time);
  });
  say("source", load && load.source ? load.source : "");
  const error = $("error");
  error.hidden = !(load && load.error);
  say(error, load && load.error ? load.error : "");
}

function showFigures(view, load) {
  const ram = load && load.ram;
  say("received", ram ? percent(received(ram), ram.total) : "–");
  say("received-of", ram ? `${bytes(received(ram))} of ${bytes(ram.total)}` : "");
  const [before, last] = state.samples.slice(-2);
  const seconds = last ? (last.ms - before.ms) / 1000 : 0;
  const isLive = load && !ENDED.has(load.status);
  say("rate", !ram ? "–" : last && isLive ? rate(Math.max(0, last.received - before.received) / seconds) : isLive ? "…" : "0 MB/s");
  const loading = load ? load.states.reduce((sum, one) => sum + (one.ms || 0), 0) : 0;
  say("rate-mean", ram && loading > 0 ? `${rate(received(ram) / (loading / 1000))} on average` : "");
  say("faults", ram ? count(ram.requests) : "–");
  say("faults-rate", !ram ? "" : last && isLive ? `${count(Math.round(Math.max(0, last.requests - before.requests) / seconds))} pages/s now` : ram.requests === 1 ? "page" : "pages");
  const latency = view.latency;
  say("p50", latency.count ? micros(latency["p50-us"]) : "–");
  say("p99", latency.count ? `99 %: ${micros(latency["p99-us"])} · longest ${micros(latency["max-us"])}` : "nobody has waited yet");
}

function showGuests(view) {
  const section = $("guests");
  section.hidden = view["guests-total"] < 2;
  if (section.hidden) return;
  const shown = view.guests.length;
  say("guests-count", shown < view["guests-total"] ? `the first ${shown} of ${count(view["guests-total"])}` : String(shown));
  const list = $("guest-list");
  while (list.children.length > shown) list.lastChild.remove();
  view.guests.forEach((guest, i) => {
    let button = list.children[i];
    if (!button) {
      button = make("button");
      button.type = "button";
      button.setAttribute("role", "radio");
      const line = make("span", undefined, "line");
      line.append(make("span", "", "name"), make("span", "", "quiet"));
      const meter = make("span", undefined, "meter line");
      meter.append(make("span"));
      button.append(line, meter);
      button.addEventListener("click", () => choose(Number(button.dataset.id)));
      list.append(button);
    }
    button.dataset.id = guest.id;
    const isChosen = view.load !== undefined && view.load.id === guest.id;
    button.setAttribute("aria-checked", String(isChosen));
    button.tabIndex = isChosen ? 0 : -1;
    say(button.querySelector(".name"), `guest ${guest.id}`);
    say(button.querySelector(".quiet"), guest.status);
    const share = guest.ram && guest.ram.total ? received(guest.ram) / guest.ram.total : 0;
    button.querySelector(".meter span").style.width = `${100 * share}%`;
  });
}

function choose(id) {
  state.guest = id;
  state.samples = [];
  ask();
}

$("guest-list").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  const buttons = [...$("guest-list").children];
  const at = buttons.indexOf(document.activeElement);
  if (step === undefined || at < 0) return;
  event.preventDefault();
  const next = buttons[(at + step + buttons.length) % buttons.length];
  next.focus();
  choose(Number(next.dataset.id));
});

// ---- the map

// The kinds of a cell's pages as parts of it, the rest being missing.
function cellOf(block, i) {
  const pages = Math.min(block["pages-per-cell"], block.pages - i * block["pages-per-cell"]);
  const [demand, eager, zero, awaited] = block.cells.slice(4 * i, 4 * i + 4);
  return { pages, demand, eager, zero, awaited, missing: pages - demand - eager - zero - awaited };
}

function palette() {
  const style = getComputedStyle(document.documentElement);
  const colours = {};
  for (const kind of KINDS) {
    const hex = style.getPropertyValue(`--${kind}`).trim();
    colours[kind] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    colours[`${kind}-text`] = hex;
  }
  colours.cursor = style.getPropertyValue("--ink").trim();
  return colours;
}

// A cell's colour is mixed from its pages; what the guest asked for counts more, since it would vanish among the rest.
function mix(cell, colours) {
  const weights = { demand: Math.sqrt(cell.demand / cell.pages), eager: cell.eager / cell.pages, zero: cell.zero / cell.pages, missing: (cell.missing + cell.awaited) / cell.pages };
  const rest = weights.eager + weights.zero + weights.missing;
  const others = rest === 0 ? 0 : (1 - weights.demand) / rest;
  const rgb = [0, 1, 2].map((i) =>
    Math.round(weights.demand * colours.demand[i] + others * (weights.eager * colours.eager[i] + weights.zero * colours.zero[i] + weights.missing * colours.missing[i])));
  return `rgb(${rgb.join(" ")})`;
}

function layOut(shown, width) {
  const cells = shown.data.cells.length / 4;
  const large = cells > 24;
  const size = large ? Math.max(9, Math.min(16, Math.floor(width / 64))) : 14;
  const columns = large ? Math.max(8, Math.floor((width + GAP) / (size + GAP))) : cells;
  return { cells, large, size, columns: Math.min(columns, cells), rows: Math.ceil(cells / columns) };
}

function paint(shown) {
  const { canvas, data } = shown;
  const width = $("maps").clientWidth || 960;
  const lay = layOut(shown, width);
  shown.lay = lay;
  shown.element.classList.toggle("large", lay.large);
  const step = lay.size + GAP;
  const scale = window.devicePixelRatio || 1;
  const wide = lay.columns * step - GAP;
  const high = lay.rows * step - GAP;
  if (canvas.width !== Math.round(wide * scale) || canvas.height !== Math.round(high * scale)) {
    canvas.width = Math.round(wide * scale);
    canvas.height = Math.round(high * scale);
    canvas.style.width = `${wide}px`;
    canvas.style.height = `${high}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, wide, high);
  const colours = palette();
  for (let i = 0; i < lay.cells; i++) {
    const cell = cellOf(data, i);
    const x = (i % lay.columns) * step;
    const y = Math.floor(i / lay.columns) * step;
    context.fillStyle = mix(cell, colours);
    context.fillRect(x, y, lay.size, lay.size);
    if (cell.awaited > 0) {
      context.strokeStyle = colours["awaited-text"];
      context.lineWidth = 2;
      context.strokeRect(x + 1, y + 1, lay.size - 2, lay.size - 2);
    }
    if (i === shown.cursor) {
      context.strokeStyle = colours.cursor;
      context.lineWidth = 2;
      context.strokeRect(x + 1, y + 1, lay.size - 2, lay.size - 2);
    }
  }
}

function describeCell(shown, i) {
  const cell = cellOf(shown.data, i);
  const size = shown.data["pages-per-cell"] * shown.data["page-bytes"];
  const hex = (n) => `0x${n.toString(16)}`;
  const parts = [
    [cell.demand, "on demand"],
    [cell.eager, "loaded"],
    [cell.zero, "zero"],
    [cell.awaited, "awaited"],
    [cell.missing, "missing"],
  ];
  const words = parts.filter(([n]) => n > 0).map(([n, name]) => `${count(n)} ${name}`);
  const end = Math.min((i + 1) * size, shown.data.bytes);
  say("cell", `${shown.data.name} ${hex(i * size)}–${hex(end)}: ${words.join(", ")} of ${count(cell.pages)} ${cell.pages === 1 ? "page" : "pages"}`);
}

function pointAt(shown, i) {
  if (i < 0 || i >= shown.lay.cells) return;
  for (const other of state.blocks) {
    if (other !== shown && other.cursor >= 0) {
      other.cursor = -1;
      paint(other);
    }
  }
  shown.cursor = i;
  paint(shown);
  describeCell(shown, i);
}

function newBlock() {
  const element = make("div", undefined, "block");
  const canvas = make("canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  element.append(make("h3"), canvas);
  const shown = { element, canvas, cursor: -1, data: null, lay: null };
  canvas.addEventListener("pointermove", (event) => {
    const step = shown.lay.size + GAP;
    const column = Math.floor(event.offsetX / step);
    if (column < shown.lay.columns) pointAt(shown, Math.floor(event.offsetY / step) * shown.lay.columns + column);
  });
  canvas.addEventListener("pointerleave", () => {
    shown.cursor = -1;
    paint(shown);
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: shown.lay.columns, ArrowUp: -shown.lay.columns }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    pointAt(shown, shown.cursor < 0 ? 0 : shown.cursor + step);
  });
  $("maps").append(element);
  return shown;
}

function showMap(load) {
  const map = load && load.map;
  $("map-section").hidden = !map;
  if (!map) return;
  say("cell-size", `one cell is ${bytes(map["cell-bytes"])}`);
  const sums = { demand: 0, eager: 0, zero: 0, awaited: 0, missing: 0 };
  let total = 0;
  // The small ones, of which QEMU has many, come after the large ones.
  const blocks = map.blocks.map((block) => ({ ...block, pages: Math.ceil(block.bytes / block["page-bytes"]) })).sort((a, b) => b.bytes - a.bytes);
  while (state.blocks.length > blocks.length) state.blocks.pop().element.remove();
  blocks.forEach((block, n) => {
    const own = { demand: 0, eager: 0, zero: 0, awaited: 0, missing: 0 };
    for (let i = 0; i < block.cells.length / 4; i++) {
      const cell = cellOf(block, i);
      for (const kind of KINDS) own[kind] += cell[kind];
    }
    for (const kind of KINDS) sums[kind] += own[kind] * block["page-bytes"];
    total += block.bytes;
    state.blocks[n] ??= newBlock();
    const shown = state.blocks[n];
    shown.data = block;
    say(shown.element.firstChild, `${block.name} ${bytes(block.bytes)}`);
    shown.canvas.setAttribute(
      "aria-label",
      `${block.name}, ${bytes(block.bytes)}: ${percent(own.demand, block.pages)} on demand, ${percent(own.eager, block.pages)} loaded, ${percent(own.zero, block.pages)} zero, ${percent(own.missing + own.awaited, block.pages)} missing`);
    paint(shown);
    if (shown.cursor >= 0) describeCell(shown, shown.cursor);
  });
  for (const row of document.querySelectorAll("#legend tr")) {
    const kind = row.dataset.kind;
    say(row.children[2], bytes(sums[kind]));
    say(row.children[3], percent(sums[kind], total));
  }
}

// ---- charts

const LEFT = 8;
const RIGHT = 472;
const TOP = 22;
const BOTTOM = 160;

function emptyChart(svg, words) {
  draw(svg, "text", { x: (LEFT + RIGHT) / 2, y: (TOP + BOTTOM) / 2, "text-anchor": "middle" }, words);
}

function startChart(id) {
  const svg = $(id);
  while (svg.children.length > 1) svg.lastChild.remove();
  draw(svg, "line", { class: "axis", x1: LEFT, x2: RIGHT, y1: BOTTOM + 0.5, y2: BOTTOM + 0.5 });
  return svg;
}

// One bar for each power of two of a microsecond, from the shortest that there was to the longest.
function showLatency(latency) {
  const svg = startChart("latency");
  if (latency.count === 0) {
    say("latency-text", "no waits yet");
    emptyChart(svg, "nobody has waited for a page yet");
    return;
  }
  const exponent = (bucket) => (bucket["up-to-us"] === undefined ? 24 : Math.log2(bucket["up-to-us"]));
  const first = Math.max(0, exponent(latency.buckets[0]) - 1);
  const last = Math.max(first + 7, exponent(latency.buckets.at(-1)));
  const most = Math.max(...latency.buckets.map((bucket) => bucket.count));
  // Room for half of the last label.
  const width = (RIGHT - 16 - LEFT) / (last - first + 1);
  for (const bucket of latency.buckets) {
    const i = exponent(bucket) - first;
    const height = Math.max(2, ((BOTTOM - TOP) * bucket.count) / most);
    const bar = draw(svg, "rect", { class: "bar", x: LEFT + i * width + 1.5, y: BOTTOM - height, width: width - 3, height, rx: 2 });
    const words = bucket["up-to-us"] === undefined ? `longer than ${micros(2 ** 23)}` : `${bucket["up-to-us"] > 1 ? micros(bucket["up-to-us"] / 2) : "0"} to ${micros(bucket["up-to-us"])}`;
    draw(bar, "title", {}, `${count(bucket.count)}: ${words}`);
    if (width >= 34 || bucket.count === most) {
      draw(svg, "text", { x: LEFT + (i + 0.5) * width, y: BOTTOM - height - 5, "text-anchor": "middle" }, count(bucket.count));
    }
  }
  const every = Math.ceil(46 / width);
  for (let e = first; e <= last; e += every) {
    const x = LEFT + (e - first + 1) * width;
    draw(svg, "text", { x, y: BOTTOM + 17, "text-anchor": "middle" }, micros(2 ** e));
  }
  say("latency-text", `${count(latency.count)} waits, half of them up to ${micros(latency["p50-us"])}, 99 % up to ${micros(latency["p99-us"])}, the longest ${micros(latency["max-us"])}`);
}

function showThroughput() {
  const svg = startChart("throughput");
  const points = [];
  for (let i = 1; i < state.samples.length; i++) {
    const [before, after] = [state.samples[i - 1], state.samples[i]];
    points.push({ ms: after.ms, rate: Math.max(0, after.received - before.received) / ((after.ms - before.ms) / 1000) });
  }
  if (points.length < 2) {
    say("rate-text", "not known yet");
    emptyChart(svg, "not known yet");
    return;
  }
  const most = Math.max(1e6, ...points.map((point) => point.rate));
  const from = points[0].ms;
  const span = Math.max(points.at(-1).ms - from, 10000);
  const place = (point) => `${(LEFT + ((RIGHT - LEFT) * (point.ms - from)) / span).toFixed(1)},${(BOTTOM - ((BOTTOM - TOP) * point.rate) / most).toFixed(1)}`;
  const line = points.map(place).join(" ");
  const end = place({ ms: points.at(-1).ms, rate: 0 });
  draw(svg, "polygon", { class: "area", points: `${LEFT},${BOTTOM} ${line} ${end}` });
  draw(svg, "polyline", { class: "curve", points: line });
  draw(svg, "text", { x: LEFT, y: TOP - 8 }, rate(most));
  draw(svg, "text", { x: RIGHT, y: BOTTOM + 17, "text-anchor": "end" }, millis(span));
  draw(svg, "text", { x: LEFT, y: BOTTOM + 17 }, "0");
  say("rate-text", `at most ${rate(most)}, at last ${rate(points.at(-1).rate)}`);
}

// ---- asking

function remember(view) {
  const ram = view.load && view.load.ram;
  if (!ram) {
    state.samples = [];
    return;
  }
  const last = state.samples.at(-1);
  // Another load begins from nothing.
  if (last && received(ram) < last.received) state.samples = [];
  state.samples.push({ ms: view["clock-ms"], received: received(ram), requests: ram.requests });
  if (state.samples.length > SAMPLES) state.samples.shift();
}

function show(view) {
  state.view = view;
  const load = view.load;
  remember(view);
  say("version", view.version);
  say("guest", view.guest);
  document.title = load && load.ram && !ENDED.has(load.status) ? `${percent(received(load.ram), load.ram.total)} · postcopyd` : `${load ? load.status : "no guests"} · postcopyd`;
  showGuests(view);
  showStates(load);
  showFigures(view, load);
  showMap(load);
  showLatency(view.latency);
  showThroughput();
}

async function ask() {
  if (state.asking) return;
  state.asking = true;
  clearTimeout(state.timer);
  let live = false;
  try {
    const wanted = state.guest;
    const answer = await fetch(wanted === null ? "/api/view" : `/api/view?guest=${wanted}`, { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const view = await answer.json();
    if (wanted === state.guest) show(view);
    live = wanted !== state.guest || view.guests.some((guest) => !ENDED.has(guest.status));
    $("connection").classList.remove("lost");
    say("connection", live ? "live" : "");
  } catch (error) {
    $("connection").classList.add("lost");
    say("connection", `no answer from postcopyd (${error.message}); trying on`);
  }
  state.asking = false;
  if (!document.hidden) state.timer = setTimeout(ask, live ? LIVE_MILLIS : QUIET_MILLIS);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) ask();
});
const repaint = () => {
  if (state.view) showMap(state.view.load);
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
addEventListener("resize", repaint);
ask();
