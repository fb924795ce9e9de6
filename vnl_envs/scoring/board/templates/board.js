// Sorting, filtering and comparing. The pages are whole without it.
"use strict";
(() => {
  const cellOf = (row, column) => row.cells[column];

  // Sorting ---------------------------------------------------------------------------------------

  const valueOf = (cell) => cell.dataset.value ?? cell.textContent.trim();
  const isNumber = (text) => text !== "" && Number.isFinite(Number(text));

  function compareValues(a, b, sign) {
    // What is missing comes last in both directions.
    if (a === "" || b === "") return (a === "") - (b === "");
    const difference = isNumber(a) && isNumber(b) ? Number(a) - Number(b) : a.localeCompare(b);
    return sign * difference;
  }

  function sortTable(table, header, direction) {
    const column = header.cellIndex;
    const sign = direction === "ascending" ? 1 : -1;
    for (const body of table.tBodies) {
      const rows = [...body.rows].map((row) => [valueOf(cellOf(row, column)), row]);
      rows.sort(([a], [b]) => compareValues(a, b, sign));
      body.append(...rows.map(([, row]) => row));
    }
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", direction);
  }

  function makeSortable(table, changed) {
    for (const header of table.tHead.rows[0].querySelectorAll("th[data-key]")) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const first = header.dataset.first ?? "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const direction = header.getAttribute("aria-sort") === first ? other : first;
        sortTable(table, header, direction);
        changed(header.dataset.key, direction);
      });
    }
  }

  const board = document.querySelector("table.board");
  for (const table of document.querySelectorAll("table.sortable")) {
    if (table !== board) makeSortable(table, () => {});
  }
  if (!board) return;

  // The board: its state is in the address ---------------------------------------------------------

  const byId = (id) => document.getElementById(id);
  const [controls, query, status, shown, comparison] =
    ["controls", "query", "status", "shown", "comparison"].map(byId);
  const rows = [...board.tBodies].flatMap((body) => [...body.rows]);
  const state = new URLSearchParams(location.search);

  function remember(name, value) {
    if (value) state.set(name, value);
    else state.delete(name);
    const search = state.toString();
    history.replaceState(null, "", search ? `?${search}` : location.pathname);
  }

  // Filtering -------------------------------------------------------------------------------------

  const textOf = (row) =>
    `${row.querySelector(".who").textContent} ${row.dataset.algorithms}`.toLowerCase();

  function filter() {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = textOf(row);
      const fits = !status.value || row.dataset.status === status.value;
      row.hidden = !(fits && words.every((word) => text.includes(word)));
    }
    const visible = rows.filter((row) => !row.hidden).length;
    shown.textContent = `${visible} of ${rows.length} entries`;
  }

  // Comparing -------------------------------------------------------------------------------------

  const chosen = [];

  function element(tag, text, attributes = {}) {
    const made = document.createElement(tag);
    made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  const rowOf = (entry) => rows.find((row) => row.dataset.entry === entry);
  const nameOf = (row) => row.querySelector(".name").textContent;

  function line(a, b, column) {
    const [left, right] = [cellOf(a, column), cellOf(b, column)];
    const row = document.createElement("tr");
    row.append(element("th", left.dataset.label, { scope: "row" }));
    for (const cell of [left, right]) {
      const text = cell.querySelector(".figure")?.textContent ?? cell.textContent.trim();
      const range = cell.querySelector(".range")?.textContent ?? "";
      const made = element("td", text, { class: "number" });
      made.append(" ", element("span", range, { class: "range" }));
      row.append(made);
    }
    const [x, y] = [left, right].map(valueOf);
    const known = left.classList.contains("scored") && isNumber(x) && isNumber(y);
    const difference = known ? (Number(x) - Number(y)).toFixed(3).replace("-", "−") : "";
    row.append(element("td", difference, { class: "number" }));
    return row;
  }

  function compare() {
    for (const row of rows) {
      const box = row.querySelector("input");
      box.checked = chosen.includes(row.dataset.entry);
      row.classList.toggle("chosen", box.checked);
    }
    comparison.replaceChildren();
    comparison.hidden = chosen.length < 2;
    if (comparison.hidden) {
      if (chosen.length) shown.textContent = "choose a second entry to compare";
      return;
    }
    const [a, b] = chosen.map(rowOf);
    comparison.append(element("h2", "Comparison"));
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    head.append(element("td", ""));
    for (const row of [a, b]) {
      const cell = element("th", "", { scope: "col", class: "number" });
      cell.append(element("bdi", nameOf(row)));
      head.append(cell);
    }
    head.append(element("th", "difference", { scope: "col", class: "number" }));
    const body = table.createTBody();
    for (const cell of a.cells) {
      if (cell.dataset.label) body.append(line(a, b, cell.cellIndex));
    }
    const around = element("div", "", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Comparison" });
    around.append(table);
    const [p, q] = [a, b].map((row) => row.querySelector(".rank").dataset.value);
    if (p && p === q) {
      comparison.append(element("p", "They share a rank. `vnl-envs score compare` holds them against each other episode by episode.", { class: "quiet" }));
    }
    const close = element("button", "Close", { type: "button" });
    close.addEventListener("click", () => choose([]));
    comparison.append(around, close);
  }

  function choose(entries) {
    chosen.splice(0, chosen.length, ...entries.filter(rowOf).slice(-2));
    remember("compare", chosen.join(","));
    filter();
    compare();
  }

  function addBox(row) {
    const label = element("label", "", { class: "choose" });
    const box = element("input", "", { type: "checkbox" });
    box.addEventListener("change", () => {
      const others = chosen.filter((entry) => entry !== row.dataset.entry);
      choose(box.checked ? [...others, row.dataset.entry] : others);
    });
    label.append(box, element("span", "compare"), element("span", ` ${nameOf(row)}`, { class: "hidden" }));
    row.querySelector(".by").append(" ", label);
  }

  // Begin -----------------------------------------------------------------------------------------

  makeSortable(board, (key, direction) => {
    state.set("direction", direction);
    remember("sort", key);
  });
  rows.forEach(addBox);
  controls.hidden = false;
  controls.addEventListener("submit", (event) => event.preventDefault());
  query.value = state.get("filter") ?? "";
  status.value = state.get("status") ?? "";
  if (status.selectedIndex < 0) status.value = "";
  query.addEventListener("input", () => { remember("filter", query.value.trim()); filter(); });
  status.addEventListener("change", () => { remember("status", status.value); filter(); });
  const headers = [...board.tHead.rows[0].cells];
  const sorted = headers.find((header) => header.dataset.key === state.get("sort"));
  if (sorted) {
    const direction = state.get("direction") === "descending" ? "descending" : "ascending";
    sortTable(board, sorted, direction);
  }
  choose((state.get("compare") ?? "").split(","));
})();
