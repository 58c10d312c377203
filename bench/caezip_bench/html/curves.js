// Rate-distortion curves: bpp on a logarithmic axis, one metric at a time.

const PLOT_MARGIN = { left: 44, right: 14, top: 12, bottom: 38 }; // pixels, for the labels
const REACH = 48; // pixels within which the pointer finds a point
const TICKS_BPP = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20];
const DASHES = ["5 3", "2 2", "8 3", "8 3 2 3", "3 4", "12 3"]; // of published curves
const MARKERS = [
  (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  (r) => `M${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}z`,
  (r) => `M0 ${-1.3 * r}L${1.2 * r} ${r}H${-1.2 * r}z`,
  (r) => `M0 ${-1.4 * r}L${1.4 * r} 0L0 ${1.4 * r}L${-1.4 * r} 0z`,
  (r) => `M0 ${1.3 * r}L${1.2 * r} ${-r}H${-1.2 * r}z`,
];

/** Draws the curves, and again whenever the choice or the size changes. */
function startCurves(data) {
  const metrics = data.metrics.filter((metric) =>
    data.series.some((series) => series.curves[metric.name]));
  if (!metrics.length) {
    byId("curves").hidden = true;
    return;
  }
  const plot = byId("plot");
  const state = { metric: metrics[0], found: null, points: [], size: "" };
  const tooltip = make("div", { class: "tooltip", role: "status" });
  const drawing = draw("svg", { role: "application", tabindex: 0 });
  plot.append(drawing, tooltip);
  tooltip.hidden = true;

  const redraw = () => {
    state.found = null;
    tooltip.hidden = true;
    state.size = sizeOf(drawing);
    state.points = drawCurves(drawing, data.series, state.metric);
  };
  const changed = () => {
    drawLegend(data.series, state.metric, changed);
    redraw();
  };
  const find = (point) => {
    state.found = point;
    showPoint(drawing, tooltip, point, state.metric);
  };

  makeChoices(byId("metrics"), metrics.map((m) => [m.name, m.title]), metrics[0].name, (name) => {
    state.metric = metrics.find((metric) => metric.name === name);
    changed();
  });
  for (const kind of ["pointermove", "pointerdown"]) {
    drawing.addEventListener(kind, (event) => {
      const box = drawing.getBoundingClientRect();
      find(nearestPoint(state.points, event.clientX - box.left, event.clientY - box.top));
    });
  }
  drawing.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") find(null); // after a touch the tooltip stays
  });
  drawing.addEventListener("blur", () => find(null));
  drawing.addEventListener("keydown", (event) => {
    const next = neighbour(state.points, state.found, event.key);
    if (next !== undefined) {
      event.preventDefault();
      find(next);
    }
  });
  changed();
  // an observer starts with the size that was drawn just now: what is pointed at then stays
  new ResizeObserver(() => sizeOf(drawing) === state.size || redraw()).observe(plot);
}

function sizeOf(drawing) {
  return `${drawing.clientWidth} x ${drawing.clientHeight}`;
}

/** One button for each curve of this metric; of published ones at first only those shown. */
function drawLegend(series, metric, changed) {
  const legend = byId("legend");
  const button = (item) => {
    const chip = make("button", { type: "button", "aria-pressed": item.shown, title: item.about },
      make("span", { class: `swatch ${item.style}` }), item.name);
    chip.dataset.series = item.name;
    chip.addEventListener("click", () => {
      item.shown = !item.shown;
      changed();
      // the button is a new one now
      legend.querySelector(`[data-series="${CSS.escape(item.name)}"]`).focus();
    });
    return chip;
  };
  const present = series.filter((item) => item.curves[metric.name]);
  const published = present.filter((item) => item.kind === "published");
  const listed = published.filter((item) => item.listed || item.shown);
  for (const item of listed) item.listed = true; // and stays so when it is switched off
  const rest = published.filter((item) => !item.listed);
  legend.replaceChildren(...present.filter((item) => item.kind !== "published").map(button));
  if (published.length) {
    legend.append(make("span", { class: "break" }, "published, not run here:"),
      ...listed.map(button));
  }
  if (rest.length) {
    const more = make("button", { type: "button", class: "more" }, `${rest.length} more…`);
    more.addEventListener("click", () => {
      for (const item of rest) item.listed = true;
      drawLegend(series, metric, changed);
      legend.querySelector(`[data-series="${CSS.escape(rest[0].name)}"]`).focus();
    });
    legend.append(more);
  }
  const unit = metric.unit ? ` in ${metric.unit}` : "";
  byId("curve-note").textContent = `${metric.title}${unit}: ${metric.curve} over the images`;
}

