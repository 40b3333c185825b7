"use strict";

const TYPING_PAUSE = 250; // milliseconds without a key, after which a text is classified
const POLL = 500; // milliseconds between two looks at a job
const PAUSE = 3000; // the same where the server did not answer
const SHOWN_CLASSES = 10;
const SHOWN_ROWS = 50;
const LONG_NUMBER = /^\d[.]\d{4,}(e-\d+)?$/; // a probability, to more digits than anybody reads
const EARLIER = 3; // texts that can be chosen again
const FULL_COLOUR = 3; // change of the log odds from which on a word's colour grows no stronger

const $ = (id) => document.getElementById(id);
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const SILENT = "The server does not answer.";
let models = [];
let asked = 0; // number of the newest question: an older one's answer is not shown any more
let job = 0;
let markLoaded;
const loaded = new Promise((resolve) => (markLoaded = resolve)); // nothing can be asked before it is known of whom

// Talking to the server

class Refusal extends Error {
  constructor(message, status = 503, id = "") {
    super(message);
    this.status = status;
    this.id = id;
  }
}

async function ask(path, options = {}) {
  const key = sessionStorage.getItem("rehead-key");
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(SILENT);
  }
  if (response.ok) return response;
  if (response.status === 401) {
    $("key").hidden = false;
    $("main").hidden = true;
    $("key-input").focus();
  }
  const said = await response.json().catch(() => null);
  const { message, request_id: id } = said?.error ?? {};
  throw new Refusal(message ?? `The server answers ${response.status}.`, response.status, id);
}

// A refusal's message says what is wrong, and behind a semicolon how to mend it.
function trouble(error) {
  if (error && !(error instanceof Refusal)) throw error;
  $("trouble").hidden = !error;
  if (!error) return;
  const [what, ...mend] = error.message.split("; ");
  const parts = [what, mend.join("; ") || (error.message === SILENT ? "Is it still running? Your text is kept." : "")];
  if (error.id) parts.push(`Status ${error.status}; the server's log has more under ${error.id}.`);
  [...$("trouble").children].forEach((node, n) => {
    node.textContent = (parts[n] ?? "").replace(/^./u, (first) => first.toUpperCase());
    node.hidden = !parts[n];
  });
}

const served = () => models.find((model) => model.name === $("model").value);

// What is served

async function start() {
  const reply = await (await ask("/v1/models")).json();
  $("key").hidden = true;
  $("main").hidden = false;
  models = reply.models.filter((model) => model.weight > 0);
  const names = [...new Set(models.map((model) => model.name))];
  $("model").replaceChildren(...names.map((name) => new Option(name, name)));
  document.querySelector(".model").hidden = names.length < 2;
  markLoaded();
  await show();
}

async function show() {
  const model = served();
  const images = model.kind === "images";
  $("texts").hidden = images;
  $("files").hidden = images;
  $("images").hidden = !images;
  asked++; // what is under way is of the model before
  underway?.abort();
  $("answer").hidden = true;
  trouble(null);
  $("about").textContent = `${model.name}: ${model.labels.length} labels, ${model.base}, version ${model.version}`;
  const card = await (await ask(`/v1/model?model=${encodeURIComponent(model.name)}`)).json();
  $("measures").replaceChildren(...measures(card));
  $("card-text").textContent = card.card;
  $("report").hidden = !card.has_report;
  $("card").hidden = false;
  if (!images) classify();
}

function measures(card) {
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const rows = [["Labels", card.labels.join(", ")]];
  const test = card.test;
  if (test?.accuracy != null) {
    const interval = test.accuracy_ci ? ` (95 % interval ${test.accuracy_ci.map(percent).join(" to ")})` : "";
    rows.push(["Accuracy", `${percent(test.accuracy)}${interval} on ${test.n.toLocaleString("en")} test examples`]);
  }
  if (test?.macro_f1 != null) rows.push(["Macro F1", test.macro_f1.toFixed(3)]);
  if (card.drift) {
    const said = { true: "inputs differ from those of the training", false: "none so far" }[card.drift.drifted];
    rows.push(["Drift", said ?? "too few inputs so far to measure"]);
  }
  return rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]);
}

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// One text or image

