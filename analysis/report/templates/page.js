// Without this script every fold still opens and every table can be read; it adds sorting, CSV files and copying.
"use strict";
const every = (selector, root = document) => [...root.querySelectorAll(selector)];
const button = (text, action) => {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", action);
  return made;
};

function unfold() { // a link into a fold opens it
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  const own = target.querySelector(":scope > details > summary > h2");
  if (own) own.closest("details").open = true;
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", unfold);
document.addEventListener("click", event => {
  const link = event.target.closest('a[href^="#"]');
  if (link && link.hash === location.hash) setTimeout(unfold);
});

const value = cell => {
  const found = cell.textContent.trim().replace(/−/g, "-").replace(/(\d),(?=\d{3})/g, "$1").match(/^[<≥+]?\s*([+-]?[\d.]+(?:e[+-]?\d+)?)/i);
  return found ? parseFloat(found[1]) : NaN;
};
function compare(a, b) { // numbers by size, words by letters, what is missing last
  const [x, y] = [value(a), value(b)];
  if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
  if (Number.isNaN(x) !== Number.isNaN(y)) return null;
  return a.textContent.trim().localeCompare(b.textContent.trim());
}
function sort(head, column) {
  const down = head.getAttribute("aria-sort") === "ascending";
  const body = head.closest("table").tBodies[0];
  every("th", head.parentElement).forEach(each => each.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...body.rows].sort((a, b) => {
    const order = compare(a.cells[column], b.cells[column]);
    if (order === null) return Number.isNaN(value(a.cells[column])) ? 1 : -1;
    return down ? -order : order;
  });
  body.append(...rows);
}
const quoted = text => `"${text.trim().replace(/"/g, '""')}"`;
function download(table) {
  const lines = [...table.rows].map(row => [...row.cells].map(cell => quoted(cell.textContent)).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\r\n")], { type: "text/csv" }));
  link.download = "table.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}
every("figure.table").forEach(figure => {
  const table = figure.querySelector("table");
  every("thead th", table).forEach((head, column) => {
    const inside = button("", () => sort(head, column));
    inside.append(...head.childNodes);
    head.append(inside);
  });
  figure.querySelector("figcaption").append(" ", button("CSV", () => download(table)));
});
every(".command").forEach(each => {
  const copy = button("Copy", async () => {
    const text = each.querySelector("pre").textContent;
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(each.querySelector("pre"));
      copy.textContent = "Selected";
    }
  });
  each.append(copy);
});
const tools = document.querySelector(".tools"); // pages of a series are not folded
const folds = tools ? every("main > section > details") : [];
if (folds.length) {
  const toggle = button("Open all sections", () => {
    const open = folds.some(fold => !fold.open);
    folds.forEach(fold => { fold.open = open; });
    toggle.textContent = open ? "Close all sections" : "Open all sections";
  });
  tools.append(toggle);
}
unfold();
