(() => {
  "use strict";
  // What was not measured has an empty value and stands last in either order.
  const value = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value === undefined) return cell.textContent.trim();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  const sort = (table, header) => {
    const first = header.dataset.first || "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = header.getAttribute("aria-sort") === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    const column = header.cellIndex;
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    rows.sort((a, b) => compare(value(a, column), value(b, column), sign));
    body.append(...rows);
    for (const each of header.parentElement.cells) each.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const header of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(table, header));
      header.append(button);
    }
  }
  for (const filters of document.querySelectorAll(".filters")) {
    const items = document.getElementById(filters.dataset.for).querySelectorAll("[data-item]");
    const selects = filters.querySelectorAll("select");
    const shown = filters.querySelector("output");
    const apply = () => {
      let count = 0;
      for (const item of items) {
        const fits = Array.from(selects).every(
          (select) => select.value === "" || item.getAttribute("data-" + select.name) === select.value,
        );
        item.hidden = !fits;
        count += fits ? 1 : 0;
      }
      shown.textContent = count + " of " + items.length + " shown";
    };
    for (const select of selects) select.addEventListener("change", apply);
    filters.hidden = false;
    apply();
  }
})();