let typing;
$("text").addEventListener("input", () => {
  $("answer").classList.add("stale");
  $("curl-command").hidden = true;
  $("curl-said").textContent = "";
  clearTimeout(typing);
  typing = setTimeout(classify, TYPING_PAUSE);
});

// Texts of this tab, newest first, kept until it is closed: something to go back to, or to compare with.
const earlier = () => JSON.parse(sessionStorage.getItem("rehead-texts") ?? "[]");

function keepText() {
  const text = $("text").value.trim();
  if (!text) return;
  try {
    sessionStorage.setItem("rehead-texts", JSON.stringify([text, ...earlier().filter((one) => one !== text)].slice(0, EARLIER)));
  } catch {
    return; // longer than the browser keeps
  }
  showEarlier();
}

function showEarlier() {
  const buttons = earlier().map((text) => {
    const button = element("button", text.slice(0, 100), "plain");
    button.type = "button";
    button.title = text.slice(0, 1000);
    button.addEventListener("click", () => {
      $("text").value = text;
      $("text").dispatchEvent(new Event("input"));
    });
    return button;
  });
  $("earlier").replaceChildren($("earlier").firstElementChild, ...buttons);
  $("earlier").firstElementChild.textContent = buttons.length
    ? "Earlier:"
    : "What you try can be chosen here again, until this tab is closed.";
}

$("text").addEventListener("change", keepText);
showEarlier();

$("curl").addEventListener("click", async () => {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const body = { texts: [$("text").value], model: served().name, explain: true };
  const parts = ["curl", `${location.origin}/v1/predict`, "-H", quoted("Content-Type: application/json")];
  // The key itself stays out of the clipboard.
  if (sessionStorage.getItem("rehead-key")) parts.push("-H", '"Authorization: Bearer $REHEAD_API_KEY"');
  $("curl-command").textContent = [...parts, "-d", quoted(JSON.stringify(body))].join(" ");
  $("curl-command").hidden = false;
  // Browsers have a clipboard only for pages of this machine, or over HTTPS.
  const copied = await navigator.clipboard?.writeText($("curl-command").textContent).then(() => true, () => false);
  $("curl-said").textContent = copied ? "Copied" : "This browser does not let the page copy; select the command below.";
});

let underway;
async function predict(body) {
  const number = ++asked;
  await loaded;
  underway?.abort();
  underway = new AbortController();
  try {
    const response = await ask("/v1/predict", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...body, model: served().name, explain: true }),
      signal: underway.signal,
    });
    const reply = await response.json();
    if (number !== asked) return null;
    trouble(null);
    return reply.predictions[0];
  } catch (error) {
    if (error.name !== "AbortError" && number === asked) trouble(error);
    return null;
  }
}

async function classify() {
  const text = $("text").value;
  $("curl").disabled = !text.trim();
  if (!text.trim()) {
    asked++;
    $("answer").hidden = true;
    trouble(null);
    return;
  }
  const prediction = await predict({ texts: [text] });
  if (prediction) {
    answer(prediction);
    colour(text, prediction.pieces);
  }
}

