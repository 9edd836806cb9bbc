"use strict";

// The page is complete without this script but for the curves. What it shows comes from the JSON in #data.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 210, LEFT = 46, RIGHT = 10, TOP = 8, BOTTOM = 22;
const hidden = new Set(); // names of curves that are switched off, by chart and name
const chosen = { epoch: null, groups: [] }; // where the scrubber and the lists stand, kept when the page refreshes
let data = readData(document);

function readData(page) {
  return JSON.parse(page.getElementById("data").textContent);
}

function element(name, attributes, parent, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// Curves

function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return { found, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function extent(values) {
  return [Math.min(...values), Math.max(...values)];
}

// A colour for each run, and a line style for what it shows; of a single run a colour for that.
function classOf(series) {
  return data.runs.length > 1 ? `run${series.run} style${series.style}` : `run${series.style} style0`;
}

function nearest(points, epoch) {
  let best = null;
  for (const point of points) {
    if (best === null || Math.abs(point[0] - epoch) < Math.abs(best[0] - epoch)) best = point;
  }
  return best;
}

function drawChart(figure) {
  const number = Number(figure.dataset.number), chart = data.charts[number];
  const plot = figure.querySelector(".plot"), legend = figure.querySelector(".legend");
  const width = plot.clientWidth || 360;
  const keyOf = (series) => `${chart.title}/${series.name}`;
  const visible = chart.series.filter((series) => !hidden.has(keyOf(series)));
  const points = visible.flatMap((series) => series.points);
  const all = chart.series.flatMap((series) => series.points.map((point) => point[0]));
  let [first, last] = extent(all);
  if (first === last) [first, last] = [first - 0.5, last + 0.5];
  const levels = points.map((point) => point[1]).concat(chart.level ? [chart.level.value] : []);
  let [low, high] = levels.length ? extent(levels) : [0, 1];
  if (chart.zero) low = Math.min(0, low);
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  high += room;
  if (!chart.zero) low -= room;
  const x = (epoch) => LEFT + ((epoch - first) / (last - first)) * (width - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - ((value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);

  const told = visible.map((series) => {
    const end = series.points[series.points.length - 1];
    return `${series.name} ${end[1].toFixed(chart.decimals)} at epoch ${Number(end[0].toFixed(2))}`;
  });
  const svg = element("svg", {
    viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", tabindex: "0", "aria-label": `${chart.title}: ${told.join(", ")}`,
  });
  const values = ticks(low, high, 4);
  for (const value of values.found) {
    element("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }, svg);
    element("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, svg, value.toFixed(values.decimals));
  }
  const epochs = ticks(first, last, Math.max(2, Math.floor(width / 80)));
  for (const epoch of epochs.found) {
    const label = epoch.toFixed(epochs.decimals);
    element("text", { x: x(epoch), y: HEIGHT - 6, "text-anchor": "middle" }, svg, label);
  }
  if (chart.level) {
    const place = y(chart.level.value);
    element("line", { class: "level", x1: LEFT, x2: width - RIGHT, y1: place, y2: place }, svg);
    element("text", { x: width - RIGHT, y: place - 4, "text-anchor": "end" }, svg, chart.level.label);
  }
  for (const series of visible) {
    const path = series.points.map(([epoch, value]) => `${x(epoch).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    element("polyline", { class: `curve ${classOf(series)}`, points: path }, svg);
    if (series.points.length < 30) {
      for (const [epoch, value] of series.points) {
        element("circle", { class: `dot ${classOf(series)}`, cx: x(epoch), cy: y(value), r: 2 }, svg);
      }
    }
  }
  const cross = element("line", { class: "cross", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" }, svg);
  const marks = visible.map((series) =>
    element("circle", { class: `dot ${classOf(series)}`, r: 3.5, visibility: "hidden" }, svg));
  plot.replaceChildren(svg);

  const readings = [];
  legend.replaceChildren(...chart.series.map((series) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", String(!hidden.has(keyOf(series))));
    const key = element("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }, button);
    element("line", { class: classOf(series), x1: 0, x2: 22, y1: 4, y2: 4 }, key);
    const text = document.createElement("span"), reading = document.createElement("span");
    text.textContent = series.name || chart.title;
    reading.className = "reading";
    readings.push(reading);
    button.append(text, reading);
    button.addEventListener("click", () => {
      const key = keyOf(series), place = chart.series.indexOf(series);
      if (!hidden.delete(key)) hidden.add(key);
      drawChart(figure);
      legend.children[place].focus();
    });
    return button;
  }));

  // Shows the values at an epoch in the legend; of none, those at the end.
  function read(epoch) {
    cross.setAttribute("visibility", epoch === null ? "hidden" : "visible");
    const anchor = epoch === null ? null : nearest(points, epoch);
    if (anchor) {
      cross.setAttribute("x1", x(anchor[0]));
      cross.setAttribute("x2", x(anchor[0]));
    }
    chart.series.forEach((series, i) => {
      const place = visible.indexOf(series);
      const point = anchor ? nearest(series.points, anchor[0]) : series.points[series.points.length - 1];
      readings[i].textContent = place < 0 ? "" : point[1].toFixed(chart.decimals) +
        (anchor ? ` at ${Number(point[0].toFixed(2))}` : "");
      if (place < 0) return;
      marks[place].setAttribute("visibility", anchor ? "visible" : "hidden");
      marks[place].setAttribute("cx", x(point[0]));
      marks[place].setAttribute("cy", y(point[1]));
    });
    svg.dataset.epoch = anchor ? anchor[0] : "";
  }
  const grid = [...new Set(points.map((point) => point[0]))].sort((a, b) => a - b);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    read(first + ((event.clientX - box.left - LEFT) / (width - LEFT - RIGHT)) * (last - first));
  });
  svg.addEventListener("pointerleave", () => read(null));
  svg.addEventListener("blur", () => read(null));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const at = svg.dataset.epoch ? grid.indexOf(Number(svg.dataset.epoch)) : grid.length;
    if (event.key === "Escape") read(null);
    if (!step || !grid.length) return;
    event.preventDefault();
    read(grid[Math.min(grid.length - 1, Math.max(0, at + step))]);
  });
  read(null);
}

// Samples: one scrubber over the epochs of all runs; each shows its newest sheet of that epoch or before.

function startSamples() {
  const scrubber = document.getElementById("scrubber");
  if (!scrubber) return;
  for (const image of document.querySelectorAll(".sheet")) {
    data.samples[Number(image.dataset.run)].at(-1).url = image.src; // the page has the last one, the JSON has the others
  }
  const epochs = [...new Set(data.samples.flat().map((sample) => sample.epoch))].sort((a, b) => a - b);
  const show = () => {
    const epoch = epochs[Number(scrubber.value)];
    const text = `${Number(epoch.toFixed(2))}`;
    document.getElementById("epoch").textContent = text;
    scrubber.setAttribute("aria-valuetext", `epoch ${text}`);
    chosen.epoch = Number(scrubber.value) === epochs.length - 1 ? null : epoch; // at the end it stays at the end
    for (const image of document.querySelectorAll(".sheet")) {
      const samples = data.samples[Number(image.dataset.run)];
      const sample = samples.filter((each) => each.epoch <= epoch).pop() || samples[0];
      image.src = sample.url;
      image.alt = `Sample sheet of ${data.runs[Number(image.dataset.run)]}, ${sample.title}: ` +
        "input, target and generated image of a few pairs, a row each";
      image.parentElement.querySelector(".moment").textContent = sample.title;
    }
  };
  scrubber.max = epochs.length - 1;
  scrubber.value = chosen.epoch === null ? epochs.length - 1 : Math.max(0, epochs.indexOf(chosen.epoch));
  scrubber.disabled = epochs.length < 2;
  scrubber.addEventListener("input", show);
  show();
}

// Pairs: sliders and order.

function startSliders() {
  for (const slider of document.querySelectorAll(".slider")) {
    const show = () => {
      slider.parentElement.style.setProperty("--at", `${slider.value}%`);
      slider.setAttribute("aria-valuetext", `generated ${slider.value} %, target ${100 - slider.value} %`);
    };
    slider.addEventListener("input", show);
    show();
  }
}

// How bad a pair is by what the list is sorted by. A value that is not there is that of equal pictures: the best.
function badness(metric, run, scores) {
  const bad = (number) => {
    const value = scores[number][metric.name];
    return value === null ? -Infinity : metric.higher ? -value : value;
  };
  if (run !== "-") return bad(Number(run));
  const [one, other] = [bad(0), bad(1)];
  return one === other ? 0 : other - one;
}

function startGroup(group) {
  const number = Number(group.dataset.number), { metrics, scores } = data.groups[number];
  const cards = group.querySelector(".cards");
  const fields = ["sort", "order", "size"].map((name) => group.querySelector(`.${name}`));
  const [sort, order, size] = fields;
  const show = () => {
    chosen.groups[number] = fields.map((field) => field.value);
    const [run, name] = sort.value.split(":");
    const metric = metrics.find((each) => each.name === name);
    const sign = order.value === "worst" ? 1 : -1;
    const worth = scores.map((each) => badness(metric, run, each));
    const sorted = [...cards.children].map((card) => [Number(card.dataset.number), card]);
    sorted.sort(([a], [b]) => (worth[a] === worth[b] ? a - b : sign * (worth[a] < worth[b] ? 1 : -1)));
    cards.append(...sorted.map(([, card]) => card));
    cards.classList.toggle("large", size.value === "large");
    for (const score of cards.querySelectorAll(".scores span")) {
      score.classList.toggle("sorted", score.dataset.metric === name);
    }
  };
  (chosen.groups[number] || []).forEach((value, i) => {
    if ([...fields[i].options].some((option) => option.value === value)) fields[i].value = value;
  });
  for (const field of fields) field.addEventListener("change", show);
  show();
}

function startCopying() {
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", () => {
      const range = document.createRange();
      range.selectNodeContents(button.parentElement.querySelector("pre"));
      const selection = window.getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl-C";
    });
  }
}

function drawCharts() {
  for (const figure of document.querySelectorAll(".chart")) drawChart(figure);
}

function start() {
  drawCharts();
  startSamples();
  startSliders();
  for (const group of document.querySelectorAll(".group")) startGroup(group);
  startCopying();
}

// A run that is training: asks whether there is something new, and takes it over without moving the page.

async function refresh() {
  const following = document.getElementById("following");
  try {
    const version = await (await fetch("version", { cache: "no-store" })).text();
    if (version !== data.version) {
      const answer = await fetch("./", { cache: "no-store" });
      if (!answer.ok) throw new Error(await answer.text());
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const at = window.scrollY;
      data = readData(page);
      document.getElementById("main").replaceWith(document.adoptNode(page.getElementById("main")));
      document.getElementById("made").textContent = page.getElementById("made").textContent;
      start();
      window.scrollTo(0, at);
    }
    following.textContent = "follows the run";
  } catch (error) {
    following.textContent = "p2p-report does not answer";
  }
  window.setTimeout(refresh, 5000);
}

document.documentElement.classList.add("js");
start();
let drawnWidth = window.innerWidth;
window.addEventListener("resize", () => {
  if (window.innerWidth !== drawnWidth) drawCharts();
  drawnWidth = window.innerWidth;
});
if (data.version) window.setTimeout(refresh, 5000);
