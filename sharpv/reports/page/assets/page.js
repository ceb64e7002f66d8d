"use strict";
// The parts of the page and what opens first.

const TABS = { results: showResults, figures: showFigures, samples: showSamples };

function showTab() {
  for (const name of Object.keys(TABS)) {
    document.getElementById(name).hidden = name !== settings.tab;
    document.getElementById(`tab-${name}`).setAttribute("aria-selected", name === settings.tab);
  }
  TABS[settings.tab](document.getElementById(settings.tab));
}

function facts(pairs) {
  const list = make("dl");
  for (const [name, value] of pairs) list.append(make("dt", {}, name), make("dd", {}, String(value)));
  return list;
}

function overview() {
  const listed = (values) => Object.entries(values ?? {}).map(([name, value]) => `${name} ${value}`).join(" · ");
  const stated = (read) => [...new Set(data.runs.map(read))].filter(Boolean).join(" / ") || "not recorded";
  const failed = data.verdicts.reduce((sum, line) => sum + line.split(FAILED).length - 1, 0);
  const perBenchmark = {};
  data.task.forEach((task) => (perBenchmark[data.tasks[task][0]] = (perBenchmark[data.tasks[task][0]] ?? 0) + 1));
  const shapes = data.shapes.filter(Boolean).map(([frames, height, width]) => `${frames} frames × ${height} × ${width}`);
  return facts([
    ["Status", stated((run) => run.status) + (failed ? `, ${failed} answers failed` : "")],
    ["Runs", data.runs.map((run) => `${run.folder} (${run.created})`).join(" · ")],
    ["Command", stated((run) => run.command)],
    ["Model", `${data.model}, ${stated((run) => run.dtype)}, attention ${stated((run) => run.attention)}`],
    ["Visual tokens", shapes.join(" · ") || "none"],
    ["Questions", `${data.task.length} about ${data.videos.length} videos: ${listed(perBenchmark)}`],
    ["Hardware", stated((run) => listed(run.hardware))],
    ["Versions", stated((run) => listed(run.git ? { ...run.versions, git: run.git } : run.versions))],
  ]);
}

function showResults(section) {
  if (section.childElementCount) return;
  const warnings = data.warnings.map((warning) => make("p", { class: "warning" }, warning));
  const notes = make("ul", { class: "notes" }, ...data.notes.map((note) => make("li", {}, note)));
  section.append(...warnings, make("h2", {}, "Run"), overview(), make("h2", {}, "Table"), ...resultsTable(),
    make("h2", {}, "Notes"), notes);
}

async function showFigures(section) {
  if (section.childElementCount) return;
  if (!data.figures.length) section.append(make("p", { class: "empty" }, "No figures were there when this page was made."));
  for (const [i, { name, type }] of data.figures.entries()) {
    const picture = make("img", { alt: name });
    section.append(make("figure", {}, picture, make("figcaption", {}, name)));
    picture.src = `data:${type};base64,${await block(`figure-${i}`)}`;
  }
}

async function start() {
  data = await unpack(document.getElementById("index").textContent);
  data.dense = data.lines.findIndex((line) => line.kind === "dense");
  const states = [...new Set(data.runs.map((run) => run.status))].join(", ");
  const runs = `${data.runs.length} ${data.runs.length > 1 ? "runs" : "run"}, ${states}`;
  document.getElementById("summary").textContent = `${runs} · ${data.task.length} questions × ${data.lines.length} lines`;
  for (const name of Object.keys(TABS)) document.getElementById(`tab-${name}`).onclick = () => go({ tab: name });
  addEventListener("hashchange", () => { readAddress(); showTab(); });
  readAddress();
  showTab();
  document.body.dataset.ready = "true";
}

start();