function answer(prediction) {
  const several = prediction.labels !== undefined;
  const chosen = several ? prediction.labels : [prediction.label];
  const all = Object.entries(prediction.probabilities).sort((one, other) => other[1] - one[1]);
  let said = chosen.filter((label) => label !== null).join(", ") || (several ? "no label" : "no answer: too unsure");
  if (prediction.possible?.length > 1) said += ` (possible: ${prediction.possible.join(", ")})`;
  if (prediction.tokens_cut) said += ` (of a part: the last ${prediction.tokens_cut} tokens were not read)`;
  $("said").textContent = $("announced").textContent = said;
  $("bars").replaceChildren(
    ...all.slice(0, SHOWN_CLASSES).map(([label, probability]) => {
      const row = element("li", undefined, chosen.includes(label) ? "chosen" : "");
      const bar = element("span", undefined, "bar");
      bar.append(element("span"));
      bar.firstChild.style.width = `${100 * probability}%`;
      bar.setAttribute("aria-hidden", "true");
      row.append(element("span", label, "name"), bar, element("span", `${(100 * probability).toFixed(1)} %`, "number"));
      return row;
    }),
  );
  $("why").hidden = true;
  $("answer").classList.remove("stale");
  $("answer").hidden = false;
}

function colour(text, pieces) {
  const points = Array.from(text); // the server counts code points, JavaScript's strings do not
  const parts = [];
  let at = 0;
  for (const { start, end, weight } of pieces) {
    const mark = element("mark", points.slice(start, end).join(""));
    const strength = Math.min(1, Math.abs(weight) / FULL_COLOUR);
    mark.style.background = `rgba(var(--${weight > 0 ? "for" : "against"}), ${(0.55 * strength).toFixed(3)})`;
    if (weight < 0) mark.className = "less";
    mark.title = `${weight > 0 ? "+" : ""}${weight.toFixed(2)} log odds`;
    parts.push(points.slice(at, start).join(""), mark);
    at = end;
  }
  $("pieces").replaceChildren(...parts, points.slice(at).join(""));
  $("why").hidden = pieces.length === 0;
}

async function classifyImage(file) {
  const shown = $("shown");
  URL.revokeObjectURL(shown.src);
  shown.src = URL.createObjectURL(file);
  shown.hidden = false;
  $("heat").hidden = true;
  $("answer").classList.add("stale");
  const content = await new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.readAsDataURL(file);
  });
  const prediction = await predict({ images: [content] });
  if (!prediction) return;
  answer(prediction);
  $("heat").src = prediction.heat_map;
  $("heat").alt = "The image, with what speaks for the answer in green and what speaks against it in red";
  $("heat").hidden = false;
}

// A file

async function upload(file) {
  const number = ++job;
  for (const id of ["job-result", "job-bad", "job-table"]) $(id).hidden = true;
  $("job").hidden = false;
  $("job-cancel").hidden = true;
  $("job-progress").value = 0;
  $("job-said").classList.remove("bad");
  $("job-said").textContent = `Sending ${file.name}`;
  await loaded;
  const form = new FormData();
  form.append("file", file);
  form.append("model", served().name);
  try {
    let reply = await (await ask("/v1/files", { method: "POST", body: form })).json();
    $("job-cancel").hidden = false;
    $("job-cancel").onclick = () => ask(`/v1/files/${reply.id}`, { method: "DELETE" }).catch(trouble);
    while (number === job && ["waiting", "running"].includes(reply.state)) {
      $("job-said").textContent = `${file.name}: ${reply.state}, ${Math.floor(100 * reply.progress)} %`;
      $("job-progress").value = reply.progress;
      reply = (await look(reply.id, file.name, number)) ?? reply;
    }
    if (number !== job) return;
    $("job-cancel").hidden = true;
    $("job-progress").value = reply.progress;
    if (reply.state !== "done") {
      $("job-said").classList.toggle("bad", Boolean(reply.error));
      $("job-said").textContent = reply.error ? `${file.name}: ${reply.error}` : `${file.name}: ${reply.state}`;
      return;
    }
    const { rows, bad_rows: unread, warnings = [] } = reply.facts;
    const bad = unread ? `, ${unread} could not be read` : "";
    const said = [`${rows.toLocaleString("en")} rows classified${bad}`, ...warnings].join("; ");
    $("job-said").textContent = `${file.name}: ${said}`;
    const result = await download($("job-result"), reply.result);
    if (reply.bad_rows) await download($("job-bad"), reply.bad_rows);
    if (/[.](csv|tsv|jsonl)$/.test($("job-result").download)) await table(result, $("job-result").download);
  } catch (error) {
    if (number !== job) return;
    $("job-said").classList.add("bad");
    $("job-said").textContent = `${file.name}: ${error.message}`;
  }
}

