// Static charts become charts to look into: uPlot draws what stands in their paths, over steps, samples, FLOPs or time.
// Without scripts, and in print, the paths themselves are seen.
"use strict";
const AXES = {step: "step", samples: "samples", flops: "FLOPs", seconds: "time"}, HEIGHT = 216;
const clocks = JSON.parse(document.getElementById("clocks").textContent);
const asked = {axis: "step", smooth: 1, group: null};
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const fade = (colour, alpha) => colour.replace("rgb(", "rgba(").replace(")", `, ${alpha})`);
const compact = new Intl.NumberFormat("en", {notation: "compact", maximumSignificantDigits: 3});

function time(seconds) {
  const two = n => String(Math.floor(n)).padStart(2, "0");
  return seconds < 3600 ? `${Math.floor(seconds / 60)}:${two(seconds % 60)}` : `${Math.floor(seconds / 3600)}:${two(seconds / 60 % 60)} h`;
}
const along = x => asked.axis === "seconds" ? time(x) : asked.axis === "step" ? String(x) : compact.format(x);

// the place of a step on the axis that was asked for
function placed(clock, step) {
  if (asked.axis === "step") return step;
  const {step: at, [asked.axis]: value} = clock;
  let i = at.findIndex(one => one >= step);
  if (i < 0) i = at.length - 1;
  if (i === 0 || at[i] === step) return value[i];
  return value[i - 1] + (value[i] - value[i - 1]) * (step - at[i - 1]) / (at[i] - at[i - 1]);
}

// the curves of a chart; a band is two
function read(svg) {
  const unit = +svg.dataset.unit, found = [];
  for (const path of svg.querySelectorAll("path[data-x]")) {
    const [kind] = path.classList, {l: label, g: group, n: rows} = path.dataset, clock = clocks[path.dataset.x];
    const points = [...path.getAttribute("d").matchAll(/[ML]([^ MLhZ]+) ([^MLhZ]+)/g)].map(m => [+m[1], m[2] * unit]);
    const line = {kind, label, group, clock, colour: getComputedStyle(path).color, dash: path.classList.contains("d1") ? [9, 3] : path.classList.contains("d2") ? [2, 3] : []};
    if (kind === "band") {
      const half = points.length / 2;
      found.push({...line, points: points.slice(0, half), upper: true}, {...line, points: points.slice(half).reverse()});
    } else found.push({...line, points, rows: rows?.split(" ")});
  }
  return found;
}

function smoothed(values, width) {
  return values.map((_, i) => {
    const near = values.slice(Math.max(0, i - width), i + width + 1);
    return near.reduce((sum, one) => sum + one, 0) / near.length;
  });
}

function looked(line) {
  if (asked.group !== null && line.group !== undefined && line.group !== asked.group) return {stroke: fade(line.colour, .06), width: 1};
  if (line.kind === "raw") return asked.smooth ? {stroke: fade(line.colour, .38), width: 1} : {stroke: line.colour, width: 1.2};
  if (line.kind === "plan") return {stroke: fade(line.colour, .75), width: 2, dash: [6, 4]};
  if (line.kind === "band") return {stroke: "transparent", width: 0};
  if (line.kind === "dots") return {stroke: "transparent", paths: () => null, points: {show: true, size: 6, stroke: line.colour, fill: line.colour}};
  return {stroke: line.colour, width: 2.2, dash: line.dash};
}

