// Values under the pointer, read from the paths; and a group alone, by a click on its row. The page is whole without it.
"use strict";
for (const svg of document.querySelectorAll(".plot svg")) {
  const out = svg.closest("figure").querySelector(".out"), share = "share" in svg.dataset,
    unit = +(svg.dataset.unit || 1);
  let lines = null;
  const read = () => [...svg.querySelectorAll("path[data-l]")].map(path => ({
    label: path.dataset.l, colour: getComputedStyle(path).color,
    at: [...path.getAttribute("d").matchAll(/[ML]([^ ]+) ([^MLh]+)/g)].map(m => [+m[1], +m[2]]),
    rows: path.dataset.n ? path.dataset.n.split(" ") : null}));
  const show = event => {
    lines ??= read();
    const box = svg.getBoundingClientRect(), m = svg.querySelector("g").transform.baseVal.consolidate().matrix;
    const x = ((event.clientX - box.left) / box.width * svg.viewBox.baseVal.width - m.e) / m.a;
    let step = null;
    for (const line of lines) for (const [at] of line.at)
      if (step === null || Math.abs(at - x) < Math.abs(step - x)) step = at;
    out.replaceChildren(document.createElement("span"));
    out.firstChild.textContent = "step " + step;
    for (const line of lines) {
      let near = -1;
      line.at.forEach(([at], i) => { if (near < 0 || Math.abs(at - step) < Math.abs(line.at[near][0] - step)) near = i; });
      if (near < 0 || (lines.length > 9 && line.at[near][0] !== step)) continue;
      const [at, y] = line.at[near], span = document.createElement("span");
      span.style.color = line.colour;
      span.textContent = line.label + " " + (share ? +(100 * y * unit).toPrecision(4) + "%" : +(y * unit).toPrecision(4)) +
        (at === step ? "" : " at " + at) + (line.rows ? " (line " + line.rows[near] + ")" : "");
      out.append(span);
    }
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
}
for (const row of document.querySelectorAll("tr.pick")) row.addEventListener("click", () => {
  const again = row.classList.toggle("picked");
  document.body.classList.toggle("focus", again);
  for (const other of document.querySelectorAll("tr.pick")) if (other !== row) other.classList.remove("picked");
  for (const path of document.querySelectorAll("path[data-g]"))
    path.classList.toggle("on", again && path.dataset.g === row.dataset.g);
});
