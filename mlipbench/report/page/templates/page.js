"use strict";

/* Tables: a button in each head sorts the rows, numbers first; the third press restores the order. */

const NEXT = {
  lower: { none: "ascending", ascending: "descending", descending: "none" },
  higher: { none: "descending", descending: "ascending", ascending: "none" },
};

function keyOf(row, column) {
  const cell = row.cells[column];
  return column === 0 ? cell.textContent.trim() : cell.dataset.sort === undefined ? null : Number(cell.dataset.sort);
}

function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
}

function sortBy(table, head) {
  const state = NEXT[head.dataset.better === "higher" ? "higher" : "lower"][head.ariaSort || "none"];
  for (const other of table.tHead.rows[0].cells) other.ariaSort = "none";
  head.ariaSort = state;
  const sign = state === "descending" ? -1 : 1;
  const [body] = table.tBodies;
  const rows = [...body.rows].sort((a, b) =>
    state === "none"
      ? a.dataset.order - b.dataset.order
      : compare(keyOf(a, head.cellIndex), keyOf(b, head.cellIndex), sign),
  );
  body.append(...rows);
}

for (const table of document.querySelectorAll(".board table")) {
  [...table.tBodies[0].rows].forEach((row, order) => (row.dataset.order = order));
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    const label = head.querySelector(".label");
    if (label) button.append(label);
    else button.append(...head.childNodes);
    head.prepend(button);
    head.ariaSort = "none";
    button.addEventListener("click", () => sortBy(table, head));
  }
}

/* Filter: rows of all tables of a section whose model, variant and training hold every word. */

for (const section of document.querySelectorAll(".board")) {
  const filter = section.querySelector(".filter");
  const output = filter.querySelector("output");
  filter.hidden = false;
  filter.querySelector("input").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    let all = 0;
    for (const [number, table] of section.querySelectorAll("table").entries()) {
      for (const row of table.querySelectorAll("tbody tr")) {
        const text = row.cells[0].textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        if (number === 0) {
          all += 1;
          shown += row.hidden ? 0 : 1;
        }
      }
    }
    output.value = `${shown} of ${all} rows`;
  });
}

/* What is known of a number: read from its row in the section of its run, shown beside it. */

const tip = document.getElementById("tip");
let shownFor = null;
let leaving = 0;

function fillTip(link, row) {
  const heads = row.closest("table").tHead.rows[0].cells;
  const title = document.createElement("strong");
  title.textContent = row.closest("details").querySelector("h3").textContent;
  const list = document.createElement("dl");
  const add = (term, text) => {
    if (!text) return;
    const item = document.createElement("div");
    item.append(document.createElement("dt"), document.createElement("dd"));
    item.firstChild.textContent = term;
    item.lastChild.textContent = text;
    list.append(item);
  };
  [...row.cells].forEach((cell, column) => add(heads[column].textContent, cell.textContent));
  add("Not ranked", link.closest("td").dataset.unranked);
  add("Run", row.closest("details").querySelector("summary span").textContent);
  tip.replaceChildren(title, list);
}

function showTip(link) {
  clearTimeout(leaving);
  const row = document.getElementById(link.hash.slice(1));
  if (!row || shownFor === link) return;
  hideTip();
  fillTip(link, row);
  tip.hidden = false;
  shownFor = link;
  link.setAttribute("aria-describedby", "tip");
  const from = link.getBoundingClientRect();
  const size = tip.getBoundingClientRect();
  const below = from.bottom + 4 + size.height <= innerHeight;
  tip.style.top = `${below ? from.bottom + 4 : Math.max(4, from.top - size.height - 4)}px`;
  tip.style.left = `${Math.max(4, Math.min(from.left, innerWidth - size.width - 4))}px`;
}

function hideTip() {
  clearTimeout(leaving);
  tip.hidden = true;
  if (shownFor) shownFor.removeAttribute("aria-describedby");
  shownFor = null;
}

function hideSoon() {
  clearTimeout(leaving);
  leaving = setTimeout(hideTip, 150);
}

const NUMBER = ".board td > a";
document.addEventListener("mouseover", (event) => {
  const cell = event.target.closest(".board td");
  const link = cell && !event.target.closest("sup") && cell.querySelector(":scope > a");
  if (link) showTip(link);
  else if (event.target.closest("#tip")) clearTimeout(leaving);
  else if (shownFor && shownFor !== document.activeElement) hideSoon();
});
document.addEventListener("focusin", (event) => {
  const link = event.target.closest(NUMBER);
  if (link) showTip(link);
  else hideTip();
});
document.addEventListener("scroll", (event) => event.target !== tip && hideTip(), true);
document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());

/* Links into a run open its section. */

function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (!target) return;
  hideTip();
  for (let node = target.closest("details"); node; node = node.parentElement.closest("details")) node.open = true;
  target.scrollIntoView({ block: "center" });
  if (target.matches("tr, main")) target.focus({ preventScroll: true });
  else if (target.matches("details")) target.querySelector("summary").focus({ preventScroll: true });
}
addEventListener("hashchange", openTarget);
openTarget();

