"use strict";
// One question: its text, every line's answer, and film strips with kept patches bright and dropped ones dark.

const KEPT = [0, 114, 178];
const GAP = 2, BAR = 16;
const TILE = { min: (frames) => (frames > 16 ? 38 : 54), max: 92 };
const recent = new Map();
let wanted = 0;

async function keptBlock(number) {
  if (!recent.has(number)) {
    if (recent.size > 8) recent.delete(recent.keys().next().value);
    recent.set(number, unpack(await block(`kept-${number}`)));
  }
  return recent.get(number);
}

function showProblem(detail, error) {
  detail.replaceChildren(make("p", { class: "warning" }, error.message));
}

async function picture(video) {
  if (data.reasons[video]) return null;
  const image = new Image();
  image.src = `data:image/webp;base64,${await block(`video-${video}`)}`;
  await image.decode();
  return image;
}

// Kept tokens, 0 or 1 each; null where the answer failed. The store packs eight a byte, first token in the highest bit.
function unpackBits(base64, total) {
  if (base64 === null) return null;
  const binary = atob(base64);
  return Uint8Array.from({ length: total }, (_, i) => (binary.charCodeAt(i >> 3) >> (7 - (i & 7))) & 1);
}

function keptPerFrame(bits, shares, [frames, height, width]) {
  const each = height * width;
  if (shares) return shares.map((rows) => rows / each);
  return Array.from({ length: frames }, (_, t) => bits.subarray(t * each, (t + 1) * each).reduce((a, b) => a + b, 0) / each);
}

// One pixel a token, frames side by side: opaque where it was kept.
function keptCanvas(bits, [frames, height, width]) {
  const mask = make("canvas", { width: frames * width, height }), context = mask.getContext("2d");
  const pixels = context.createImageData(mask.width, height);
  for (let i = 0; i < bits.length; i++) {
    const frame = Math.floor(i / (height * width)), inside = i % (height * width);
    const at = 4 * (Math.floor(inside / width) * mask.width + frame * width + (inside % width));
    pixels.data.set([...KEPT, bits[i] ? 255 : 0], at);
  }
  context.putImageData(pixels, 0, 0);
  return mask;
}

// The sheet as its dropped patches look: grey and dark.
function dimmed(image) {
  const sheet = make("canvas", { width: image.naturalWidth, height: image.naturalHeight }), context = sheet.getContext("2d");
  context.filter = "grayscale(1) brightness(0.22)";
  context.drawImage(image, 0, 0);
  context.filter = "none";
  context.fillStyle = "rgba(255, 255, 255, 0.055)";
  context.fillRect(0, 0, sheet.width, sheet.height);
  return sheet;
}

// A thin line where kept meets dropped, so that a kept dark patch is not taken for a dropped one.
function outline(context, bits, frame, [, height, width], x, y, wide, high) {
  const kept = (i, j) => i >= 0 && j >= 0 && i < height && j < width && bits[(frame * height + i) * width + j] === 1;
  context.beginPath();
  for (let i = 0; i <= height; i++) {
    for (let j = 0; j <= width; j++) {
      const [left, top] = [x + (j * wide) / width, y + (i * high) / height];
      if (kept(i, j) !== kept(i - 1, j)) { context.moveTo(left, top); context.lineTo(left + wide / width, top); }
      if (kept(i, j) !== kept(i, j - 1)) { context.moveTo(left, top); context.lineTo(left, top + high / height); }
    }
  }
  context.strokeStyle = "rgba(255, 255, 255, 0.75)";
  context.lineWidth = Math.min(1, (2 * wide) / width / 10);
  context.stroke();
}

// The part of a sheet with frame t: x, y, width, height.
function tileOf(image, t, frames) {
  const columns = Math.min(frames, data.tiles_a_row), rows = Math.ceil(frames / columns);
  const [wide, high] = [image.width / columns, image.height / rows];
  return [(t % columns) * wide, Math.floor(t / columns) * high, wide, high];
}