/** Fills the drawing; returns all points with their places in pixels. */
function drawCurves(drawing, series, metric) {
  const width = drawing.clientWidth;
  const height = drawing.clientHeight;
  const shown = series.filter((item) => item.shown && item.curves[metric.name]);
  const all = shown.flatMap((item) => item.curves[metric.name]);
  drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
  drawing.setAttribute("aria-label",
    `${metric.title} over bits per pixel of ${shown.map((item) => item.name).join(", ")}. ` +
    "Arrow keys go from point to point.");
  if (!all.length || !width) {
    drawing.replaceChildren();
    return [];
  }
  const scale = makeScale(all, width, height);
  const dashed = series.filter((item) => item.kind === "published");
  const points = [];
  const groups = shown.map((item) => {
    const places = item.curves[metric.name]
      .map((point) => ({ ...point, series: item, x: scale.x(point.bpp), y: scale.y(point.value) }))
      .sort((one, other) => one.bpp - other.bpp);
    points.push(...places);
    const number = series.indexOf(item);
    const dash = item.kind === "published" ? DASHES[dashed.indexOf(item) % DASHES.length] : null;
    return { item, group: drawCurve(item, places, MARKERS[number % MARKERS.length], dash) };
  });
  const order = ["published", "peer", "own"]; // caezip's own come to lie on top
  groups.sort((one, other) => order.indexOf(one.item.kind) - order.indexOf(other.item.kind));
  drawing.replaceChildren(
    drawAxes(scale, width, height, metric),
    draw("g", { class: "curves" }, ...groups.map(({ group }) => group)),
    draw("g", { class: "found" }));
  return points;
}

