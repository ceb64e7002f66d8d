"use strict";
// The list of questions, one square a line; only the rows in view are in the document. Beside it the chosen question.

const ROW_HEIGHT = 24;
const STEP = { least: 8, most: 14, all: 270 };
const SPARE_ROWS = 8;
const VERDICTS = ["wrong", "right", "failed", "missing"];
let listed = [];

function questionText(question) {
  const prompt = text(data.prompt[question]), at = prompt.indexOf("<video>");
  return at < 0 ? prompt : prompt.slice(at + "<video>".length).split("<|")[0].trim();
}

// {question, options: [[letter, text]], request}: options are lines such as "(A) ..." or "A. ...".
function readQuestion(question) {
  const parts = { question: [], options: [], request: [] };
  for (const line of questionText(question).split("\n")) {
    const option = line.match(/^\(?([A-Z])[).]\s+(.*)$/);
    if (option) parts.options.push([option[1], option[2]]);
    else if (!/^options:?$/i.test(line.trim())) parts[parts.options.length ? "request" : "question"].push(line);
  }
  return { question: parts.question.join("\n"), options: parts.options, request: parts.request.join("\n") };
}

// "B middle" for a letter whose option is known, else the text itself.
function withOption(letter, options) {
  const option = options.find(([one]) => one === letter);
  return option ? `${letter} ${option[1]}` : letter;
}

function square(line, question, chosen) {
  const verdict = VERDICTS[answerOf(line, question)];
  const title = `${lineName(data.lines[line])}: ${verdict}, ${text(data.said[line][question])}`;
  return make("span", { class: `square ${verdict}${chosen ? " chosen" : ""}`, title });
}

function listRow(place) {
  const question = listed[place], [benchmark, task] = data.tasks[data.task[question]];
  const { question: head, options } = readQuestion(question);
  const name = task.startsWith(`${benchmark}_`) ? task.slice(benchmark.length + 1) : task;
  const squares = visibleLines().map((line) => square(line, question, String(line) === settings.line));
  const row = make("div", {
    class: "row", role: "option", id: `question-${question}`, "aria-selected": String(question) === settings.question,
    onclick: () => go({ question: String(question) }),
  },
  make("span", { class: "task", title: task }, name),
  make("span", { class: "number" }, String(data.doc[question])),
  make("span", { class: "head", title: head }, head.split("\n")[0]),
  make("span", { class: "gold" }, withOption(text(data.gold[question]), options)),
  make("span", { class: "squares" }, ...squares));
  row.style.top = `${place * ROW_HEIGHT}px`;
  return row;
}

function drawList(list) {
  const first = Math.max(0, Math.floor(list.scrollTop / ROW_HEIGHT) - SPARE_ROWS);
  const last = Math.min(listed.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW_HEIGHT) + SPARE_ROWS);
  const rows = [];
  for (let place = first; place < last; place++) rows.push(listRow(place));
  list.firstChild.style.height = `${listed.length * ROW_HEIGHT}px`;
  list.firstChild.replaceChildren(...rows);
}

function move(step) {
  const place = listed.indexOf(Number(settings.question)) + step;
  if (place in listed) go({ question: String(listed[place]) });
}

function buildSamples(section) {
  const search = make("input", { type: "search", name: "text", placeholder: "search questions, answers, videos",
    "aria-label": "search", oninput: (event) => go({ text: event.target.value }) });
  const list = make("div", { id: "list", role: "listbox", tabindex: "0", "aria-label": "questions" }, make("div"));
  list.addEventListener("scroll", () => drawList(list));
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    if (step) { event.preventDefault(); move(step); }
  });
  addEventListener("resize", () => { if (settings.tab === "samples") showSamples(section); });
  const lines = make("div", { id: "heads" });
  const names = make("div", { class: "listhead" }, make("span", { id: "count" }), lines);
  section.append(make("div", { class: "controls" }, search, make("span", { id: "filters" })),
    make("div", { class: "panes" }, make("div", { class: "pane" }, names, list), make("article", { id: "detail", class: "pane" })));
}

function drawHeads() {
  const heads = visibleLines().map((line) => {
    const name = lineName(data.lines[line]);
    const toggle = () => go({ line: settings.line === String(line) ? DEFAULTS.line : String(line) });
    const chosen = settings.line === String(line);
    return make("button", { class: chosen ? "chosen" : null, title: `${name}: filter by this row`, onclick: toggle }, make("span", {}, name.replace(", seed ", " · ")));
  });
  document.getElementById("heads").replaceChildren(...heads);
}

async function showSamples(section) {
  if (!section.childElementCount) buildSamples(section);
  try {
    await texts();
  } catch (error) {
    return showProblem(document.getElementById("detail"), error);
  }
  const list = document.getElementById("list"), search = section.querySelector("input[name=text]");
  if (search !== document.activeElement) search.value = settings.text;
  document.getElementById("filters").replaceChildren(...filterBar());
  listed = matches();
  document.getElementById("count").textContent = `${listed.length} of ${data.task.length} questions`;
  if (!listed.includes(Number(settings.question)) || settings.question === "") settings.question = String(listed[0] ?? "");
  // With many rows narrower squares and no task, so that the question keeps its room.
  const step = Math.max(STEP.least, Math.min(STEP.most, Math.floor(STEP.all / visibleLines().length)));
  section.style.setProperty("--step", `${step}px`);
  section.classList.toggle("many", step < STEP.most);
  drawHeads();
  const top = listed.indexOf(Number(settings.question)) * ROW_HEIGHT;
  drawList(list);
  if (top < list.scrollTop || top + ROW_HEIGHT > list.scrollTop + list.clientHeight) {
    list.scrollTop = top - list.clientHeight / 3;
    drawList(list);
  }
  showDetail(document.getElementById("detail"), settings.question === "" ? null : Number(settings.question));
}
