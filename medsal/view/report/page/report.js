"use strict";
// The viewer of a report: niivue for volumes, a plain canvas for pictures. No network.

const byId = (id) => document.getElementById(id);
const about = JSON.parse(byId("case").textContent);
const controls = {};
for (const id of ["method", "target", "opacity", "threshold", "fade", "layout", "black", "white",
  "radiological", "crosshair", "peak"]) controls[id] = byId(id);
const canvas = byId("canvas");
const cache = new Map();

async function unpack(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

async function remembered(id, make) {
  if (!cache.has(id)) cache.set(id, await make(await unpack(id)));
  return cache.get(id);
}

function say(text) {
  byId("status").textContent = text;
  console.log(`medsal: ${text}`);
}

function number(value) {
  return Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "none";
}

function chosen() {
  const method = Number(controls.method.value);
  const target = Number(controls.target.value);
  return about.maps.find((map) => map.method === method && map.target === target);
}

// Targets that the method was not asked for cannot be chosen.
function offer() {
  const method = Number(controls.method.value);
  const has = new Set(about.maps.filter((m) => m.method === method).map((m) => m.target));
  for (const option of controls.target.options) option.disabled = !has.has(Number(option.value));
  if (!has.has(Number(controls.target.value))) controls.target.value = String([...has][0]);
}

function threshold(map) {
  const value = Number(controls.threshold.value) * map.top;
  byId("threshold-value").textContent = number(value);
  return value;
}

function readout(parts) {
  byId("readout").textContent = parts.filter(Boolean).join(" \u00b7 ");
}

function value(map, raw) {
  return `${map.name}: ${number(raw)} raw, to within ${number(map.step / 2)}`;
}

function show() {
  byId("controls").hidden = false;
  byId("stage").hidden = false;
  byId("readout").hidden = false;
  byId("hint").hidden = false;
}

function listen(redraw, events) {
  for (const [id, act] of Object.entries(events)) {
    const event = controls[id].type === "button" ? "click" : "input";
    controls[id].addEventListener(event, () => Promise.resolve(act()).then(redraw).catch(fail));
  }
}

function fail(error) {
  document.documentElement.dataset.state = "failed";
  say(`The interactive viewer can't run here (${error.message}). The pictures show the same maps.`);
}

// Volumes -------------------------------------------------------------------------------------

async function viewVolume() {
  if (!document.createElement("canvas").getContext("webgl2")) throw new Error("no WebGL 2");
  const script = document.createElement("script");
  script.textContent = new TextDecoder().decode(await unpack("niivue"));
  document.head.append(script);
  const { Niivue, NVImage, SLICE_TYPE } = globalThis.niivue;
  show();
  const nv = new Niivue({
    logLevel: "error", backColor: [0, 0, 0, 1], crosshairColor: [0.3, 0.82, 0.77, 0.9],
    crosshairGap: 10, crosshairWidth: 0.5, fontColor: [0.95, 0.95, 0.96, 1], isColorbar: true, dragAndDropEnabled: false,
    isOrientationTextVisible: about.known, showAllOrientationMarkers: true, isRadiologicalConvention: about.known, sagittalNoseLeft: about.known,
    multiplanarForceRender: false, multiplanarShowRender: 0, multiplanarEqualSize: false,
    clipPlaneHotKey: "", cycleClipPlaneHotKey: "", viewModeHotKey: "",
  });
  for (const [name, colours] of Object.entries(about.colours)) nv.addColormap(name, colours);
  await nv.attachToCanvas(canvas);
  const scan = await NVImage.loadFromUrl({
    url: await unpack("scan"), name: "scan.nii", colormap: "gray",
    cal_min: about.scan.black, cal_max: about.scan.white, colorbarVisible: false,
  });
  nv.addVolume(scan);

  const load = (map) => remembered(map.id, (url) => NVImage.loadFromUrl({
    url, name: `${map.id}.nii`, colormap: map.signed ? "above" : "heat",
    colormapNegative: map.signed ? "below" : "", cal_min: 0, cal_max: map.top,
  }));

  // The textures are made anew at each change, so a map is styled before it is added.
  async function choose() {
    offer();
    const map = chosen();
    const volume = await load(map);
    style(volume, map);
    if (nv.volumes[1] === volume) return;
    for (const old of nv.volumes.slice(1)) nv.removeVolume(old);
    nv.addVolume(volume);
    if (about.unseen) nv.addVolume(await remembered("unseen", (url) => NVImage.loadFromUrl({
      url, name: "unseen.nii", colormap: "veil", cal_min: 0, cal_max: 1, opacity: 0.4,
      colorbarVisible: false,
    })));
  }

  function style(volume, map) {
    volume.cal_min = Math.max(threshold(map), map.top * 1e-6);
    volume.cal_max = map.top;
    volume.colormapType = controls.fade.checked ? 1 : 2;
    volume.opacity = Number(controls.opacity.value);
  }

  function restyle() {
    style(nv.volumes[1], chosen());
    scan.cal_min = Math.min(Number(controls.black.value), Number(controls.white.value) - 1e-6);
    scan.cal_max = Number(controls.white.value);
    nv.opts.isRadiologicalConvention = controls.radiological.checked;
    nv.opts.crosshairWidth = controls.crosshair.checked ? 0.5 : 0;
    nv.updateGLVolume();
  }

  function move(place) {
    nv.scene.crosshairPos = nv.mm2frac(place, 0, true);
    nv.createOnLocationChange();
    nv.drawScene();
  }

  nv.onLocationChange = (at) => {
    const map = chosen();
    const [x, y, z] = at.mm;
    const raw = (id) => at.values.find((each) => each.name === `${id}.nii`)?.value;
    const unseen = raw("unseen") > 0;
    readout([
      about.known ? `RAS ${x.toFixed(1)}, ${y.toFixed(1)}, ${z.toFixed(1)} mm`
        : `voxel ${[x, y, z].map(Math.round).join(", ")}`,
      unseen ? "outside what the network saw" : value(map, raw(map.id)),
      `scan: ${number(raw("scan"))}`,
    ]);
  };
  const layouts = {
    planes: SLICE_TYPE.MULTIPLANAR, axial: SLICE_TYPE.AXIAL, coronal: SLICE_TYPE.CORONAL,
    sagittal: SLICE_TYPE.SAGITTAL, render: SLICE_TYPE.RENDER,
  };
  const peak = () => move(chosen().place);
  listen(() => nv.createOnLocationChange(), {
    method: choose, target: choose, opacity: restyle, threshold: restyle, fade: restyle,
    black: restyle, white: restyle, radiological: restyle, crosshair: restyle, peak,
    layout: () => nv.setSliceType(layouts[controls.layout.value]),
  });
  for (const id of ["black", "white"]) {
    Object.assign(controls[id], { min: about.scan.low, max: about.scan.high, step: "any" });
    controls[id].value = String(about.scan[id]);
  }
  controls.radiological.checked = about.known;
  controls.radiological.parentElement.hidden = !about.known;
  await choose();
  nv.setSliceType(SLICE_TYPE.MULTIPLANAR);
  peak();
  return nv.volumes.length;
}

// Pictures ------------------------------------------------------------------------------------

async function viewPicture() {
  const picture = new Image();
  picture.src = about.picture;
  await picture.decode();
  const [width, height] = [picture.naturalWidth, picture.naturalHeight];
  Object.assign(canvas, { width, height });
  const zoom = Math.max(1, Math.round(640 / width));
  if (zoom > 1) canvas.style.width = `${width * zoom}px`;
  show();
  const context = canvas.getContext("2d");
  const layer = new OffscreenCanvas(width, height);
  const paint = layer.getContext("2d");
  let at = [0, 0];

  // A map is a NIfTI of 16 bits: rows follow each other, the header says what a step is worth.
  const load = (map) => remembered(map.id, (buffer) => {
    const header = new DataView(buffer);
    const [slope, intercept] = [header.getFloat32(112, true), header.getFloat32(116, true)];
    return Float32Array.from(new Int16Array(buffer, 352), (step) => step * slope + intercept);
  });

  function colour(map, size, raw) {
    const table = about.colours[!map.signed ? "heat" : raw < 0 ? "below" : "above"];
    const k = Math.round(Math.min(size / map.top, 1) * 255);
    return [table.R[k], table.G[k], table.B[k]];
  }

  async function draw() {
    offer();
    const map = chosen();
    const values = await load(map);
    const [cut, fade] = [threshold(map), controls.fade.checked];
    const pixels = paint.createImageData(width, height);
    values.forEach((raw, k) => {
      const size = map.signed ? Math.abs(raw) : Math.max(raw, 0);
      const share = size >= cut ? 1 : fade && cut > 0 ? (size / cut) ** 2 : 0;
      if (size > 0 && share > 0) pixels.data.set([...colour(map, size, raw), 255 * share], 4 * k);
    });
    paint.putImageData(pixels, 0, 0);
    context.globalAlpha = 1;
    context.drawImage(picture, 0, 0);
    context.globalAlpha = Number(controls.opacity.value);
    context.drawImage(layer, 0, 0);
    context.globalAlpha = 1;
    context.fillStyle = "#4dd0c4";
    const [column, row] = at;
    for (const [x, y, w, h] of [[0, row, column - 4, 1], [column + 5, row, width, 1],
      [column, 0, 1, row - 4], [column, row + 5, 1, height]]) context.fillRect(x, y, w, h);
    const raw = values[row * width + column];
    readout([`row ${row}, column ${column}`, value(map, raw)]);
  }

  function move(column, row) {
    at = [Math.min(Math.max(column, 0), width - 1), Math.min(Math.max(row, 0), height - 1)];
    return draw();
  }
  canvas.addEventListener("pointerdown", (event) => {
    const box = canvas.getBoundingClientRect();
    move(Math.floor((event.clientX - box.left) / box.width * width),
      Math.floor((event.clientY - box.top) / box.height * height));
  });
  const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const step = keys[event.key];
    if (!step) return;
    event.preventDefault();
    move(at[0] + step[0], at[1] + step[1]);
  });
  listen(draw, {
    method: () => {}, target: () => {}, opacity: () => {}, threshold: () => {}, fade: () => {},
    peak: () => move(...chosen().place),
  });
  offer();
  await move(...chosen().place);
  return about.maps.length;
}

say("Loading the viewer");
(about.kind === "volume" ? viewVolume() : viewPicture()).then((count) => {
  document.documentElement.dataset.state = "ready";
  document.documentElement.dataset.shown = String(count);
  say("Ready: click or drag in the picture to move the crosshair.");
}).catch(fail);