function build(figure) {
  figure.live?.destroy();
  const svg = figure.querySelector(".plot svg"), share = "share" in svg.dataset, noisy = "noisy" in svg.dataset;
  const range = svg.dataset.y.split(" ").map(Number), out = figure.querySelector(".out");
  const value = y => share ? +(100 * y).toPrecision(4) + "%" : +y.toPrecision(4);
  let lines = read(svg);
  if (noisy && !asked.smooth) lines = lines.filter(line => line.kind === "raw");
  const tables = [], series = [{}], bands = [];
  for (const line of lines) {
    const x = line.points.map(([step]) => placed(line.clock, step)), y = line.points.map(point => point[1]);
    tables.push([x, noisy && asked.smooth > 1 && line.kind !== "raw" ? smoothed(y, asked.smooth) : y]);
    if (line.rows) line.row = new Map(x.map((one, i) => [one, line.rows[i]]));
    if (line.upper) bands.push({series: [series.length, series.length + 1], fill: fade(line.colour, asked.group === null || line.group === asked.group ? .16 : .03)});
    series.push({label: line.label, spanGaps: true, points: {show: false}, ...looked(line)});
  }
  const dim = style("--dim"), axis = {stroke: dim, font: "11.5px system-ui", ticks: {show: false}};
  const marks = (svg.dataset.marks || "").split(" ").filter(Boolean).map(step => placed(lines[0].clock, +step));
  figure.classList.add("live");
  figure.live = new uPlot({
    width: figure.clientWidth, height: HEIGHT, series, bands, padding: [6, 10, 0, 0], legend: {show: false},
    cursor: {sync: {key: "charts"}, y: false, points: {size: 5}},
    scales: {x: {time: false}, y: {range: () => range}},
    axes: [
      {...axis, grid: {show: false}, size: 26, space: 60, values: (_, ticks) => ticks.map(along), incrs: asked.axis === "seconds" ? [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21600, 86400] : undefined},
      {...axis, grid: {stroke: style("--rule"), width: 1}, size: 50, space: 36, values: (_, ticks) => ticks.map(value)},
    ],
    hooks: {
      draw: [u => {
        u.ctx.save();
        u.ctx.strokeStyle = dim;
        u.ctx.setLineDash([4, 4]);
        for (const x of marks) {
          const at = u.valToPos(x, "x", true);
          u.ctx.beginPath();
          u.ctx.moveTo(at, u.bbox.top);
          u.ctx.lineTo(at, u.bbox.top + u.bbox.height);
          u.ctx.stroke();
        }
        u.ctx.restore();
      }],
      setCursor: [u => tell(u, lines, out, value)],
    },
  }, uPlot.join(tables), figure.querySelector(".canvas"));
}

// the values under the pointer, each with its line of metrics.jsonl
function tell(u, lines, out, value) {
  out.replaceChildren();
  const {idx} = u.cursor;
  if (idx === null || idx === undefined) return;
  const say = (text, colour) => {
    const span = out.appendChild(document.createElement("span"));
    span.textContent = text;
    if (colour) span.style.color = colour;
  };
  const here = u.data[0][idx];
  say(`${AXES[asked.axis]} ${along(here)}`);
  lines.forEach((line, i) => {
    if (!line.label || (asked.group !== null && line.group !== asked.group)) return;
    const column = u.data[i + 1];
    for (let far = 0; far < column.length; far++) for (const at of [idx - far, idx + far]) {
      const y = column[at];
      if (y === null || y === undefined) continue;
      const x = u.data[0][at], row = line.row?.get(x);
      if (lines.length <= 9 || x === here)
        say(`${line.label} ${value(y)}${x === here ? "" : " at " + along(x)}${row ? ` (line ${row})` : ""}`, line.colour);
      return;
    }
  });
}

const figures = [...document.querySelectorAll("figure")].filter(figure => figure.querySelector(".plot svg"));
const again = () => figures.forEach(figure => figure.live && build(figure));
// one by one, so that a page of many runs answers meanwhile
for (const figure of figures) setTimeout(() => {
  build(figure);
  new ResizeObserver(() => figure.live.setSize({width: figure.clientWidth, height: HEIGHT})).observe(figure);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);

const controls = document.querySelector(".controls");
if (controls) {
  controls.hidden = false;
  for (const option of controls.axis.options) option.disabled = !clocks.every(clock => clock[option.value]);
  controls.addEventListener("change", () => {
    asked.axis = controls.axis.value;
    asked.smooth = +controls.smooth.value;
    again();
  });
}
for (const row of document.querySelectorAll("tr.pick")) row.addEventListener("click", () => {
  const picked = row.classList.toggle("picked");
  asked.group = picked ? row.dataset.g : null;
  document.body.classList.toggle("focus", picked);
  for (const other of document.querySelectorAll("tr.pick")) if (other !== row) other.classList.remove("picked");
  for (const path of document.querySelectorAll("path[data-g]")) path.classList.toggle("on", picked && path.dataset.g === row.dataset.g);
  again();
});
