"use strict";
// The page sets data-ready on <html> when everything below has run, and counts errors in data-errors.
(() => {
  const root = document.documentElement;
  const record = (message) => {
    root.dataset.errors = String(Number(root.dataset.errors) + 1);
    root.dataset.error = String(message);
  };
  window.addEventListener("error", (event) => record(event.message || "resource"), true);
  window.addEventListener("unhandledrejection", (event) => record(event.reason));
  document.addEventListener("securitypolicyviolation", (event) => record(event.violatedDirective));
  root.classList.add("js-on");

  // Theme: follows the system until the reader chooses; a file page may have no storage.
  const remembered = (value) => {
    try {
      if (value !== undefined) localStorage.setItem("ilias-fast-theme", value);
      return localStorage.getItem("ilias-fast-theme");
    } catch {
      return null;
    }
  };
  const chosen = remembered();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    remembered(root.dataset.theme);
  });

  // Pictures: each is embedded once and becomes one blob, made when it is first needed.
  const source = document.getElementById("images");
  const images = JSON.parse(source.textContent);
  source.remove();
  const urls = new Map();
  const addressOf = (number) => {
    const uri = images[number];
    if (!uri) return "";
    if (!urls.has(number)) {
      const [head, body] = uri.split(",");
      const bytes = Uint8Array.from(atob(body), (character) => character.charCodeAt(0));
      urls.set(number, URL.createObjectURL(new Blob([bytes], { type: head.slice(5, head.indexOf(";")) })));
      images[number] = true;
    }
    return urls.get(number);
  };
  const fill = (element) => {
    const address = addressOf(Number(element.dataset.image));
    if (!address) {
      element.classList.add("unreadable");
      if (element.localName === "img") element.replaceWith(placeholder(element.alt));
    } else {
      element.setAttribute(element.localName === "img" ? "src" : "href", address);
    }
  };
  const placeholder = (name) => {
    const box = document.createElement("span");
    box.className = "noimage";
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", (name + " (image not available)").trim());
    box.textContent = "no image";
    return box;
  };
  const show = (within) => within.querySelectorAll("[data-image]").forEach(fill);

  // Queries: the body of each is a template until it is opened.
  const open = (query) => {
    const template = query.querySelector(":scope > template");
    if (!template) return;
    const body = template.content.cloneNode(true);
    template.remove();
    query.append(body);
    show(query);
  };
  const queries = [...document.querySelectorAll("details.query")];
  for (const query of queries) query.addEventListener("toggle", () => query.open && open(query));
  show(document);
  for (const query of queries.slice(0, 2)) query.open = true;
  for (const query of queries) if (query.open) open(query);

  // Filters
  const state = { kind: "all", category: "", text: "", groups: new Map() };
  const counter = document.getElementById("shown");
  const apply = () => {
    let count = 0;
    for (const query of queries) {
      const { id, category, change, failed } = query.dataset;
      const member = query.dataset.groups.split(" ");
      const grouped = [...state.groups].every(([grouping, group]) => member.includes(`${grouping}:${group}`));
      const kind = state.kind === "all" || state.kind === change || (state.kind === "failed" && failed === "yes");
      const visible =
        kind && grouped && (!state.category || category === state.category) && id.toLowerCase().includes(state.text);
      query.hidden = !visible;
      count += visible;
    }
    if (counter) counter.textContent = `${count} ${count === 1 ? "query" : "queries"}`;
  };
  const buttons = [...document.querySelectorAll("button[data-filter]")];
  const press = (kind) => {
    state.kind = kind;
    for (const other of buttons) other.setAttribute("aria-pressed", String(other.dataset.filter === kind));
    apply();
  };
  for (const button of buttons) button.addEventListener("click", () => press(button.dataset.filter));
  const category = document.getElementById("category");
  category?.addEventListener("change", () => {
    state.category = category.value;
    apply();
  });
  const groupings = [...document.querySelectorAll("select.grouping")];
  for (const select of groupings) {
    select.addEventListener("change", () => {
      if (select.value) state.groups.set(select.dataset.grouping, select.value);
      else state.groups.delete(select.dataset.grouping);
      apply();
    });
  }
  const search = document.getElementById("search");
  search?.addEventListener("input", () => {
    state.text = search.value.trim().toLowerCase();
    apply();
  });

  // A link to a query opens it, even when a filter hides it.
  const follow = () => {
    const query = /^#query-\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
    if (!query) return;
    if (query.hidden) {
      state.category = state.text = "";
      state.groups.clear();
      for (const select of groupings) select.value = "";
      if (category) category.value = "";
      if (search) search.value = "";
      press("all");
    }
    query.open = true;
    open(query);
    query.scrollIntoView();
  };
  window.addEventListener("hashchange", follow);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#query-']");
    if (link && link.getAttribute("href") === location.hash) follow();
  });

  // Tables: a click on a column head sorts; a second click turns the order; cells without a value stay last.
  const value = (row, column, kind) => {
    const text = row.cells[column].textContent.trim();
    if (kind === "text") return text.toLowerCase();
    const number = Number.parseFloat(text.replaceAll(",", "").replace("−", "-"));
    return Number.isNaN(number) ? null : number;
  };
  const sort = (head, kind) => {
    const table = head.closest("table");
    const column = head.cellIndex;
    const first = kind === "number" ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const cell of head.parentElement.cells) cell.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [value(row, column, kind), row]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return a < b ? -sign : a > b ? sign : 0;
    });
    body.append(...keyed.map(([, row]) => row));
  };
  for (const head of document.querySelectorAll("table.sortable thead th[data-kind]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(head, head.dataset.kind));
  }

  follow();
  root.dataset.ready = "true";
})();
