"use strict";
// The results table: sorted by a click on a head, filtered by kind and name, intervals drawn on a common axis.

const COLUMNS = [
  { head: "MVBench", name: "mvbench_acc", digits: 1 },
  { head: "VideoMME", name: "videomme_wo", digits: 1 },
  { head: "NExT-QA", name: "nextqa_mc", digits: 1 },
  { head: "ActNet-QA", name: "actnetqa_acc", digits: 1 },
  { head: "ActNet score", name: "actnetqa_score", digits: 2 },
  { head: "Avg.", name: "avg_acc", digits: 1, tip: "mean over the benchmarks, percent" },
  { head: "95% interval", name: "avg_acc", axis: true, tip: "of Avg.; the line is dense" },
  { head: "Δ dense", name: "diff_to_dense", prefix: "diff", digits: 1, sign: true, tip: "points, paired by question" },
  { head: "p (Holm)", name: "p_holm", digits: 3, probability: true, low: true },
  { head: "lost", count: "lost", tip: "dense right, pruned wrong; mean over seeds; click to see them" },
  { head: "won", count: "won", tip: "dense wrong, pruned right; mean over seeds; click to see them" },
  { head: "budget %", name: "token_budget_pct", digits: 1, low: true, tip: "VR × MR" },
  { head: "VR %", name: "vr_pct", digits: 1, low: true, tip: "visual tokens fed, of dense" },
  { head: "MR %", name: "mr_pct", digits: 1, low: true, tip: "visual KV read at decode, of those fed, mean over layers" },
  { head: "TFLOPs", name: "tflops", significant: 3, low: true, tip: "LLM prefill" },
  { head: "TTFT s", name: "ttft_s", significant: 3, low: true, tip: "median, vision tower to first token" },
  { head: "speed-up", name: "ttft_speedup", digits: 2, tip: "of TTFT, against dense" },
  { head: "prune ms", name: "prune_ms", significant: 3, low: true, tip: "median" },
  { head: "TPOT ms", name: "tpot_ms", significant: 3, low: true, tip: "median" },
  { head: "memory GB", name: "memory_gb", significant: 3, low: true, tip: "largest peak, weights included" },
  { head: "unanswered", name: "unanswered", digits: 0, low: true },
  { head: "failed", name: "n_errors", digits: 0, low: true },
];
const sorting = { column: null, down: true };
const shown = { kinds: new Set(Object.keys(KINDS)), text: "" };

function written(column, value) {
  if (value === null || value === undefined) return "–";
  if (column.probability && value < 0.001) return "<0.001";
  const plain = column.significant ? String(+value.toPrecision(column.significant)) : value.toFixed(column.digits ?? 1);
  return ((column.sign && value > 0 ? "+" : "") + plain).replace("-", "−");
}

function value(column, entry) {
  return column.count ? pairCount(entry.row, column.count) : entry[column.name];
}

function pairCount(row, outcome) {
  const lines = data.lines.flatMap((line, i) => (line.row === row && line.kind !== "dense" ? [i] : []));
  if (!lines.length) return null;
  const counts = lines.map((line) => data.task.reduce((sum, _, q) => sum + OUTCOMES[outcome].test(line, q, data.dense), 0));
  return counts.reduce((a, b) => a + b) / lines.length;
}