// Frames in as many rows as the room needs: kept patches bright, under each frame the share of rows fed. Without bits the
// plain frames; without a picture kept patches are blue.
function strip(image, shape, bits, shares, room) {
  const [frames, height, width] = shape, [, , wide, high] = image ? tileOf(image, 0, frames) : [0, 0, width, height];
  const rows = Math.ceil(frames / Math.max(1, Math.floor(room / TILE.min(frames)))), columns = Math.ceil(frames / rows);
  const across = Math.min(TILE.max, Math.floor(room / columns)) - GAP, down = Math.round((across * high) / wide);
  const bar = bits ? BAR : GAP, scale = devicePixelRatio || 1;
  const [full, tall] = [columns * (across + GAP), rows * (down + bar)];
  const canvas = make("canvas", { width: full * scale, height: tall * scale, role: "img" });
  const part = make("canvas", { width: across * scale, height: down * scale });
  const context = canvas.getContext("2d"), cut = part.getContext("2d");
  canvas.style.width = `${full}px`;
  context.scale(scale, scale);
  context.font = "9px system-ui, sans-serif";
  const mask = bits && keptCanvas(bits, shape), kept = bits && keptPerFrame(bits, shares, shape);
  const dark = bits && image && dimmed(image);
  for (let t = 0; t < frames; t++) {
    const x = (t % columns) * (across + GAP), y = Math.floor(t / columns) * (down + bar);
    if (image) context.drawImage(bits ? dark : image, ...tileOf(image, t, frames), x, y, across, down);
    if (!bits) continue;
    if (!image) { context.fillStyle = "#e4e4e4"; context.fillRect(x, y, across, down); }
    cut.globalCompositeOperation = "copy";
    cut.imageSmoothingEnabled = false;
    cut.drawImage(mask, t * width, 0, width, height, 0, 0, part.width, part.height);
    cut.globalCompositeOperation = "source-in";
    cut.imageSmoothingEnabled = true;
    if (image) cut.drawImage(image, ...tileOf(image, t, frames), 0, 0, part.width, part.height);
    context.drawImage(part, x, y, across, down);
    if (image && across / width >= 5) outline(context, bits, t, shape, x, y, across, down);
    context.fillStyle = "#e4e4e4";
    context.fillRect(x, y + down + 2, across, 3);
    context.fillStyle = `rgb(${KEPT})`;
    context.fillRect(x, y + down + 2, across * Math.min(1, kept[t]), 3);
    context.fillStyle = "#555";
    context.fillText(percent(kept[t]), x, y + down + 13);
  }
  canvas.setAttribute("aria-label", kept ? `kept per frame: ${kept.map(percent).join(", ")}` : "frames");
  return canvas;
}

function verdictMark(verdict) {
  return make("span", { class: `square ${VERDICTS[verdict]}` });
}

function answerBox(line, question, kept, options) {
  const { kind } = data.lines[line], verdict = answerOf(line, question), place = question % data.block;
  const [parsed, vr, mr, judge] = ["parsed", "vr", "mr", "judge"].map((name) => kept[name][line][place]);
  const said = text(data.said[line][question]), judged = judge === null ? "" : ` · judge ${judge.toFixed(1)}`;
  const read = !parsed || parsed === said || verdict === FAILED ? "" : ` · read as ${withOption(parsed, options)}`;
  const note = verdict === RIGHT || verdict === WRONG ? `${VERDICTS[verdict]}${judged}` : VERDICTS[verdict];
  return make("div", { class: "answer" },
    make("div", { class: `name ${kind}` }, verdictMark(verdict), ` ${lineName(data.lines[line])}`),
    make("div", { class: `said ${VERDICTS[verdict]}` }, said || (verdict === MISSING ? "not run" : "(empty)")),
    make("div", { class: "small" }, note + read),
    make("div", { class: "small" }, `VR ${percent(vr)} · MR ${percent(mr)}`));
}

