/* Sorts, filters, switches and plots. Text goes into the page through textContent alone. */
"use strict";
(() => {
  const report = JSON.parse(document.getElementById("report-data").textContent);
  const tip = document.getElementById("tip");
  const said = document.getElementById("said");
  const SVG = "http://www.w3.org/2000/svg";

  const metricText = (v) => (v == null ? "–" : Math.abs(v) < 0.1 ? String(Number(v.toPrecision(4))) : v.toFixed(4));
  const numberText = (v) => {
    if (v == null) return "–";
    const size = Math.abs(v);
    return size >= 10000 ? Math.round(v).toLocaleString("en-US") : size >= 10 ? v.toFixed(2) : v.toFixed(3);
  };
  const stepsText = (v) => (Number.isInteger(v) ? v.toLocaleString("en-US") : numberText(v));

  function element(tag, text, parent) {
    const made = document.createElement(tag);
    if (text != null) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  }

  // ---- tables

  function sortTable(table, column, button) {
    const head = button.closest("th");
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const numeric = head.classList.contains("num");
    const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const rows = [...table.tBodies[0].rows].map((row, place) => ({ row, place, v: value(row) }));
    rows.sort((a, b) => {
      if ((a.v === "") !== (b.v === "")) return a.v === "" ? 1 : -1; // what has no value is last either way
      const order = numeric ? Number(a.v) - Number(b.v) : a.v.localeCompare(b.v);
      return (descending ? -order : order) || a.place - b.place;
    });
    table.tBodies[0].append(...rows.map((one) => one.row));
  }

  function setUpTables() {
    for (const table of document.querySelectorAll("table.sortable")) {
      table.tHead.querySelectorAll("button.sort").forEach((button) => {
        button.addEventListener("click", () => sortTable(table, button.closest("th").cellIndex, button));
      });
    }
  }

  function drawSwatch(place, board, into) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 32 14");
    const [colourPlace, dashPlace, shape] = board.looks[place];
    const colour = `var(--c${colourPlace})`;
    const line = document.createElementNS(SVG, "line");
    for (const [name, value] of Object.entries({ x1: 0, x2: 32, y1: 7, y2: 7, "stroke-width": 2.5 })) line.setAttribute(name, value);
    line.style.stroke = colour;
    line.style.strokeDasharray = board.dashes[dashPlace].join(" ");
    const mark = document.createElementNS(SVG, "path");
    mark.setAttribute("d", shapePath(board.shapes[shape]));
    mark.setAttribute("transform", "translate(16 7)");
    mark.style.fill = colour;
    svg.append(line, mark);
    into.append(svg);
  }

  function shapePath(shape) {
    const r = 4.5;
    const triangle = { "triangle-up": 0, "triangle-right": 90, "triangle-down": 180, "triangle-left": 270 }[shape];
    if (shape === "square") return `M${-r} ${-r}H${r}V${r}H${-r}Z`;
    if (shape === "diamond") return `M0 ${-r - 1}L${r + 1} 0L0 ${r + 1}L${-r - 1} 0Z`;
    if (shape === "cross") return "M-1.7-4.5H1.7V-1.7H4.5V1.7H1.7V4.5H-1.7V1.7H-4.5V-1.7H-1.7Z";
    if (triangle !== undefined) {
      const at = [0, 120, 240].map((a) => ((a + triangle - 90) * Math.PI) / 180);
      return `M${at.map((a) => `${(5.4 * Math.cos(a)).toFixed(2)} ${(5.4 * Math.sin(a)).toFixed(2)}`).join("L")}Z`;
    }
    return `M${-r} 0A${r} ${r} 0 1 1 ${r} 0A${r} ${r} 0 1 1 ${-r} 0Z`;
  }

  // ---- rows of the plots

  function seedRows(board, workload, axis) {
    const rows = [];
    for (const curve of board.curves[workload] ?? []) {
      const at = curve.x[axis];
      if (!at) continue;
      curve.y.forEach((y, i) => y != null && rows.push({ s: curve.s, r: curve.r, x: at[i], y, curve, i }));
    }
    return rows;
  }

  function curveData(board, workload, axis) {
    const seeds = seedRows(board, workload, axis);
    const medians = [];
    for (const [s, [x, y]] of Object.entries(board.medians[workload]?.[axis] ?? {})) x.forEach((at, i) => medians.push({ s, x: at, y: y[i] }));
    const target = board.targets[workload];
    return {
      seeds: seeds.map(({ s, r, x, y }) => ({ s, r, x, y })),
      medians,
      hits: seeds.filter((row) => row.curve.hit === row.i && row.curve.counts).map(({ s, x, y }) => ({ s, x, y })),
      target: target == null ? [] : [{ y: target }],
      near: seeds,
    };
  }

  function profileData(board, clock) {
    const rows = Object.entries(board.profiles[clock] ?? {}).flatMap(([s, corners]) => corners.map(([x, y]) => ({ s, x, y })));
    return { profile: rows, near: rows };
  }

  function ladderData(board, workload) {
    const rows = board.ladder[workload];
    return { rungs: rows.map(({ s, x, y, low, high, e }) => ({ s, x, y, low, high, e })), near: rows };
  }

  function spentData(board, workload) {
    const rows = [];
    for (const [s, spans] of Object.entries(board.spent[workload])) {
      Object.entries(board.groups).forEach(([k, of], n) => {
        const v = of.reduce((sum, span) => sum + (spans[span] ?? 0), 0);
        if (v > 0) rows.push({ s, k, n, v });
      });
    }
    return { spent: rows };
  }

  function pairData(board, clock) {
    const rows = [];
    for (const { a, b, ratio, separable, verdict } of board.pairs[clock] ?? []) {
      if (ratio == null) { // one of them missed: no colour of its own
        const tip = `${a} and ${b}: no ratio where a target is missed; ${verdict}`;
        for (const [first, second] of [[a, b], [b, a]]) rows.push({ a: first, b: second, v: 1, t: "–", sep: false, tip });
        continue;
      }
      for (const [first, second, v] of [[a, b, ratio], [b, a, 1 / ratio]]) {
        const t = `${separable ? "" : "≈"}${v >= 10 ? v.toFixed(0) : v.toFixed(2)}`;
        rows.push({ a: first, b: second, v, t, sep: separable === true, tip: `${first}: ${v.toFixed(3)} times as fast as ${second}; ${verdict}` });
      }
    }
    return { pairs: rows };
  }

  function pointRows(board, cell) {
    const keys = [...new Set(board.points.map((p) => JSON.stringify([p.submission, p.workload])))];
    const rows = board.points.filter((p) => JSON.stringify([p.submission, p.workload]) === keys[cell]);
    const names = [...new Set(rows.flatMap((p) => Object.keys(p.values)))].filter(
      (name) => new Set(rows.map((p) => p.values[name])).size > 1,
    );
    const known = rows.map((p) => p.result).filter((v) => v != null);
    const worst = known.length ? Math.max(...known) * 1.1 : 1;
    return rows.map((p, n) => ({ ...p, n, names, y: p.result ?? worst, missed: p.result == null }));
  }

  const pointTip = (p) => `${Object.entries(p.values).map(([k, v]) => `${k}=${v}`).join(", ")}: ${p.missed ? "missed" : `${numberText(p.result)} ${p.unit}`}`;

  function isLog(values) {
    const low = Math.min(...values);
    return low > 0 && Math.max(...values) / low > 20;
  }

  function parallelData(rows) {
    const lines = [];
    const ends = [];
    const axes = [...(rows[0]?.names ?? []).map((name) => [name, (p) => p.values[name]]), ["result", (p) => p.y]];
    axes.forEach(([k, of], n) => {
      const raw = rows.map(of);
      const texts = raw.every((v) => typeof v === "number") ? null : [...new Set(raw.map(String))];
      const values = texts ? raw.map((v) => texts.indexOf(String(v))) : raw;
      const scale = !texts && isLog(values) ? Math.log : (v) => v;
      const low = scale(Math.min(...values));
      const span = scale(Math.max(...values)) - low || 1;
      rows.forEach((p, i) => {
        lines.push({ k, n, v: (scale(values[i]) - low) / span, p: p.n, c: p.chosen, tip: pointTip(p) });
      });
      for (const [v, of] of [[-0.07, Math.min(...values)], [1.07, Math.max(...values)]]) {
        const t = texts ? texts[of] : String(Number(of.toPrecision(3)));
        ends.push({ k, n, v, t: k === "result" && v > 1 && rows.some((p) => p.missed) ? "missed" : t });
      }
    });
    const results = new Map(lines.filter((row) => row.k === "result").map((row) => [row.p, row.v]));
    return { lines: lines.map((row) => ({ ...row, r: 1 - results.get(row.p) })), ends };
  }

  // ---- plots

  class Plot {
    constructor(state, figure) {
      this.state = state;
      this.figure = figure;
      this.kind = figure.dataset.kind;
      this.box = figure.querySelector(".view");
      this.view = null;
      this.at = null;
      figure.addEventListener("click", (event) => {
        const what = event.target.closest("button")?.dataset.do;
        if (what === "svg") this.save();
        else if (what) this.zoom(what);
      });
      this.box.addEventListener("pointermove", (event) => this.hover(event));
      this.box.addEventListener("pointerleave", () => this.unfocus());
      this.box.addEventListener("keydown", (event) => this.key(event));
      this.box.addEventListener("blur", () => this.unfocus());
    }

    data() {
      const { board, clock, axis } = this.state;
      const workload = this.figure.dataset.workload;
      if (this.kind === "curves") return curveData(board, workload, axis);
      if (this.kind === "profiles") return profileData(board, clock);
      if (this.kind === "ladder") return ladderData(board, workload);
      if (this.kind === "spent") return spentData(board, workload);
      if (this.kind === "pairs") return pairData(board, clock);
      return this.given;
    }

    async draw() {
      const turn = (this.turn = (this.turn ?? 0) + 1);
      const { board } = this.state;
      const spec = structuredClone(board.specs[this.kind]);
      const workload = this.figure.dataset.workload;
      const filled = {
        "@x": this.xTitle ?? board.axes[this.state.axis],
        "@y": this.yTitle ?? board.titles?.[this.kind] ?? `validation ${board.metrics[workload]}`,
      };
      fill(spec, filled, board.domains?.[workload]);
      spec.description = this.figure.dataset.label;
      const data = this.data();
      this.near = data.near ?? [];
      for (const set of spec.data) if (data[set.name]) set.values = data[set.name];
      spec.signals.find((signal) => signal.name === "shown").value = [...this.state.shown];
      const place = document.createElement("div");
      place.style.width = "100%";
      this.finalize?.();
      this.view = this.finalize = null;
      this.box.replaceChildren(place);
      const made = await vegaEmbed(place, spec, {
        mode: "vega", renderer: "svg", actions: false, defaultStyle: false, hover: false, logLevel: 1, // errors
        tooltip: (_, event, item, value) => (value ? this.tell(event.clientX, event.clientY, Object.values(value).map(String)) : hideTip()),
      });
      if (turn !== this.turn) return made.finalize(); // drawn again in the meantime
      this.view = made.view;
      this.finalize = () => made.finalize();
      this.update();
    }

    update() {
      if (this.view) this.view.signal("shown", [...this.state.shown]).run();
    }

    visible() {
      return this.near.filter((row) => this.state.shown.has(row.s));
    }

    place(row) {
      const [left, top] = this.view.origin();
      const room = this.view.padding();
      return [room.left + left + this.view.scale("x")(row.x), room.top + top + this.view.scale("y")(row.y)];
    }

    hover(event) {
      if (!this.view || !this.near.length) return;
      const box = this.box.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      let best = null;
      let least = 40 * 40;
      for (const row of this.visible()) {
        const [px, py] = this.place(row);
        const distance = (px - x) ** 2 + (py - y) ** 2;
        if (distance < least) [best, least] = [row, distance];
      }
      if (best) this.focus(best, event.clientX, event.clientY);
      else this.unfocus();
    }

    focus(row, x, y, aloud = false) {
      this.at = row;
      this.view.data("focus", [{ x: row.x, y: row.y }]).run();
      const lines = this.lines(row);
      this.tell(x, y, lines);
      if (aloud) said.textContent = lines.join(", ");
    }

    lines(row) {
      const { board } = this.state;
      if (this.kind === "profiles") return [row.s, `${(100 * row.y).toFixed(0)}% of the workloads within ${row.x.toFixed(3)} times the best`];
      if (this.kind === "ladder") return [row.s, ...row.told];
      const { curve, i } = row;
      const axes = Object.entries(board.axes).filter(([axis]) => curve.x[axis]);
      return [
        row.s,
        `study/trial ${curve.n}${curve.hit === i ? ": met the target here" : ""}`,
        `${board.metrics[this.figure.dataset.workload]}: ${metricText(row.y)}`,
        ...axes.map(([axis, text]) => `${text}: ${axis === "steps" || axis === "examples" ? stepsText(curve.x[axis][i]) : numberText(curve.x[axis][i])}`),
      ];
    }

    tell(x, y, lines) {
      tip.textContent = "";
      lines.forEach((line, n) => element(n ? "div" : "strong", line, tip));
      tip.hidden = false;
      const { width, height } = tip.getBoundingClientRect();
      tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 8))}px`;
      tip.style.top = `${y + 14 + height > innerHeight ? Math.max(4, y - height - 14) : y + 14}px`;
    }

    unfocus() {
      hideTip();
      if (this.at && this.view) this.view.data("focus", []).run();
      this.at = null;
    }

    key(event) {
      if (!this.view || !this.near.length) return;
      const keys = { "+": "in", "=": "in", "-": "out", 0: "reset" };
      if (keys[event.key]) return this.zoom(keys[event.key]);
      if (event.key === "Escape") return this.unfocus();
      const turn = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
      if (!turn) return;
      event.preventDefault();
      const grouped = new Map();
      for (const row of this.visible()) {
        const line = row.curve ? row.curve.r : row.s;
        if (!grouped.has(line)) grouped.set(line, []);
        grouped.get(line).push(row);
      }
      const lines = [...grouped.values()];
      if (!lines.length) return;
      const now = this.at ? lines.findIndex((rows) => rows.includes(this.at)) : -1;
      const line = lines[now < 0 ? 0 : (now + turn[0] + lines.length) % lines.length];
      const from = now < 0 ? -1 : turn[0] ? line.findIndex((row) => row.x >= this.at.x) : line.indexOf(this.at) + turn[1];
      const row = line[Math.max(0, Math.min(line.length - 1, from < 0 && turn[0] ? line.length - 1 : from))];
      const box = this.box.getBoundingClientRect();
      const [px, py] = this.place(row);
      this.focus(row, box.left + px, box.top + py, true);
    }

    zoom(what) {
      if (!this.view) return;
      const names = Object.keys(this.view.getState().signals);
      for (const channel of ["x", "y"]) {
        const signal = `grid_${channel}`;
        if (!names.includes(signal)) continue;
        const [low, high] = this.view.scale(channel).domain();
        const half = ((high - low) / 2) * (what === "in" ? 0.7 : 1 / 0.7);
        const middle = (low + high) / 2;
        this.view.signal(signal, what === "reset" ? null : [middle - half, middle + half]);
      }
      this.view.run();
    }

    async save() {
      if (!this.view) return;
      const style = getComputedStyle(document.documentElement);
      const svg = (await this.view.toSVG())
        .replace(/var\((--[a-z0-9]+)\)/g, (_, name) => style.getPropertyValue(name).trim())
        .replaceAll("currentColor", style.getPropertyValue("--ink").trim());
      const link = element("a");
      link.href = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
      link.download = `${this.figure.dataset.label.replace(/[^\w-]+/g, "-")}.svg`;
      link.click();
      URL.revokeObjectURL(link.href);
    }
  }

  /* Put in what a specification leaves open: titles, and the first domain of the values. */
  function fill(node, texts, domain) {
    for (const [key, value] of Object.entries(node)) {
      if (value === "@domain" || (Array.isArray(value) && value[0] === "@domain")) {
        if (domain) node[key] = domain;
        else delete node[key];
      } else if (typeof value === "string" && value in texts) node[key] = texts[value];
      else if (value && typeof value === "object") fill(value, texts, domain);
    }
  }

  function hideTip() {
    tip.hidden = true;
  }

  // ---- boards

  function setUpBoard(key, board) {
    const section = document.getElementById(key);
    const shown = new Set(board.names);
    const state = { board, clock: board.clock, axis: Object.keys(board.axes)[0], shown };
    const plots = [];
    const watcher = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) {
          if (!entry.isIntersecting) continue;
          watcher.unobserve(entry.target);
          plots.find((plot) => plot.figure === entry.target).draw();
        }
      },
      { rootMargin: "300px" },
    );
    const add = (figure) => {
      const plot = new Plot(state, figure);
      plots.push(plot);
      return plot;
    };
    for (const figure of section.querySelectorAll("figure.plot")) {
      const plot = add(figure);
      if (plot.kind !== "parallel") watcher.observe(figure);
    }
    for (const place of section.querySelectorAll(".swatch")) drawSwatch(Number(place.dataset.place), board, place);

    const redraw = (...kinds) => plots.filter((plot) => plot.view && kinds.includes(plot.kind)).forEach((plot) => plot.draw());

    section.querySelectorAll(`input[name="${key}-clock"]`).forEach((input) =>
      input.addEventListener("change", () => {
        state.clock = input.value;
        for (const part of section.querySelectorAll("[data-clock]")) part.hidden = part.dataset.clock !== state.clock;
        redraw("profiles", "pairs");
      }),
    );
    section.querySelectorAll(`input[name="${key}-axis"]`).forEach((input) =>
      input.addEventListener("change", () => {
        state.axis = input.value;
        redraw("curves");
      }),
    );

    const boxes = [...section.querySelectorAll(".toggles input")];
    const toggled = () => {
      shown.clear();
      for (const box of boxes) if (box.checked) shown.add(box.value);
      for (const plot of plots) plot.update();
    };
    boxes.forEach((box) => box.addEventListener("change", toggled));
    section.querySelectorAll("button[data-show]").forEach((button) =>
      button.addEventListener("click", () => {
        boxes.forEach((box, n) => (box.checked = { all: true, none: false, five: n < 5 }[button.dataset.show]));
        toggled();
      }),
    );

    const filter = section.querySelector(".filter");
    filter.addEventListener("input", () => {
      const wanted = filter.value.trim().toLowerCase();
      for (const row of section.querySelectorAll("tr[data-s]")) row.hidden = !row.dataset.s.toLowerCase().includes(wanted);
    });
    section.querySelector(".baseline")?.addEventListener("change", (event) => setBaseline(section, board, event.target.value));
    setUpPoints(section, board, plots, add);
    addEventListener("beforeprint", () => plots.filter((plot) => !plot.view && plot.data() && !section.hidden).forEach((plot) => plot.draw()));
  }

  function setBaseline(section, board, base) {
    for (const table of section.querySelectorAll("table[data-baseline]")) {
      const part = table.closest("[data-clock]");
      const told = board.speed_ups[part.dataset.clock]?.[base] ?? {};
      for (const cell of part.querySelectorAll("[data-speed-up]")) {
        const one = told[cell.parentElement.dataset.s];
        cell.textContent = one?.value == null ? "–" : `${one.value.toFixed(3)}×`;
        cell.dataset.v = one?.value ?? "";
        if (one?.value == null) continue;
        if (one.ends) element("small", `[${one.ends.map((end) => (end == null ? "missed" : end.toFixed(2))).join(", ")}]`, cell);
        element("small", `over ${one.workloads}`, cell);
      }
      const column = part.querySelector("[data-speed-up]")?.cellIndex;
      if (column !== undefined) part.querySelector("thead tr").cells[column].querySelector("button").firstChild.data = `× ${base}`;
    }
  }

  function setUpPoints(section, board, plots, add) {
    const select = section.querySelector("select.cell");
    if (!select) return;
    const parallel = plots.find((plot) => plot.kind === "parallel");
    const small = section.querySelector(".small-plots");
    const draw = () => {
      const rows = pointRows(board, Number(select.value));
      parallel.given = parallelData(rows);
      parallel.draw();
      small.textContent = "";
      for (const name of rows[0]?.names ?? []) {
        const values = rows.map((p) => p.values[name]);
        if (!values.every((v) => typeof v === "number")) continue;
        const figure = element("figure", null, small);
        figure.className = "plot";
        figure.dataset.kind = isLog(values) ? "log" : "linear";
        figure.dataset.label = `${name} against the result`;
        element("div", null, figure).className = "view";
        const plot = add(figure);
        plot.xTitle = name;
        plot.yTitle = rows[0].unit;
        plot.given = { points: rows.map((p) => ({ x: p.values[name], y: p.y, c: p.chosen, m: p.missed ? "missed" : "reached", tip: pointTip(p) })) };
        plot.draw();
      }
    };
    select.addEventListener("change", draw);
    new IntersectionObserver((entries, watcher) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watcher.disconnect();
      draw();
    }, { rootMargin: "300px" }).observe(parallel.figure);
  }

  // ---- which board is seen, and where a link leads

  const boards = [...document.querySelectorAll("section.board")];

  function see(key) {
    for (const section of boards) section.hidden = section.id !== key;
    for (const link of document.querySelectorAll("nav.boards a")) {
      if (link.dataset.board === key) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  function follow() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    const section = target.closest("section.board");
    if (section) see(section.id);
    for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    target.scrollIntoView();
  }

  setUpTables();
  for (const [key, board] of Object.entries(report.boards)) setUpBoard(key, board);
  if (boards.length) see(boards[0].id);
  addEventListener("hashchange", follow);
  addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
  addEventListener("scroll", hideTip, { passive: true });
  follow();
  document.documentElement.dataset.ready = "true";
})();
