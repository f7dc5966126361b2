"use strict";
// The queries: a table that sorts and filters, any two methods compared, a body for a query when it is opened.
window.explore = ({ taken, show, fill, addressOf, placeholder, text }) => {
  const fillAll = (within) => within.querySelectorAll("[data-image]").forEach(fill);
  const data = taken("content");
  const svg = document.querySelector("svg").namespaceURI;
  const table = document.getElementById("ap");
  const list = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...list.rows];
  const column = (name) => heads.findIndex((head) => head.dataset.sort === String(name));
  const byId = (id) => document.getElementById(id);
  const state = {
    base: data.base, focus: data.focus, kind: "all", category: "", text: "", groups: new Map(), order: null, limit: 100,
  };
  const several = data.methods.length > 1;

  const create = (name, className = "", content = "") => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (content !== "") element.textContent = content;
    return element;
  };
  const draw = (name, attributes) => {
    const element = document.createElementNS(svg, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };

  // Numbers
  const ap = (method, q) => data.aps[method][q];
  const delta = (q) => {
    const before = ap(state.base, q);
    const after = ap(state.focus, q);
    return before === null || after === null || !several ? null : after - before;
  };
  const percent = (value) => (value === null ? "–" : value.toFixed(1));
  const signed = (value) => {
    if (value === null) return "–";
    const shown = Math.abs(value).toFixed(1);
    return shown === "0.0" ? "0.0" : (value > 0 ? "+" : "−") + shown;
  };
  const changeOf = (value) => (value === null ? "" : value >= 0.05 ? "up" : value <= -0.05 ? "down" : "same");
  const grouped = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ",");
  const comparedIn = (query) => (query.d[state.focus] ? state.focus : query.d.findIndex((depth) => depth > 0));
  const failed = (q) => {
    const query = data.queries[q];
    const method = comparedIn(query);
    if (method < 0) return false;
    return !query.r.some((ranks, at) => query.k[at] === "p" && ranks[method] > 0 && ranks[method] <= data.results);
  };

  // A picture with the boxes of the object on it
  const boxesOn = (figure, number) => {
    const known = data.boxes[number] ?? data.boxes[-1 - number];
    const image = figure.querySelector("img");
    if (!known || !image) return;
    const inPixels = data.boxes[number] === undefined;
    const place = () => {
      const { naturalWidth: width, naturalHeight: height } = image;
      if (!width || figure.querySelector("svg")) return;
      const sheet = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "boxes", "aria-hidden": "true" });
      for (const [x, y, w, h] of known) {
        const [across, down] = inPixels ? [1, 1] : [width / 1000, height / 1000];
        const frame = { x: x * across, y: y * down, width: w * across, height: h * down };
        sheet.append(draw("rect", { ...frame, class: "under" }), draw("rect", frame));
      }
      figure.append(sheet);
    };
    image.addEventListener("load", place);
    if (image.complete) place();
  };
  const picture = (number, name, className) => {
    const frame = create("span", className);
    if (!addressOf(number)) {
      frame.append(placeholder(name));
      return frame;
    }
    const image = create("img");
    image.dataset.image = number;
    image.alt = name;
    if (!addressOf(number).startsWith("blob:")) image.loading = "lazy";
    frame.append(image);
    boxesOn(frame, number);
    return frame;
  };

  // The body of a query
  const kinds = { p: "positive", d: "distractor", j: "junk" };
  const rankText = (query, at, method) => {
    const rank = query.r[at][method];
    return rank ? grouped(rank) : `> ${grouped(query.d[method])}`;
  };
  const cell = (query, at, className, caption, score) => {
    const id = data.ids[query.i[at]];
    const item = create("li", className);
    item.title = score === undefined ? id : `${id}\nscore ${score}`;
    item.append(picture(query.i[at], `${className} ${id}`, "pic"), caption);
    return item;
  };
  const strip = (title, note, items, label) => {
    const part = create("div", "strip");
    const head = create("h4");
    if (typeof title === "number") head.append(document.querySelector(`#swatches [data-method="${title}"]`).cloneNode(true), " ");
    head.append(typeof title === "number" ? data.methods[title] : title, " ", create("span", "quiet", note));
    const shown = create("ol");
    shown.tabIndex = 0;
    shown.setAttribute("aria-label", label);
    shown.append(...items);
    part.append(head, shown);
    return part;
  };
  const moved = (query, at, rank, base, isPositive) => {
    const caption = create("span", "rank");
    const before = query.r[at][base];
    if (before === rank) caption.textContent = grouped(rank);
    else {
      const better = !before || rank < before ? "up" : "down";
      caption.append(create("span", `from ${isPositive ? better : ""}`.trim(), `${before ? grouped(before) : "new"} → ${grouped(rank)}`));
    }
    return caption;
  };
  const methodStrip = (query, q, method) => {
    const order = query.i.map((_, at) => at).filter((at) => query.r[at][method] > 0 && query.r[at][method] <= data.results);
    order.sort((a, b) => query.r[a][method] - query.r[b][method]);
    const compared = method !== state.base && query.d[state.base] > 0;
    const items = order.map((at) => {
      const rank = query.r[at][method];
      const kind = kinds[query.k[at]];
      const caption = compared
        ? moved(query, at, rank, state.base, kind === "positive")
        : create("span", "rank", grouped(rank));
      return cell(query, at, kind, caption, query.s[method][rank - 1]);
    });
    return strip(method, `AP ${percent(ap(method, q))}`, items, `First results of ${data.methods[method]}`);
  };
  const fromTo = (query, at, method) => {
    const caption = create("span", "rank");
    const now = rankText(query, at, method);
    const before = method !== state.base && query.d[state.base] ? rankText(query, at, state.base) : now;
    if (before === now) caption.textContent = now;
    else caption.append(create("span", "from", `${before} → ${now}`));
    return caption;
  };
  const body = (q) => {
    const query = data.queries[q];
    const compared = comparedIn(query);
    const whole = create("div", "body");
    const about = create("div", "about");
    const figure = create("figure");
    if (query.q !== undefined) figure.append(picture(query.q, `Query ${rows[q].id}`, "pic large"));
    const caption = create("figcaption");
    const head = rows[q].querySelector("th");
    caption.append(create("code", "", head.title));
    const words = head.querySelector("q");
    if (words) caption.append(create("br"), words.cloneNode(true));
    const category = column("category");
    if (category >= 0 && rows[q].cells[category].textContent) {
      caption.append(create("br"), create("span", "quiet", rows[q].cells[category].textContent));
    }
    caption.append(create("br"), create("span", "quiet", `${query.p} positive${query.p === 1 ? "" : "s"}`));
    figure.append(caption);
    about.append(figure);
    const strips = create("div", "strips");
    const order = [compared, state.base, ...data.methods.keys()].filter((m, at, all) => m >= 0 && query.d[m] && all.indexOf(m) === at);
    // The two compared come first, the others behind a switch where there are many.
    order.sort((a, b) => (b === state.base) - (a === state.base) || (b === compared) - (a === compared) || a - b);
    const first = order.filter((m) => m === state.base || m === compared);
    const others = order.filter((m) => !first.includes(m));
    strips.append(...first.map((method) => methodStrip(query, q, method)));
    const positives = query.i.map((_, at) => at).filter((at) => query.k[at] === "p");
    const missed = positives.filter((at) => !query.r[at][compared] || query.r[at][compared] > data.results);
    missed.sort((a, b) => (query.r[a][compared] || Infinity) - (query.r[b][compared] || Infinity) || a - b);
    const beyond = missed.length + query.p - positives.length;
    if (beyond > 0 && data.missed > 0) {
      const shown = missed.slice(0, data.missed);
      const note = `${beyond} positive${beyond === 1 ? "" : "s"} beyond the first ${data.results} of ${data.methods[compared]}, and where they rank` + (shown.length < beyond ? `; ${shown.length} shown` : "");
      strips.append(strip("Missed", note, shown.map((at) => cell(query, at, "missed", fromTo(query, at, compared))), "Missed positives"));
    }
    if (query.h.length) {
      const note = "distractors that the methods together rank highest";
      strips.append(strip("Hard negatives", note, query.h.map((at) => cell(query, at, "distractor", fromTo(query, at, compared))), "Hard negatives"));
    }
    if (others.length) {
      const more = create("details", "more");
      more.append(create("summary", "", others.length === 1 ? data.methods[others[0]] : `${others.length} other methods`));
      more.addEventListener("toggle", () => {
        if (!more.open || more.childElementCount > 1) return;
        const inner = create("div", "strips");
        inner.append(...others.map((method) => methodStrip(query, q, method)));
        more.append(inner);
        fillAll(inner);
      });
      strips.append(more);
    }
    const pairs = data.pairs[q] ?? [];
    if (pairs.length) {
      const part = create("div", "strip");
      const matched = create("div", "grid pairs");
      for (const pair of pairs) {
        const copy = byId(`pair-${pair}`).cloneNode(true);
        copy.removeAttribute("id");
        for (const one of copy.querySelectorAll("[data-image]")) one.removeAttribute("href");
        matched.append(copy);
      }
      part.append(create("h4", "", "Matched keypoints"), matched);
      strips.append(part);
    }
    whole.append(about, strips);
    return whole;
  };

  // Opening and closing
  let opened = null;
  const close = () => {
    if (!opened) return;
    opened.detail.remove();
    opened.row.classList.remove("open");
    opened.row.querySelector("a")?.setAttribute("aria-expanded", "false");
    opened = null;
  };
  const open = (row) => {
    close();
    if (!row.querySelector("a")) return;
    const detail = create("tr", "detail");
    const place = create("td");
    place.colSpan = heads.length;
    place.append(body(Number(row.dataset.q)));
    detail.append(place);
    row.after(detail);
    row.classList.add("open");
    row.querySelector("a").setAttribute("aria-expanded", "true");
    opened = { row, detail };
    fillAll(detail);
  };

  // Sorting and filtering
  const sortKey = (q, row) => {
    const { name } = state.order;
    if (name === "id") return row.cells[0].title.toLowerCase();
    if (name === "category") return row.cells[column("category")].textContent.toLowerCase();
    if (name === "positives") return data.queries[q].p;
    return name === "delta" ? delta(q) : ap(Number(name), q);
  };
  const words = (row) => row.querySelector("q")?.textContent.toLowerCase() ?? "";
  let visible = rows;
  const lay = () => {
    const again = opened?.row;
    const shown = visible.slice(0, state.limit);
    list.replaceChildren(...shown);
    if (again) {
      if (again.isConnected) again.after(opened.detail);
      else close();
    }
    for (const row of shown) show(row);
    const more = byId("more");
    more.hidden = shown.length === visible.length;
    text(more, `Show more (${grouped(visible.length - shown.length)} left)`);
  };
  const apply = () => {
    const kept = rows.filter((row, q) => {
      const member = row.dataset.groups.split(" ");
      return (
        (state.kind === "all" || (state.kind === "failed" ? failed(q) : changeOf(delta(q)) === state.kind)) &&
        [...state.groups].every(([grouping, group]) => member.includes(`${grouping}:${group}`)) &&
        (!state.category || row.dataset.category === state.category) &&
        (row.cells[0].title.toLowerCase().includes(state.text) || words(row).includes(state.text))
      );
    });
    if (state.order) {
      const sign = state.order.direction === "ascending" ? 1 : -1;
      const keyed = kept.map((row) => [sortKey(Number(row.dataset.q), row), row]);
      keyed.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return a < b ? -sign : a > b ? sign : 0;
      });
      visible = keyed.map(([, row]) => row);
    } else visible = kept;
    state.limit = 100;
    lay();
    text(byId("shown"), `${grouped(visible.length)} ${visible.length === 1 ? "query" : "queries"}`);
  };
  const more = () => {
    state.limit += 200;
    lay();
  };
  byId("more").addEventListener("click", more);
  new IntersectionObserver(([entry]) => entry.isIntersecting && more(), { rootMargin: "400px" }).observe(byId("more"));
  for (const head of heads) {
    if (head.dataset.sort === undefined) continue;
    const button = create("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const name = head.dataset.sort;
      const first = name === "id" || name === "category" ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const direction = state.order?.name === name && state.order.direction === first ? other : first;
      state.order = { name, direction };
      for (const one of heads) one.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", direction);
      apply();
    });
  }
  const buttons = [...document.querySelectorAll("button[data-filter]")];
  const press = (kind) => {
    state.kind = kind;
    for (const other of buttons) other.setAttribute("aria-pressed", String(other.dataset.filter === kind));
    apply();
  };
  for (const button of buttons) button.addEventListener("click", () => press(button.dataset.filter));
  const category = byId("category");
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
  const search = byId("search");
  search.addEventListener("input", () => {
    state.text = search.value.trim().toLowerCase();
    apply();
  });

  // Two methods compared
  const points = byId("points");
  const compare = () => {
    const changes = rows.map((_, q) => changeOf(delta(q)));
    const count = (kind) => changes.filter((change) => change === kind).length;
    const at = column("delta");
    rows.forEach((row, q) => {
      if (at < 0) return;
      row.cells[at].className = `n ${changes[q]}`;
      row.cells[at].textContent = signed(delta(q));
      data.methods.forEach((_, method) => {
        row.cells[column(method)].classList.toggle("other", method !== state.base && method !== state.focus);
      });
    });
    data.methods.forEach((_, method) => {
      heads[column(method)].classList.toggle("other", method !== state.base && method !== state.focus);
    });
    for (const [kind, button] of [["up", "up"], ["down", "down"]]) {
      text(document.querySelector(`[data-filter="${button}"] span`), grouped(count(kind)));
    }
    text(document.querySelector('[data-filter="failed"] span'), grouped(rows.filter((_, q) => failed(q)).length));
    for (const name of ["base", "focus"]) {
      for (const node of document.querySelectorAll(`[data-name="${name}"]`)) text(node, data.methods[state[name]]);
    }
    if (points) {
      const { left, top, side } = Object.fromEntries(Object.entries(byId("scatter").dataset).map(([key, value]) => [key, Number(value)]));
      const both = rows.map((_, q) => q).filter((q) => changes[q]);
      points.replaceChildren(
        ...both.map((q) =>
          draw("circle", {
            class: `point ${changes[q]}`, "data-q": q, r: both.length < 300 ? 4 : 3,
            cx: (left + (side * ap(state.base, q)) / 100).toFixed(1),
            cy: (top + (side * (100 - ap(state.focus, q))) / 100).toFixed(1),
          }),
        ),
      );
      for (const kind of ["up", "down", "same"]) text(byId(`count-${kind}`), grouped(count(kind)));
      text(byId("pearson"), pearson(both));
      const p = data.p[`${state.base},${state.focus}`] ?? data.p[`${state.focus},${state.base}`];
      text(byId("p-value"), p === undefined ? "–" : String(Number(p.toPrecision(2))));
    }
  };
  const pearson = (both) => {
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const [x, y] = [state.base, state.focus].map((method) => both.map((q) => ap(method, q)));
    const [mx, my] = [mean(x), mean(y)];
    const sum = (of) => both.reduce((total, _, at) => total + of(at), 0);
    const [xx, yy, xy] = [sum((n) => (x[n] - mx) ** 2), sum((n) => (y[n] - my) ** 2), sum((n) => (x[n] - mx) * (y[n] - my))];
    return both.length < 2 || xx <= 1e-18 || yy <= 1e-18 ? "–" : (xy / Math.sqrt(xx * yy)).toFixed(2);
  };
  for (const name of ["base", "focus"]) {
    byId(name)?.addEventListener("change", () => {
      state[name] = Number(byId(name).value);
      const again = opened?.row;
      close();
      compare();
      apply();
      if (again?.isConnected) open(again);
    });
  }

  // Pointing at the scatter plot names the query; clicking opens it.
  const tip = create("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.append(tip);
  points?.addEventListener("pointerover", (event) => {
    const q = event.target.dataset?.q;
    if (q === undefined) return;
    text(tip, `${rows[q].cells[0].title}  ${percent(ap(state.base, q))} → ${percent(ap(state.focus, q))}`);
    tip.hidden = false;
    const box = event.target.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(box.left + 14, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(8, box.top - tip.offsetHeight - 6)}px`;
  });
  points?.addEventListener("pointerout", () => (tip.hidden = true));
  points?.addEventListener("click", (event) => {
    if (event.target.dataset?.q !== undefined) go(Number(event.target.dataset.q));
  });

  // A link to a query opens it, even when a filter hides it.
  const go = (q) => {
    if (location.hash === `#query-${q}`) follow();
    else location.hash = `#query-${q}`;
  };
  const follow = () => {
    const q = /^#query-(\d+)$/.exec(location.hash)?.[1];
    const row = q === undefined ? undefined : rows[q];
    if (!row) return;
    if (!visible.includes(row)) {
      state.category = state.text = search.value = "";
      state.groups.clear();
      for (const select of groupings) select.value = "";
      if (category) category.value = "";
      press("all");
    }
    if (!row.isConnected) {
      state.limit = visible.indexOf(row) + 50;
      lay();
    }
    open(row);
    row.scrollIntoView();
  };
  window.addEventListener("hashchange", follow);
  list.addEventListener("click", (event) => {
    const row = event.target.closest("tr.query");
    if (!row || !row.querySelector("a") || getSelection().toString()) return;
    event.preventDefault();
    if (row === opened?.row) {
      close();
      history.replaceState(null, "", location.pathname + location.search);
    } else {
      open(row);
      history.replaceState(null, "", `#${row.id}`);
    }
  });
  const step = (by) => {
    const at = opened ? visible.indexOf(opened.row) : -1;
    const next = visible[Math.min(Math.max(at + by, 0), visible.length - 1)];
    if (!next || next === opened?.row) return;
    if (!next.isConnected) more();
    open(next);
    history.replaceState(null, "", `#${next.id}`);
    next.querySelector("a")?.focus({ preventScroll: true });
    next.scrollIntoView();
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest?.("input, select, textarea");
    if (event.key === "Escape") {
      if (typing) event.target.blur();
      close();
    } else if (typing) return;
    else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "/") {
      event.preventDefault();
      search.focus();
    }
  });

  lay();
  follow();
  if (!opened && visible.length && visible.length < 300) open(visible[0]);
};