function interval(entry, ends) {
  const width = 130, height = 14, dense = data.table.find((other) => other.kind === "dense");
  const place = (x) => (((x - ends[0]) / (ends[1] - ends[0] || 1)) * (width - 8) + 4).toFixed(1);
  const draw = (tag, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const { avg_acc: middle, avg_acc_low: low, avg_acc_high: high } = entry;
  const label = `${middle?.toFixed(1)} [${low?.toFixed(1)}, ${high?.toFixed(1)}]`;
  const picture = draw("svg", { width, height, role: "img", "aria-label": label });
  const x = place(dense.avg_acc);
  picture.append(draw("line", { x1: x, x2: x, y1: 0, y2: height, class: "reference" }),
    draw("line", { x1: place(low), x2: place(high), y1: 7, y2: 7, class: "whisker" }),
    draw("circle", { cx: place(middle), cy: 7, r: 3 }));
  return picture;
}

function axisEnds() {
  const edges = data.table.flatMap((entry) => [entry.avg_acc_low, entry.avg_acc_high]).filter((edge) => edge !== null);
  return [Math.min(...edges), Math.max(...edges)];
}

function axisHead({ head }) {
  const [low, high] = axisEnds().map((end) => end.toFixed(0));
  return `${low} – ${head} – ${high}`;
}

function cell(column, entry, ends) {
  if (column.axis) return make("td", { class: "axis" }, entry.avg_acc === null ? "–" : interval(entry, ends));
  const found = value(column, entry);
  if (column.count && found !== null) {
    const line = data.lines.findIndex((other) => other.row === entry.row);
    const open = () => go({ ...DEFAULTS, tab: "samples", line: String(line), outcome: column.count });
    return make("td", {}, make("button", { class: "link", onclick: open }, written({ digits: found % 1 ? 1 : 0 }, found)));
  }
  const prefix = column.prefix ?? column.name, low = entry[`${prefix}_low`], high = entry[`${prefix}_high`];
  const range = low === null || low === undefined ? null
    : make("small", {}, ` ${written(column, low)} … ${written(column, high)}`);
  return make("td", {}, written(column, found), range);
}

function fill(body, columns) {
  const words = shown.text.toLowerCase();
  const rows = data.table.filter(({ kind, method, row }) =>
    shown.kinds.has(kind) && `${method} ${row}`.toLowerCase().includes(words));
  if (sorting.column) {
    const key = (entry) => (sorting.column.method ? entry.method : value(sorting.column, entry)) ?? null;
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
    rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return sorting.down ? compare(y, x) : compare(x, y);
    });
  }
  const ends = axisEnds(), lines = [];
  let above = "dense";
  for (const entry of rows) {
    if (!sorting.column && entry.kind !== above && entry.kind !== "method") {
      lines.push(make("tr", { class: "group" }, make("th", { colspan: columns.length + 1, scope: "rowgroup" }, KINDS[entry.kind])));
    }
    above = entry.kind;
    const name = make("th", { scope: "row", class: entry.kind }, entry.method);
    if (entry.seeds > 1) name.append(make("small", {}, ` ${entry.seeds} seeds`));
    lines.push(make("tr", {}, name, ...columns.map((column) => cell(column, entry, ends))));
  }
  body.replaceChildren(...lines);
}

function resultsTable() {
  const measured = (column) => column.count || column.axis || data.table.some((entry) => (entry[column.name] ?? null) !== null);
  const columns = COLUMNS.filter(measured), body = make("tbody"), heads = [];
  const head = (column) => {
    const button = make("button", { title: column.tip ?? null }, column.axis ? axisHead(column) : column.head);
    const th = make("th", { scope: "col", class: column.method ? "name" : null }, button);
    button.onclick = () => {
      sorting.down = sorting.column === column ? !sorting.down : !(column.low || column.method);
      sorting.column = column;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      th.setAttribute("aria-sort", sorting.down ? "descending" : "ascending");
      fill(body, columns);
    };
    heads.push(th);
    return th;
  };
  const thead = make("thead", {}, make("tr", {}, head({ head: "Method", method: true }), ...columns.map(head)));
  const kinds = [...new Set(data.table.map((entry) => entry.kind))].map((kind) => {
    const change = (event) => { shown.kinds[event.target.checked ? "add" : "delete"](kind); fill(body, columns); };
    return make("label", {}, make("input", { type: "checkbox", checked: true, onchange: change }), ` ${KINDS[kind]}`);
  });
  const search = make("input", { type: "search", placeholder: "filter methods", "aria-label": "filter methods",
    oninput: (event) => { shown.text = event.target.value; fill(body, columns); } });
  fill(body, columns);
  return [make("div", { class: "controls" }, search, ...kinds),
    make("div", { class: "scroll" }, make("table", { id: "table" }, thead, body))];
}
