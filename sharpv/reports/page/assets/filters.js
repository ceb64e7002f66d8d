"use strict";
// Which questions are listed: by benchmark, task, row, outcome and text, all held in the address. Lost and won are said of
// a row against another one, dense unless the address names one.

const answerOf = (line, question) => Number(data.verdicts[line][question]);
const failedOrWrong = (verdict) => verdict === WRONG || verdict === FAILED;
const reference = () => (isLine(settings.reference) ? Number(settings.reference) : data.dense);
const OUTCOMES = {
  all: { label: "any outcome", test: () => true },
  lost: { label: "row wrong, the compared one right",
    test: (line, q, other) => answerOf(other, q) === RIGHT && failedOrWrong(answerOf(line, q)) },
  won: { label: "row right, the compared one wrong",
    test: (line, q, other) => failedOrWrong(answerOf(other, q)) && answerOf(line, q) === RIGHT },
  wrong: { label: "wrong", test: (line, q) => failedOrWrong(answerOf(line, q)) },
  right: { label: "right", test: (line, q) => answerOf(line, q) === RIGHT },
  failed: { label: "failed", test: (line, q) => answerOf(line, q) === FAILED },
};
const ORDERS = { stored: "order of the run", hard: "most lines wrong first", easy: "fewest lines wrong first" };

function visibleLines() {
  const kinds = new Set(settings.kinds.split(","));
  return data.lines.flatMap(({ kind }, i) => (kind === "dense" || kinds.has(kind) ? [i] : []));
}

function chosenLines() {
  if (isLine(settings.line)) return [Number(settings.line)];
  return visibleLines().filter((line) => line !== data.dense && line !== reference());
}

function matches() {
  const wanted = settings.text.trim().toLowerCase();
  const hit = wanted ? data.texts.map((one) => one.toLowerCase().includes(wanted)) : null;
  const hitVideo = wanted ? data.videos.map((name) => name.toLowerCase().includes(wanted)) : null;
  const found = (q) => !wanted || hit[data.prompt[q]] || hit[data.gold[q]] || hitVideo[data.video[q]] ||
    data.said.some((line) => hit[line[q]]);
  const lines = chosenLines(), other = reference(), { test } = OUTCOMES[settings.outcome];
  const kept = [];
  for (let q = 0; q < data.task.length; q++) {
    const [benchmark, task] = data.tasks[data.task[q]];
    if (settings.benchmark && settings.benchmark !== benchmark) continue;
    if (settings.task && settings.task !== task) continue;
    if (settings.outcome !== "all" && !lines.some((line) => test(line, q, other))) continue;
    if (found(q)) kept.push(q);
  }
  if (settings.order === "stored") return kept;
  const visible = visibleLines(), sign = settings.order === "hard" ? -1 : 1;
  const wrong = new Map(kept.map((q) => [q, visible.filter((line) => failedOrWrong(answerOf(line, q))).length]));
  return kept.sort((a, b) => sign * (wrong.get(a) - wrong.get(b)) || a - b);
}

function select(name, label, options, change = (value) => ({ [name]: value })) {
  const entries = options.map(([value, shownAs]) => make("option", { value, selected: value === settings[name] }, shownAs));
  return make("label", {}, `${label} `, make("select", { name, onchange: (event) => go(change(event.target.value)) }, ...entries));
}

function kindToggles() {
  const chosen = new Set(settings.kinds.split(","));
  const kinds = [...new Set(data.lines.map(({ kind }) => kind))].filter((kind) => kind !== "dense");
  return kinds.map((kind) => {
    const change = (event) => {
      chosen[event.target.checked ? "add" : "delete"](kind);
      go({ kinds: Object.keys(KINDS).filter((one) => chosen.has(one)).join(",") });
    };
    return make("label", {}, make("input", { type: "checkbox", checked: chosen.has(kind), onchange: change }), ` ${KINDS[kind]}`);
  });
}

function filterBar() {
  const { benchmark } = settings, same = (name) => [name, name];
  const benchmarks = [...new Set(data.tasks.map(([name]) => name))];
  const tasks = data.tasks.filter(([name]) => !benchmark || name === benchmark).map(([, task]) => task);
  return [
    select("benchmark", "benchmark", [["", "all"], ...benchmarks.map(same)], (value) => ({ benchmark: value, task: "" })),
    select("task", "task", [["", "all"], ...tasks.map(same)]),
    select("line", "row", [["any", "any pruned row"], ...data.lines.map((line, i) => [String(i), lineName(line)])]),
    select("reference", "compared with", [["dense", "dense"], ...data.lines.flatMap((line, i) =>
      (i === data.dense ? [] : [[String(i), lineName(line)]]))]),
    select("outcome", "outcome", Object.entries(OUTCOMES).map(([name, { label }]) => [name, label])),
    select("order", "order", Object.entries(ORDERS)),
    ...kindToggles(),
  ];
}