// The job goes on without the page: what may pass, such as a restart of the server, does not end the watching.
async function look(id, name, number) {
  await pause(POLL);
  try {
    return await (await ask(`/v1/files/${id}`)).json();
  } catch (error) {
    if (!(error instanceof Refusal) || (error.status < 500 && error.status !== 429)) throw error;
    if (number === job) $("job-said").textContent = `${name}: ${error.message} Asking again.`;
    await pause(PAUSE);
    return null;
  }
}

async function download(link, path) {
  const response = await ask(path);
  const content = await response.blob();
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(content);
  const name = /filename\*=utf-8''([^;]+)|filename="([^"]+)"/i.exec(response.headers.get("Content-Disposition"));
  link.download = name ? decodeURIComponent(name[1] ?? name[2]) : "result";
  link.hidden = false;
  return content;
}

async function table(content, name) {
  const text = await content.slice(0, 200000).text();
  const rows = name.endsWith(".jsonl") ? objects(text) : delimited(text, name.endsWith(".tsv") ? "\t" : ",");
  const [head, ...body] = rows.slice(0, SHOWN_ROWS + 1).map((cells, number) => {
    const row = element("tr");
    row.append(...cells.map((cell) => element(number ? "td" : "th", LONG_NUMBER.test(cell) ? (+cell).toFixed(4) : cell)));
    return row;
  });
  const shown = $("job-table").querySelector("table");
  shown.replaceChildren(element("thead"), element("tbody"));
  shown.tHead.append(head);
  shown.tBodies[0].append(...body);
  $("job-table").hidden = false;
}

function objects(text) {
  const lines = text.split("\n").slice(0, SHOWN_ROWS).filter((line) => line.endsWith("}"));
  const records = lines.map((line) => JSON.parse(line));
  const names = Object.keys(records[0] ?? {});
  return [names, ...records.map((record) => names.map((name) => {
    const value = record[name];
    return typeof value === "object" && value !== null ? JSON.stringify(value) : String(value ?? "");
  }))];
}

function delimited(text, delimiter) {
  const rows = [[]];
  let cell = "";
  let quoted = false;
  for (let i = 0; i < text.length && rows.length <= SHOWN_ROWS + 1; i++) {
    const character = text[i];
    if (quoted && character === '"' && text[i + 1] === '"') cell += text[++i];
    else if (character === '"') quoted = !quoted;
    else if (!quoted && (character === delimiter || character === "\n")) {
      rows.at(-1).push(cell.replace(/\r$/, ""));
      cell = "";
      if (character === "\n") rows.push([]);
    } else cell += character;
  }
  return rows.filter((row) => row.length === rows[0].length);
}

// The report

$("report").addEventListener("click", async () => {
  const path = `/v1/model/report?model=${encodeURIComponent(served().name)}`;
  if (!sessionStorage.getItem("rehead-key")) {
    window.open(path, "_blank", "noopener");
    return;
  }
  // A link cannot send the key, and what this page opens itself may not use the report's own styles and scripts.
  try {
    const link = element("a");
    link.href = URL.createObjectURL(await (await ask(path)).blob());
    link.download = `${served().name}.report.html`;
    link.click();
  } catch (error) {
    trouble(error);
  }
});

// Dropping

for (const [id, take] of [["file", upload], ["image", classifyImage]]) {
  const input = $(id);
  const zone = input.closest(".drop");
  input.addEventListener("change", () => input.files.length && take(input.files[0]));
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
}

$("model").addEventListener("change", () => show().catch(trouble));
$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("rehead-key", $("key-input").value.trim());
  start().catch(trouble);
});
start().catch(trouble);
