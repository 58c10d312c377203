// Two pictures on top of each other, with a divider to drag between them.

const DIFFERENCE_GAIN = 8;
const FIRST_TARGET_BPP = 0.5;
const SMALLEST_STAGE = 520; // pixels: what the controls need
const LARGEST_STAGE = 768;
const GRIP = 22; // pixels around the divider that are taken for it
const PAN_STEP = 40; // pixels, by keyboard
const ORIGINAL = ""; // among the names of codecs
const SIDES = ["left", "right"];

/** Shows the pictures that are there, and what the controls ask for. */
function startSlider(data) {
  if (!data.comparisons.length) return;
  byId("slider").hidden = false;
  sizeStage(data.comparisons);
  const state = {
    comparison: null,
    wanted: { left: ORIGINAL, right: mainCodec(data) },
    zoom: "fit",
    split: 0.5, // of the stage's width
    centre: { x: 0.5, y: 0.5 }, // of the picture, in the middle of the stage
    pannable: false,
  };
  const view = { data, state, stage: byId("stage"), load: pictureLoader(data), latest: 0 };
  const images = [...new Set(data.comparisons.map((comparison) => comparison.image))];
  fillSelect(byId("image"), images.map((name) => [name, name]), images[0]);
  fillTargets(view, FIRST_TARGET_BPP);
  const changed = () => {
    chooseComparison(view);
    showPictures(view);
  };
  byId("image").addEventListener("change", () => {
    fillTargets(view, Number(byId("target").value));
    changed();
  });
  byId("target").addEventListener("change", changed);
  byId("difference").addEventListener("change", () => showPictures(view));
  for (const side of SIDES) {
    byId(side).addEventListener("change", () => {
      state.wanted[side] = byId(side).value;
      showPictures(view);
    });
  }
  const zooms = [["fit", "Fit"], ["1", "1×"], ["2", "2×"], ["4", "4×"]];
  makeChoices(byId("zoom"), zooms, state.zoom, (zoom) => {
    state.zoom = zoom;
    arrange(view);
  });
  listenToPointer(view);
  listenToKeys(view);
  new ResizeObserver(() => arrange(view)).observe(view.stage);
  changed();
}

/** As large as the largest picture, so that one pixel can be one, and as most screens allow. */
function sizeStage(comparisons) {
  const largest = (side) => Math.max(...comparisons.map((comparison) => comparison[side]));
  const width = clamp(largest("shown_width"), SMALLEST_STAGE, LARGEST_STAGE);
  byId("slider").parentElement.style.setProperty("--stage-width", `${width}px`);
  byId("stage").style.aspectRatio = `${largest("shown_width")} / ${largest("shown_height")}`;
}

/** The codec that the page is about. */
function mainCodec(data) {
  const own = data.series.find((series) => series.kind === "own");
  return (own ?? data.series[0])?.name ?? ORIGINAL;
}

function fillSelect(select, options, wanted) {
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  const there = options.some(([value]) => value === wanted);
  select.value = there ? wanted : options[0][0];
}

/** The targets of the chosen image, of which the one nearest to `wanted` is taken. */
function fillTargets(view, wanted) {
  const targets = view.data.comparisons
    .filter((comparison) => comparison.image === byId("image").value)
    .map((comparison) => comparison.target_bpp);
  const nearest = targets.reduce((best, target) =>
    Math.abs(target - wanted) < Math.abs(best - wanted) ? target : best);
  fillSelect(byId("target"), targets.map((target) => [String(target), `${short(target)} bpp`]),
    String(nearest));
}

function chooseComparison({ data, state }) {
  state.comparison = data.comparisons.find((comparison) =>
    comparison.image === byId("image").value &&
    String(comparison.target_bpp) === byId("target").value);
  const codecs = state.comparison.coded.map(({ codec }) => [codec, codec]);
  for (const side of SIDES) {
    fillSelect(byId(side), [[ORIGINAL, "original"], ...codecs], state.wanted[side]);
  }
  const out = state.comparison.left_out;
  byId("left-out").textContent = out.length ? `Left out here: ${out.join("; ")}` : "";
}

/** Each picture is decoded once. */
function pictureLoader(data) {
  const loaded = new Map();
  return (number) => {
    if (!loaded.has(number)) {
      const image = new Image();
      image.src = data.pictures[number];
      loaded.set(number, image.decode().then(() => image));
    }
    return loaded.get(number);
  };
}

function codedOn(side, comparison) {
  return comparison.coded.find(({ codec }) => codec === byId(side).value);
}

async function showPictures(view) {
  const { comparison } = view.state;
  view.latest += 1;
  const ticket = view.latest;
  const numbers = SIDES.map((side) => codedOn(side, comparison)?.picture ?? comparison.original);
  let pictures;
  try {
    pictures = await Promise.all([...numbers, comparison.original].map(view.load));
  } catch {
    byId("left-out").textContent = "This browser cannot show these pictures (lossless WebP).";
    return;
  }
  if (ticket !== view.latest) return; // something else was chosen meanwhile
  const original = byId("difference").checked ? pictures[2] : null;
  SIDES.forEach((side, index) => {
    paint(byId(`${side}-layer`).firstElementChild, pictures[index], original);
    describe(view, side);
  });
  arrange(view);
}

/** The picture itself, or how far it is from `original`, where that is given. */
function paint(canvas, picture, original) {
  canvas.width = picture.naturalWidth;
  canvas.height = picture.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const pixelsOf = (image) => {
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  };
  const pixels = pixelsOf(picture);
  if (!original) return;
  const reference = pixelsOf(original).data;
  const { data } = pixels; // clamps at 255
  for (let i = 0; i < data.length; i += 1) {
    if (i % 4 !== 3) data[i] = DIFFERENCE_GAIN * Math.abs(data[i] - reference[i]);
  }
  context.putImageData(pixels, 0, 0);
}