// Visual KV that each layer holds, of the rows fed: what a memory method keeps has no place in a picture.
function layers(held) {
  if (!held) return null;
  const bars = held.map((share) => make("span", { style: `height: ${100 * share}%`, title: percent(share) }));
  const label = `visual KV held per layer: ${held.map(percent).join(", ")}`;
  return make("div", {}, make("div", { class: "layers", role: "img", "aria-label": label }, ...bars),
    make("div", { class: "small" }, `visual KV held in each of ${held.length} layers, of the rows fed`));
}

function stripOf(line, question, image, kept, room) {
  return make("div", {}, fedStrip(line, question, image, kept, room), layers(kept.held[line][question % data.block]));
}

function fedStrip(line, question, image, kept, room) {
  const shape = data.shapes[data.shape[question]], place = question % data.block;
  const bits = shape && unpackBits(kept.bits[line][place], shape[0] * shape[1] * shape[2]);
  if (!bits) return make("p", { class: "empty" }, "no answer, no tokens");
  const shares = kept.shares[line][place];
  if (!shares && bits.every((bit) => bit)) {
    const inside = kept.mr[line][place] < 1 ? ", prunes inside the language model" : "";
    return make("p", { class: "empty" }, `feeds every token${inside}`);
  }
  const merged = shares && shares.reduce((a, b) => a + b, 0) - bits.reduce((a, b) => a + b, 0);
  const note = merged > 0.5 ? make("div", { class: "small" }, `${Math.round(merged)} of the rows fed are merged tokens, which no patch shows; the bars count them`) : null;
  return make("div", {}, strip(image, shape, bits, shares, room), note);
}

async function showDetail(detail, question) {
  const ticket = ++wanted;
  if (question === null) return detail.replaceChildren(make("p", { class: "empty" }, "No question passes these filters."));
  const video = data.video[question];
  let kept, image;
  try {
    [kept, image] = await Promise.all([keptBlock(Math.floor(question / data.block)), picture(video)]);
  } catch (error) {
    if (ticket === wanted) showProblem(detail, error);
    return;
  }
  if (ticket !== wanted) return;
  const [benchmark, task] = data.tasks[data.task[question]], gold = text(data.gold[question]), asked = readQuestion(question);
  const options = asked.options.map(([letter, option]) =>
    make("li", { class: letter === gold ? "gold" : null }, `${letter}  ${option}`, letter === gold ? make("b", {}, " right") : null));
  const shape = data.shapes[data.shape[question]], room = detail.clientWidth - 220;
  const frames = data.reasons[video] ? make("p", { class: "warning" }, `No pictures: ${data.reasons[video]}.`)
    : strip(image, shape, null, null, detail.clientWidth - 28);
  const parts = [
    make("p", { class: "small" }, `${benchmark}${task === benchmark ? "" : ` / ${task}`} · question ${data.doc[question]} · ${data.videos[video]}`),
    make("h2", {}, asked.question),
    options.length ? make("ol", { class: "options" }, ...options) : make("p", { class: "gold" }, `right answer: ${gold}`),
    make("details", {}, make("summary", {}, "prompt as fed"), make("pre", {}, text(data.prompt[question]))),
    frames,
  ];
  let above = null;
  const order = isLine(settings.line) ? [...new Set([data.dense, Number(settings.line), ...visibleLines()])] : visibleLines();
  for (const line of order) {
    const { kind } = data.lines[line], alone = String(line) === settings.line;
    if (kind !== above && !alone) parts.push(make("h3", {}, KINDS[kind]));
    if (!alone) above = kind;
    parts.push(make("div", { class: alone ? "line chosen" : "line" }, answerBox(line, question, kept, asked.options),
      stripOf(line, question, image, kept, room)));
  }
  detail.replaceChildren(...parts);
  detail.dataset.question = question;
}
