"use strict";
(() => {
  // Tables: a button in each head sorts its column; what has no number comes last either way.
  const valueOf = (row, column) => {
    for (const cell of row.cells) {
      if ((cell.dataset.columns || "").split(" ").includes(column)) {
        if (cell.dataset.text !== undefined) return cell.dataset.text;
        return cell.dataset.value === undefined || cell.dataset.value === "" ? null : Number(cell.dataset.value);
      }
    }
    return null;
  };
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
  for (const button of document.querySelectorAll("th button[data-column]")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const table = button.closest("table");
      const before = head.getAttribute("aria-sort");
      const first = button.dataset.first || "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = before === first ? other : first;
      for (const th of table.querySelectorAll("th[aria-sort]")) th.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row, place) => ({ row, place, value: valueOf(row, button.dataset.column) }));
      const sign = order === "ascending" ? 1 : -1;
      rows.sort((a, b) => {
        if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.place - b.place;
        return sign * compare(a.value, b.value) || a.place - b.place;
      });
      for (const { row } of rows) body.append(row);
    });
  }

  // A shadow at the edge tells that a wide table goes on.
  const edge = (box) => {
    box.parentElement.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 2);
  };
  for (const box of document.querySelectorAll(".scroll")) {
    box.addEventListener("scroll", () => edge(box), { passive: true });
    addEventListener("resize", () => edge(box), { passive: true });
    edge(box);
  }

  // Figures: the library lies in the page as text and starts when the first figure comes near.
  const start = () => {
    if (window.Plotly) return;
    const script = document.createElement("script");
    script.textContent = document.getElementById("plotly").textContent;
    document.head.append(script);
  };
  const draw = (box) => {
    start();
    const { data, layout } = JSON.parse(document.getElementById(box.dataset.figure).textContent);
    const hidden = [...box.closest("figure").querySelectorAll("[data-meta][aria-pressed=false]")];
    for (const trace of data) trace.visible = !hidden.some((key) => Number(key.dataset.meta) === trace.meta);
    const options = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "resetScale2d"]] };
    window.Plotly.newPlot(box, data, layout, options).then(() => box.classList.add("drawn"));
  };
  const boxes = document.querySelectorAll("[data-figure]");
  if ("IntersectionObserver" in window) {
    const watch = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) {
          watch.unobserve(entry.target);
          draw(entry.target);
        }
      }
    }, { rootMargin: "300px" });
    for (const box of boxes) watch.observe(box);
  } else {
    for (const box of boxes) draw(box);
  }
  // Legends: one for all panels of a figure; an entry hides and shows what it names in each of them.
  for (const key of document.querySelectorAll("[data-meta]")) {
    key.addEventListener("click", () => {
      const visible = key.getAttribute("aria-pressed") === "false";
      key.setAttribute("aria-pressed", String(visible));
      for (const box of key.closest("figure").querySelectorAll(".drawn")) {
        const places = [...box.data.keys()].filter((i) => box.data[i].meta === Number(key.dataset.meta));
        if (places.length) window.Plotly.restyle(box, { visible }, places);
      }
    });
  }
  addEventListener("beforeprint", () => {
    for (const box of boxes) if (!box.classList.contains("drawn")) draw(box);
  });
})();