function drawCurve(item, places, marker, dash) {
  const line = places.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  const radius = item.kind === "own" ? 3.4 : 2.6;
  const group = draw("g", { class: `curve ${item.kind} ${item.style}` },
    draw("polyline", { points: line, "stroke-dasharray": dash }));
  group.dataset.series = item.name;
  if (item.kind !== "published") {
    group.append(...places.map(({ x, y }) =>
      draw("path", { d: marker(radius), transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` })));
  }
  return group;
}

/** From bpp and values to pixels, with a little room at the ends. */
function makeScale(points, width, height) {
  const rates = points.map((point) => Math.log(point.bpp));
  const values = points.map((point) => point.value);
  const range = (numbers, margin) => {
    const low = Math.min(...numbers);
    const high = Math.max(...numbers);
    const room = (high - low || 1) * margin;
    return [low - room, high + room];
  };
  const [lowRate, highRate] = range(rates, 0.03);
  const [lowValue, highValue] = range(values, 0.04);
  const innerWidth = width - PLOT_MARGIN.left - PLOT_MARGIN.right;
  const innerHeight = height - PLOT_MARGIN.top - PLOT_MARGIN.bottom;
  return {
    lowValue,
    highValue,
    lowBpp: Math.exp(lowRate),
    highBpp: Math.exp(highRate),
    x: (bpp) =>
      PLOT_MARGIN.left + ((Math.log(bpp) - lowRate) / (highRate - lowRate)) * innerWidth,
    y: (value) =>
      PLOT_MARGIN.top + ((highValue - value) / (highValue - lowValue)) * innerHeight,
  };
}

function drawAxes(scale, width, height, metric) {
  const right = width - PLOT_MARGIN.right;
  const bottom = height - PLOT_MARGIN.bottom;
  const axes = draw("g", { class: "axes" });
  for (const bpp of TICKS_BPP.filter((b) => b >= scale.lowBpp && b <= scale.highBpp)) {
    const x = scale.x(bpp);
    axes.append(
      draw("line", { x1: x, x2: x, y1: PLOT_MARGIN.top, y2: bottom }),
      draw("text", { x, y: bottom + 15, "text-anchor": "middle" }, String(bpp)));
  }
  for (const value of niceTicks(scale.lowValue, scale.highValue)) {
    const y = scale.y(value);
    axes.append(
      draw("line", { x1: PLOT_MARGIN.left, x2: right, y1: y, y2: y }),
      draw("text", { x: PLOT_MARGIN.left - 7, y: y + 4, "text-anchor": "end" }, short(value)));
  }
  const unit = metric.unit ? ` (${metric.unit})` : "";
  axes.append(
    draw("text", { x: (PLOT_MARGIN.left + right) / 2, y: height - 4, "text-anchor": "middle" },
      "bits per pixel, whole file (log scale)"),
    draw("text", { transform: `translate(11 ${bottom / 2}) rotate(-90)`, "text-anchor": "middle" },
      metric.title + unit));
  return axes;
}

/** Some round numbers between the two. */
function niceTicks(low, high) {
  const rough = (high - low) / 7;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const ticks = [];
  for (let tick = Math.ceil(low / step); tick * step <= high; tick += 1) ticks.push(tick * step);
  return ticks;
}

function nearestPoint(points, x, y) {
  let best = null;
  let least = REACH;
  for (const point of points) {
    const distance = Math.hypot(point.x - x, point.y - y);
    if (distance < least) [best, least] = [point, distance];
  }
  return best;
}

/** Where an arrow key leads: along the curve, or to the next curve's nearest point. */
function neighbour(points, found, key) {
  if (key === "Escape") return null;
  if (!key.startsWith("Arrow") || !points.length) return undefined;
  if (!found) return points[0];
  const step = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
  if (key === "ArrowLeft" || key === "ArrowRight") {
    const same = points.filter((point) => point.series === found.series);
    return same[clamp(same.indexOf(found) + step, 0, same.length - 1)];
  }
  const series = [...new Set(points.map((point) => point.series))];
  const next = series[(series.indexOf(found.series) + step + series.length) % series.length];
  const away = (point) => Math.abs(point.x - found.x);
  return points.filter((point) => point.series === next)
    .reduce((best, point) => (away(point) < away(best) ? point : best));
}

/** Marks a point and says what it is; null takes both away. */
function showPoint(drawing, tooltip, point, metric) {
  tooltip.hidden = !point;
  for (const group of drawing.querySelectorAll(".curve")) {
    group.classList.toggle("faint", Boolean(point) && group.dataset.series !== point.series.name);
  }
  drawing.querySelector(".found")?.replaceChildren();
  if (!point) return;
  const bottom = drawing.clientHeight - PLOT_MARGIN.bottom;
  drawing.querySelector(".found").append(
    draw("path", { d: `M${point.x} ${bottom}V${point.y}H${PLOT_MARGIN.left}` }),
    draw("circle", { cx: point.x, cy: point.y, r: 7, class: point.series.style }));
  const unit = metric.unit ? ` ${metric.unit}` : "";
  const published = point.series.kind === "published";
  tooltip.replaceChildren(
    make("strong", {}, make("span", { class: `swatch ${point.series.style}` }), point.series.name),
    make("span", {}, published ? "published, not run here" : `quality ${short(point.quality)}`),
    make("span", {}, `${fixed(point.bpp, 3)} bpp`),
    make("span", {}, `${metric.title} ${fixed(point.value, 2)}${unit}`));
  // below to the right or above to the left, where a rising curve is not; never outside
  const before = point.x > drawing.clientWidth / 2;
  const left = before ? point.x - 12 - tooltip.offsetWidth : point.x + 12;
  const top = clamp(before ? point.y - 12 - tooltip.offsetHeight : point.y + 12, 0,
    drawing.clientHeight - tooltip.offsetHeight);
  tooltip.style.left = `${clamp(left, 0, drawing.clientWidth - tooltip.offsetWidth)}px`;
  tooltip.style.top = `${top}px`;
}