/* Light and dark: what the system says, until the button says otherwise. */

const root = document.documentElement;
const button = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

function remembered() {
  try {
    return localStorage.getItem("mlipbench-theme");
  } catch {
    return null; // a page opened from a file may have no storage
  }
}

function remember(theme) {
  try {
    localStorage.setItem("mlipbench-theme", theme);
  } catch {
    /* then it lasts as long as the page */
  }
}

function themed() {
  button.setAttribute("aria-pressed", String(isDark()));
  for (const plot of document.querySelectorAll(".plot[data-drawn]")) draw(plot);
}

if (["light", "dark"].includes(remembered())) root.dataset.theme = remembered();
button.hidden = false;
button.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  remember(root.dataset.theme);
  themed();
});
system.addEventListener("change", themed);

/* Plots: drawn when they come into sight, as wide as there is room for. */

const themes = JSON.parse(document.getElementById("plot-themes").textContent);

async function draw(plot) {
  const spec = JSON.parse(document.getElementById(`plot-${plot.dataset.plot}`).textContent);
  const caption = plot.parentElement.querySelector("figcaption").textContent;
  const narrow = plot.clientWidth < 640;
  if (typeof spec.width === "number") {
    spec.width = "container";
    spec.autosize = { type: "fit-x", contains: "padding" };
  }
  if (spec.columns && narrow) spec.columns = 1;
  if (narrow) spec.config = { ...spec.config, legend: { orient: "bottom", columns: 1 } };
  plot.dataset.drawn = isDark() ? "dark" : "light";
  const view = await vegaEmbed(plot, spec, {
    mode: "vega-lite",
    renderer: "svg",
    ast: true, // no code is made of text
    config: themes[plot.dataset.drawn],
    actions: { export: true, source: false, compiled: false, editor: false },
    downloadFileName: plot.parentElement.id,
  });
  const svg = plot.querySelector("svg.marks");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", caption);
  return view;
}

/* What a plot shows, as tables for the keyboard and for screen readers: made when they are opened. */

const MOST_ROWS = 500;

function datasets(spec) {
  const own = spec.data && spec.data.values ? [spec.data.values] : [];
  const parts = [spec.spec, ...(spec.layer || []), ...(spec.hconcat || []), ...(spec.vconcat || []), ...(spec.concat || [])];
  return parts.filter(Boolean).reduce((found, part) => found.concat(datasets(part)), own);
}

function rowsOf(values) {
  return values.flatMap((value) => {
    const lists = Object.entries(value).filter(([, entry]) => Array.isArray(entry));
    if (!lists.length) return [value];
    const length = Math.max(...lists.map(([, entry]) => entry.length));
    const at = (place) => Object.fromEntries(lists.map(([name, entry]) => [name, entry[place]]));
    return Array.from({ length }, (_, place) => ({ ...value, ...at(place) }));
  });
}

function textOf(value) {
  if (typeof value === "number") return String(Number(value.toPrecision(4)));
  return value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
}

function tableOf(rows) {
  const table = document.createElement("table");
  table.className = "plain";
  const names = [...new Set(rows.flatMap(Object.keys))];
  const head = table.createTHead().insertRow();
  for (const name of names) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = name.replaceAll("_", " ");
    head.append(cell);
  }
  const body = table.createTBody();
  for (const row of rows.slice(0, MOST_ROWS)) {
    const line = body.insertRow();
    for (const name of names) line.insertCell().textContent = textOf(row[name]);
  }
  return table;
}

function fillNumbers(details, plot, title) {
  if (!details.open || details.querySelector("table")) return;
  const spec = JSON.parse(document.getElementById(`plot-${plot.dataset.plot}`).textContent);
  for (const values of datasets(spec)) {
    const rows = rowsOf(values);
    const scroll = document.createElement("div");
    scroll.className = "scroll";
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", title);
    scroll.append(tableOf(rows));
    details.append(scroll);
    if (rows.length > MOST_ROWS) {
      const more = document.createElement("p");
      more.textContent = `The first ${MOST_ROWS} of ${rows.length} rows.`;
      details.append(more);
    }
  }
}

for (const plot of document.querySelectorAll(".plot")) {
  const details = document.createElement("details");
  details.className = "values";
  const summary = document.createElement("summary");
  const title = `Numbers of the plot: ${plot.parentElement.querySelector("h3").textContent}`;
  summary.textContent = title;
  details.append(summary);
  details.addEventListener("toggle", () => fillNumbers(details, plot, title));
  plot.after(details);
}

if (window.vegaEmbed) {
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
        watcher.unobserve(target);
        draw(target);
      }
    },
    { rootMargin: "300px" },
  );
  document.querySelectorAll(".plot").forEach((plot) => watcher.observe(plot));
}
themed();
