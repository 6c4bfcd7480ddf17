
"use strict";
(() => {
  const value = (row, i) => row.cells[i].dataset.value ?? row.cells[i].textContent;
  const compare = (kind) => kind === "number"
    ? (a, b) => Number(a) - Number(b)
    : (a, b) => a.localeCompare(b, "en", { numeric: true });

  function sort(table, header, i) {
    const down = header.getAttribute("aria-sort") === "ascending";
    const body = table.tBodies[0];
    const by = compare(header.dataset.kind);
    const rows = Array.from(body.rows).map((row) => [value(row, i), row]);
    const known = rows.filter(([v]) => v !== "").sort((a, b) => (down ? -1 : 1) * by(a[0], b[0]));
    const unknown = rows.filter(([v]) => v === "");
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...[...known, ...unknown].map(([, row]) => row));
  }

  function addSorting(table) {
    Array.from(table.tHead.rows[0].cells).forEach((header, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(table, header, i));
      header.append(button);
    });
  }

  function addFilter(table) {
    const rows = Array.from(table.tBodies[0].rows);
    if (rows.length < 5) return;
    const label = document.createElement("label");
    label.className = "filter";
    const input = document.createElement("input");
    input.type = "search";
    input.autocomplete = "off";
    const status = document.createElement("output");
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      status.textContent = words.length ? `${shown} of ${rows.length}` : "";
    });
    label.append("Filter ", input, " ", status);
    table.closest(".scroll").before(label);
  }

  addEventListener("beforeprint", () => {
    for (const folded of document.querySelectorAll("details")) folded.open = true;
  });

  for (const table of document.querySelectorAll("table.sortable")) {
    addSorting(table);
    addFilter(table);
  }
})();