/** Says what a side shows: on the picture, below it, and to those who do not see it. */
function describe({ data, state }, side) {
  const { comparison } = state;
  const coded = codedOn(side, comparison);
  const name = coded ? coded.codec : "original";
  const facts = coded
    ? [
      `${fixed(coded.bpp, 3)} bpp`,
      `${fixed(coded.size_bytes / 1000, 1)} kB`,
      ...(coded.quality === null ? [] : [`quality ${short(coded.quality)}`]),
      ...data.metrics.filter((metric) => typeof coded.metrics[metric.name] === "number")
        .map((metric) => `${metric.title} ${fixed(coded.metrics[metric.name], metric.digits)}` +
          (metric.mean_unit ? ` ${metric.mean_unit}` : "")),
    ]
    : [`${comparison.width}×${comparison.height} pixels`];
  if (!coded && (comparison.shown_width < comparison.width ||
      comparison.shown_height < comparison.height)) {
    facts.push(`of which the middle ${comparison.shown_width}×${comparison.shown_height} are shown`);
  }
  const view = byId("difference").checked ? `, difference ×${DIFFERENCE_GAIN}` : "";
  byId(`${side}-tag`).textContent = name + view;
  byId(`${side}-caption`).replaceChildren(make("strong", {}, name),
    ...facts.map((fact) => make("span", {}, fact)));
  byId(`${side}-layer`).firstElementChild.setAttribute("aria-label",
    `${comparison.image}, ${name}${view}: ${facts.join(", ")}`);
}

/** Places the pictures and the divider on the stage. */
function arrange({ stage, state }) {
  const canvases = SIDES.map((side) => byId(`${side}-layer`).firstElementChild);
  const room = { width: stage.clientWidth, height: stage.clientHeight };
  const fit = Math.min(room.width / canvases[0].width, room.height / canvases[0].height);
  const fitting = fit >= 1 ? Math.floor(fit) : fit; // whole pixels stay sharp
  const scale = state.zoom === "fit" ? fitting : Number(state.zoom);
  const width = canvases[0].width * scale;
  const height = canvases[0].height * scale;
  state.size = { width, height };
  state.pannable = width > room.width + 0.5 || height > room.height + 0.5;
  // an edge of the picture never comes inside of the stage; a small picture is centred
  const half = (span, whole) => Math.min(0.5, span / whole / 2);
  const inner = (centre, part) => clamp(centre, part, 1 - part);
  state.centre.x = inner(state.centre.x, half(room.width, width));
  state.centre.y = inner(state.centre.y, half(room.height, height));
  for (const canvas of canvases) {
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    canvas.style.left = `${room.width / 2 - state.centre.x * width}px`;
    canvas.style.top = `${room.height / 2 - state.centre.y * height}px`;
    canvas.classList.toggle("enlarged", scale >= 1);
  }
  stage.classList.toggle("pannable", state.pannable);
  arrangeDivider(stage, state);
}

function arrangeDivider(stage, state) {
  const percent = 100 * state.split;
  byId("left-layer").style.clipPath = `inset(0 ${100 - percent}% 0 0)`;
  byId("right-layer").style.clipPath = `inset(0 0 0 ${percent}%)`;
  const divider = byId("divider");
  divider.style.left = `${percent}%`;
  divider.setAttribute("aria-valuenow", Math.round(percent));
  // a name does not stand on the other side's picture
  const room = { left: state.split * stage.clientWidth };
  room.right = stage.clientWidth - room.left;
  for (const side of SIDES) {
    const tag = byId(`${side}-tag`);
    tag.classList.toggle("away", tag.offsetWidth + 20 > room[side]);
  }
}

function moveDivider({ stage, state }, split) {
  state.split = clamp(split, 0, 1);
  arrangeDivider(stage, state);
}

/** Moves the picture by that many pixels. */
function pan(view, x, y) {
  const { centre, size } = view.state;
  centre.x -= x / size.width;
  centre.y -= y / size.height;
  arrange(view);
}

/** Near the divider a drag moves it, elsewhere the picture if it is larger than the stage. */
function listenToPointer(view) {
  const { stage, state } = view;
  let drag = null;
  const splitAt = (event) => {
    const box = stage.getBoundingClientRect();
    return (event.clientX - box.left) / box.width;
  };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const away = Math.abs(splitAt(event) - state.split) * stage.clientWidth;
    drag = { pans: state.pannable && away > GRIP, x: event.clientX, y: event.clientY };
    stage.setPointerCapture(event.pointerId);
    if (!drag.pans) moveDivider(view, splitAt(event));
    event.preventDefault(); // no selection of text
    byId("divider").focus({ preventScroll: true });
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    if (drag.pans) {
      pan(view, event.clientX - drag.x, event.clientY - drag.y);
      [drag.x, drag.y] = [event.clientX, event.clientY];
    } else {
      moveDivider(view, splitAt(event));
    }
  });
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, () => { drag = null; });
  }
}

function listenToKeys(view) {
  const pans = {
    ArrowLeft: [PAN_STEP, 0],
    ArrowRight: [-PAN_STEP, 0],
    ArrowUp: [0, PAN_STEP],
    ArrowDown: [0, -PAN_STEP],
  };
  const steps = {
    ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02,
    PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1,
  };
  byId("divider").addEventListener("keydown", (event) => {
    if (event.shiftKey && event.key in pans) pan(view, ...pans[event.key]);
    else if (event.key in steps) moveDivider(view, view.state.split + steps[event.key]);
    else return;
    event.preventDefault();
  });
}
