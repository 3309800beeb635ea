// The page of `steadfast report`. All numbers come from the data; here they are sorted, shown and drawn.
"use strict";
(() => {
  const $ = id => document.getElementById(id);
  const root = document.documentElement;
  let data = JSON.parse($("data").textContent);

  // What the reader has chosen; it survives a refresh.
  const state = {
    column: "return_mean", x: "step", smooth: 0, bands: true, seeds: false, late: false,
    agents: null, envs: null, score: "final", find: "", findRun: "", only: "all",
  };
  let plots = [];
  let views = [];
  let dialogPlots = [];
  let active = null;

  // ---- Elements, numbers ---------------------------------------------------------------------------------------------

  function el(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value === undefined || value === null || value === false) continue;
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (key === "class") node.className = value;
      else node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.flat().filter(child => child !== null && child !== undefined));
    return node;
  }

  function svg(tag, attributes, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  const known = v => v !== null && v !== undefined && Number.isFinite(v);
  const minus = text => text.replace("-", "\u2212");

  // Four significant figures.
  function figures(v) {
    if (!known(v)) return "\u2013";
    const size = Math.abs(v);
    if (size !== 0 && (size < 1e-3 || size >= 1e7)) return minus(v.toExponential(3));
    const decimals = size < 1 ? 4 : 3 - Math.min(3, Math.floor(Math.log10(size)));
    return minus(v.toFixed(decimals));
  }

  function steps(v) {
    const size = Math.abs(v);
    const cut = x => String(Number(x.toPrecision(4)));
    return minus(size >= 1e6 ? cut(v / 1e6) + "M" : size >= 1e4 ? cut(v / 1e3) + "k" : cut(v));
  }

  const tick = v => minus(Math.abs(v) >= 1e4 ? steps(v) : String(Number(v.toPrecision(6))));

  function duration(s) {
    if (!known(s)) return "\u2013";
    if (s < 120) return s.toFixed(s < 10 ? 1 : 0) + " s";
    return s < 7200 ? (s / 60).toFixed(1) + " min" : (s / 3600).toFixed(1) + " h";
  }

  const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

  // ---- Colours -------------------------------------------------------------------------------------------------------

  let theme = "auto";
  try { theme = localStorage.getItem("steadfast-theme") || "auto"; } catch { /* not allowed here */ }
  const system = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;

  const isDark = () => !printing && (theme === "dark" || (theme === "auto" && system.matches));
  const css = name => getComputedStyle(root).getPropertyValue(name).trim();

  // The colours of `plot`; on a dark ground black is white, and blue a little lighter.
  function color(agent) {
    const own = data.agents[agent].color;
    return isDark() ? { "#000000": "#f2f2f2", "#0072B2": "#3d9fe3" }[own] || own : own;
  }

  function faded(hex, alpha) {
    const part = i => parseInt(hex.slice(i, i + 2), 16);
    return `rgba(${part(1)}, ${part(3)}, ${part(5)}, ${alpha})`;
  }

  const dash = agent => data.agents[agent].dash.split(" ").filter(Boolean).map(Number);

  function swatch(agent) {
    const line = svg("line", { x1: 1, x2: 25, y1: 5, y2: 5, "stroke-width": 2.6, "stroke-dasharray": data.agents[agent].dash });
    line.style.stroke = color(agent);
    const dot = svg("circle", { cx: 13, cy: 5, r: 3.4 });
    dot.style.fill = color(agent);
    return svg("svg", { width: 26, height: 10, "aria-hidden": "true", class: "swatch" }, line, dot);
  }

  const named = agent => el("span", { class: "agent" }, swatch(agent), data.agents[agent].name);

  function applyTheme() {
    root.dataset.theme = isDark() ? "dark" : "light";
  }

  function segments(host, label, options, current, choose) {
    host.replaceChildren(...options.map(([value, text, why]) => el("button", {
      type: "button", "aria-pressed": String(value === current()), "data-value": value, disabled: Boolean(why), title: why,
      onclick: () => {
        choose(value);
        for (const b of host.children) b.setAttribute("aria-pressed", String(b.dataset.value === current()));
      },
    }, text)));
    host.setAttribute("aria-label", label);
    return host;
  }

  const group = () => el("div", { class: "segments", role: "group" });

  // ---- Charts --------------------------------------------------------------------------------------------------------

  function smoothed(values, width) {
    if (width < 2) return values;
    const half = (width - 1) / 2;
    return values.map((own, i) => {
      if (!known(own)) return own;
      // Narrower near the ends, so that the mean stays centred.
      const reach = Math.min(half, i, values.length - 1 - i);
      let sum = 0, n = 0;
      for (let k = i - reach; k <= i + reach; k++) if (known(values[k])) { sum += values[k]; n++; }
      return sum / n;
    });
  }

  // Above so many agents only the first few are drawn, until the reader asks for more.
  const MANY = 16, FIRST = 8;

  const WIDTHS = [1, 3, 5, 9, 15, 25];

  // lines: {agent, x, centre, low, high, name, thin}. Returns {destroy, resize}.
  function chart(host, lines, options) {
    const ink = css("--quiet"), grid = css("--grid");
    const tables = [], series = [{}], bands = [];
    for (const line of lines) {
      const stroke = line.thin ? faded(color(line.agent), 0.45) : color(line.agent);
      const columns = [line.x];
      if (line.low) {
        bands.push({ series: [series.length + 1, series.length], fill: faded(color(line.agent), isDark() ? 0.22 : 0.16) });
        for (const edge of [line.low, line.high]) {
          columns.push(edge);
          series.push({ width: 0, points: { show: false }, edge: true });
        }
      }
      columns.push(line.centre);
      series.push({
        stroke, width: line.thin ? 1 : 2.2, dash: line.thin || options.solid ? undefined : dash(line.agent),
        points: { show: line.centre.length === 1, size: 6, fill: stroke }, edge: Boolean(line.thin),
      });
      tables.push(columns);
    }
    // Of lines without a common grid each has holes, which are skipped.
    const joined = tables.length ? uPlot.join(tables) : [[0, 1], [null, null]];
    if (!tables.length) series.push({});
    const box = () => [Math.max(200, host.clientWidth), options.height(host.clientWidth)];
    const [width, height] = box();
    const font = "11px system-ui, sans-serif";
    const axis = { stroke: ink, font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 } };
    const plot = new uPlot({
      width, height, series, bands,
      legend: { show: false },
      scales: {
        x: { time: false },
        y: { range: options.range || ((u, low, high) => (known(low) ? uPlot.rangeNum(low, high, 0.06, true) : [0, 1])) },
      },
      axes: [
        { ...axis, size: 28, gap: 4, space: 56, values: (u, v) => v.map(x => (options.xTick || steps)(x / options.unit)) },
        { ...axis, size: 52, gap: 4, values: (u, v) => v.map(tick) },
      ],
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: true },
        sync: options.sync ? { key: options.sync } : undefined,
        points: { size: (u, i) => (series[i].edge ? 0 : 7), width: 1.5 },
        dataIdx: (u, i, hovered) => nearest(u.data[i], hovered),
      },
      hooks: {
        setCursor: [u => { if (u === active) tip(u, lines, options); }],
      },
    }, joined, host);
    const over = plot.over;
    over.addEventListener("mouseenter", () => { active = plot; });
    over.addEventListener("mouseleave", () => { if (active === plot) { active = null; $("tip").hidden = true; } });
    host.tabIndex = 0;
    host.setAttribute("role", "img");
    host.setAttribute("aria-label", options.label);
    host.setAttribute("aria-describedby", "tip");
    const keys = event => {
      const xs = plot.data[0];
      const at = plot.cursor.idx ?? (event.key === "ArrowLeft" ? xs.length : -1);
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: xs.length - 1 }[event.key];
      if (event.key === "Escape") { active = null; $("tip").hidden = true; plot.setCursor({ left: -10, top: -10 }); return; }
      if (to === undefined) return;
      event.preventDefault();
      active = plot;
      const i = Math.min(xs.length - 1, Math.max(0, to));
      plot.setCursor({ left: plot.valToPos(xs[i], "x"), top: over.clientHeight / 2 });
    };
    host.onkeydown = keys;
    host.onblur = () => { if (active === plot) { active = null; $("tip").hidden = true; } };
    return {
      destroy: () => plot.destroy(),
      host,
      resize: () => { const [w, h] = box(); if (w !== plot.width || h !== plot.height) plot.setSize({ width: w, height: h }); },
    };
  }

  function nearest(values, i) {
    for (let d = 0; d < values.length; d++) {
      if (known(values[i - d])) return i - d;
      if (known(values[i + d])) return i + d;
    }
    return i;
  }

  // What each line says at the cursor, highest first.
  function tip(u, lines, options) {
    const box = $("tip");
    const { left, top } = u.cursor;
    if (left === undefined || left < 0) { box.hidden = true; return; }
    const x = u.posToVal(left, "x");
    const found = [];
    for (const line of lines) {
      if (line.thin && !options.everyLine) continue;
      let best = -1;
      for (let i = 0; i < line.x.length; i++) {
        if (known(line.centre[i]) && (best < 0 || Math.abs(line.x[i] - x) < Math.abs(line.x[best] - x))) best = i;
      }
      if (best >= 0) found.push([line, best]);
    }
    if (!found.length) { box.hidden = true; return; }
    found.sort((a, b) => b[0].centre[b[1]] - a[0].centre[a[1]]);
    const shown = found.slice(0, 14);
    const near = shown.reduce((a, b) => (Math.abs(b[0].x[b[1]] - x) < Math.abs(a[0].x[a[1]] - x) ? b : a));
    box.replaceChildren(
      el("b", {}, `${(options.xTick || steps)(near[0].x[near[1]] / options.unit)} ${options.xName}`),
      el("table", {}, shown.map(([line, i]) => el("tr", {},
        el("td", {}, swatch(line.agent), " ", line.name || data.agents[line.agent].name),
        el("td", { class: "num" }, figures(line.centre[i])),
        el("td", { class: "quiet" }, line.low ? `[${figures(line.low[i])}, ${figures(line.high[i])}]` : ""),
      ))),
    );
    if (found.length > shown.length) box.append(el("div", { class: "quiet" }, `and ${found.length - shown.length} more`));
    box.hidden = false;
    const frame = u.over.getBoundingClientRect();
    const { offsetWidth: w, offsetHeight: h } = box;
    let px = frame.left + left + 16;
    if (px + w > innerWidth - 8) px = Math.max(8, frame.left + left - w - 16);
    box.style.left = px + "px";
    box.style.top = Math.min(Math.max(8, frame.top + top - h / 2), Math.max(8, innerHeight - h - 8)) + "px";
    // A modal dialog covers everything outside of it.
    const host = document.querySelector("dialog[open]") || document.body;
    if (box.parentNode !== host) host.append(box);
  }

  // Ends of the vertical axis by the second half of training: returns often begin far below where they end.
  function lateRange(lines) {
    const all = [];
    for (const { x, centre, low, high } of lines) {
      x.forEach((at, i) => { if (2 * at >= x[x.length - 1]) all.push(...[centre[i], low?.[i], high?.[i]].filter(known)); });
    }
    return () => (all.length ? uPlot.rangeNum(all.reduce((a, b) => Math.min(a, b)), all.reduce((a, b) => Math.max(a, b)), 0.08, true) : [0, 1]);
  }

  const curveOf = line => ({
    agent: line.agent, x: data.grids[line.grid], centre: line.centre, low: line.low, high: line.high,
  });

  // ---- Learning curves -----------------------------------------------------------------------------------------------

  const column = () => data.columns.find(c => c.name === state.column) || data.columns[0];

  function curveControls() {
    const host = $("curve-controls");
    const select = el("select", { id: "column", "aria-label": "Quantity", onchange: e => { state.column = e.target.value; draw(); } },
      data.columns.map(c => el("option", { value: c.name, selected: c.name === state.column }, c.title)));
    const hasTime = data.columns.some(c => c.wall);
    const axis = segments(group(), "Horizontal axis", [
      ["step", "Steps"], ["wall", "Time", hasTime ? null : "needs timing.csv of every run"],
    ], () => state.x, value => { state.x = value; draw(); });
    const width = el("output", {}, WIDTHS[state.smooth] > 1 ? `${WIDTHS[state.smooth]} points` : "off");
    const slider = el("input", {
      type: "range", id: "smooth", min: 0, max: WIDTHS.length - 1, value: state.smooth,
      oninput: e => {
        state.smooth = Number(e.target.value);
        width.textContent = state.smooth ? `${WIDTHS[state.smooth]} points` : "off";
        draw();
      },
    });
    const check = (id, text, key) => el("label", {}, el("input", {
      type: "checkbox", id, checked: state[key], onchange: e => { state[key] = e.target.checked; draw(); },
    }), text);
    host.replaceChildren(
      el("label", {}, "Show", select), axis,
      el("label", {}, "Smoothing", slider, width),
      check("bands", "Intervals", "bands"), check("seeds", "Single seeds", "seeds"), check("late", "Scale to second half", "late"),
    );
  }

  function chips(host, items, chosen, change, all) {
    host.replaceChildren(
      ...items.map(([id, content, label]) => el("button", {
        type: "button", class: "chip" + (label ? "" : " plain"), "aria-pressed": String(chosen.has(id)), "data-id": id,
        onclick: event => {
          if (event.altKey) { chosen.clear(); chosen.add(id); } else if (!chosen.delete(id)) chosen.add(id);
          change();
        },
      }, content)),
      ...(items.length > 2 ? [
        el("button", { type: "button", class: "link", onclick: () => { all.forEach(id => chosen.add(id)); change(); } }, "all"),
        el("button", { type: "button", class: "link", onclick: () => { chosen.clear(); change(); } }, "none"),
      ] : []),
    );
  }

  function press(host, chosen) {
    for (const button of host.querySelectorAll(".chip")) {
      button.setAttribute("aria-pressed", String(chosen.has(Number(button.dataset.id))));
    }
  }

  function legend() {
    const agents = data.agents.map((a, i) => [i, [swatch(i), el("span", {}, a.name)], true]);
    chips($("agents"), agents, state.agents, () => { press($("agents"), state.agents); draw(); drawViews(); }, data.agents.map((_, i) => i));
    const envs = data.envs.map((name, i) => [i, el("span", {}, name), false]);
    chips($("envs"), envs, state.envs, () => { press($("envs"), state.envs); draw(); }, data.envs.map((_, i) => i));
    if (data.agents.length > MANY) $("agents").append(el("span", { class: "quiet small" }, `(at first the best ${FIRST} of ${data.agents.length})`));
    $("envs").hidden = data.envs.length < 2;
  }

  // Raw values of single runs, for a column that has them.
  function rawOf(run, name) {
    if (name === "return_mean") return [data.grids[run.grid], run.returns];
    const found = run.metrics.find(m => m[0] === name);
    return found ? [data.grids[found[1]], found[2]] : null;
  }

  function draw() {
    const host = $("panels");
    plots.forEach(p => p.destroy());
    plots = [];
    const now = column();
    if (!now) { host.replaceChildren(el("p", { class: "quiet" }, "No curve to draw.")); return; }
    const raws = state.x === "step" && data.runs.some(run => rawOf(run, now.name));
    $("seeds").disabled = !raws;
    const axis = (state.x === "wall" && now.wall) || now.step;
    const width = WIDTHS[state.smooth];
    const envs = data.envs.map((_, i) => i).filter(i => state.envs.has(i));
    host.className = "panels" + (envs.length === 1 ? " one" : "");
    const xName = axis === now.wall ? (axis.label.match(/\((.*)\)/) || [])[1] || "seconds" : "steps";
    const frames = [];
    for (const env of envs) {
      const mine = axis.lines.filter(line => line.env === env && state.agents.has(line.agent));
      const lines = [];
      if (state.seeds && raws) {
        for (const run of data.runs) {
          if (run.env !== env || !state.agents.has(run.agent)) continue;
          const raw = rawOf(run, now.name);
          if (raw) lines.push({ agent: run.agent, x: raw[0], centre: smoothed(raw[1], width), thin: true });
        }
      }
      for (const line of mine) {
        const { agent, x, centre, low, high } = curveOf(line);
        const band = state.bands && low;
        lines.push({
          agent, x, centre: smoothed(centre, width),
          low: band ? smoothed(low, width) : null, high: band ? smoothed(high, width) : null,
        });
      }
      const place = el("div", { class: "plot" });
      const figure = el("figure", { class: "panel", "data-env": data.envs[env] }, el("figcaption", {}, data.envs[env]), place);
      frames.push([figure, place, lines, env]);
    }
    host.replaceChildren(...frames.map(f => f[0]));
    for (const [, place, lines, env] of frames) {
      plots.push(chart(place, lines, {
        height: w => (printing ? 190 : Math.round(Math.min(400, Math.max(210, 0.6 * w)))),
        unit: axis.unit, xTick: axis === now.wall ? tick : steps, xName, sync: "curves",
        range: state.late ? lateRange(lines) : null,
        label: `${now.title} over ${axis.label}, ${data.envs[env]}: ${plural(lines.filter(l => !l.thin).length, "agent")}. Arrow keys read values.`,
      }));
    }
    if (!envs.length) host.replaceChildren(el("p", { class: "quiet" }, "Choose an environment."));
    const smooth = width > 1 ? ` Smoothed for display: running mean of line and interval over ${width} points.` : "";
    $("curve-caption").textContent = `${now.title[0].toUpperCase()}${now.title.slice(1)} over ${axis.label}. ${axis.caption}${smooth}`;
    $("curve-notes").replaceChildren(...folded(now.notes, "About these curves"));
  }

  function folded(notes, title) {
    if (!notes.length) return [];
    return [el("details", { class: "small" }, el("summary", { class: "quiet" }, `${title}: ${plural(notes.length, "remark")}`),
      el("ul", {}, notes.map(note => el("li", {}, note))))];
  }

  // ---- Tables --------------------------------------------------------------------------------------------------------

  const PAGE = 250;

  // columns: {name, number, value(row), cell(row), wrap, class(row)}; returns a function that shows rows.
  function table(host, label, columns, sort, open) {
    let limit = PAGE, shown = [];
    const show = rows => {
      shown = rows;
      const by = columns[sort.column];
      const sorted = [...rows].sort((a, b) => {
        const [x, y] = [by.value(a), by.value(b)];
        if (!known(x) && typeof x !== "string") return !known(y) && typeof y !== "string" ? 0 : 1;
        if (!known(y) && typeof y !== "string") return -1;
        return sort.down * (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y);
      });
      const head = el("tr", {}, columns.map((c, i) => el("th", {
        scope: "col", class: c.number ? "num" : "",
        "aria-sort": c.value ? (i === sort.column ? (sort.down > 0 ? "ascending" : "descending") : "none") : undefined,
      }, c.value ? el("button", {
        type: "button", "data-column": c.name,
        onclick: () => {
          sort.down = i === sort.column ? -sort.down : c.number ? -1 : 1;
          sort.column = i;
          show(shown);
          host.querySelectorAll("thead th")[i].querySelector("button").focus();
        },
      }, c.name) : c.name)));
      const body = sorted.slice(0, limit).map(row => el("tr", {
        class: open ? "open" : "", onclick: open ? event => { if (!event.target.closest("button, a")) open(row, sorted); } : undefined,
      }, columns.map(c => el("td", { class: [c.number ? "num" : "", c.wrap ? "wrap" : "", c.class ? c.class(row) : ""].join(" ").trim() },
        c.cell(row, sorted)))));
      const parts = [el("table", {}, el("caption", { class: "skip" }, label), el("thead", {}, head), el("tbody", {}, body))];
      if (!body.length) parts.push(el("p", { class: "quiet more" }, "Nothing matches."));
      if (sorted.length > limit) {
        parts.push(el("div", { class: "more" }, el("button", { type: "button", onclick: () => { limit = Infinity; show(shown); } },
          `Show all ${sorted.length}`)));
      }
      host.replaceChildren(...parts);
    };
    return show;
  }

  const place = name => data.agents.findIndex(a => a.name === name);

  const matches = (text, find) => find.toLowerCase().split(/\s+/).every(word => text.toLowerCase().includes(word));

  function whisker(agent, value, low, high, from, to) {
    const at = v => (to > from ? 3 + 94 * Math.min(1, Math.max(0, (v - from) / (to - from))) : 50);
    const mark = color(agent);
    const parts = [svg("line", { x1: "3%", x2: "97%", y1: 9, y2: 9, stroke: css("--grid") })];
    if (known(low)) parts.push(svg("line", { x1: at(low) + "%", x2: at(high) + "%", y1: 9, y2: 9, stroke: faded(mark, 0.45), "stroke-width": 7 }));
    parts.push(svg("circle", { cx: at(value) + "%", cy: 9, r: 4, fill: mark }));
    return svg("svg", { class: "whisker", height: 18, role: "img", "aria-label": `${figures(value)}${known(low) ? `, interval ${figures(low)} to ${figures(high)}` : ""}` }, ...parts);
  }

  const sorts = { summary: { column: 0, down: 1 }, runs: { column: 0, down: 1 } };

  function summaryTable() {
    const ranges = new Map(), best = new Map();
    for (const row of data.summary) {
      const key = row.env + "\n" + row.score;
      const range = ranges.get(key) || [Infinity, -Infinity];
      ranges.set(key, [Math.min(range[0], row.iqm_low ?? row.iqm), Math.max(range[1], row.iqm_high ?? row.iqm)]);
      best.set(key, Math.max(best.get(key) ?? -Infinity, row.iqm));
    }
    const number = (name, key) => ({ name, number: true, value: row => row[key], cell: row => figures(row[key]) });
    const columns = [
      { name: "environment", value: row => row.env + "\n" + row.agent, cell: row => row.env, wrap: true },
      { name: "agent", value: row => row.agent, cell: row => named(place(row.agent)), wrap: true },
      { name: "score", value: row => row.score, cell: row => row.score },
      { name: "seeds", number: true, value: row => row.seeds, cell: row => String(row.seeds) },
      { ...number("IQM", "iqm"), class: row => (row.iqm === best.get(row.env + "\n" + row.score) ? "best" : "") },
      { name: "95 % interval", number: true, cell: row => (known(row.iqm_low) ? `[${figures(row.iqm_low)}, ${figures(row.iqm_high)}]` : "\u2013") },
      { name: "", class: () => "whisk", cell: row => whisker(place(row.agent), row.iqm, row.iqm_low, row.iqm_high, ...ranges.get(row.env + "\n" + row.score)) },
      number("mean", "mean"), number("std", "std"), number("median", "median"),
    ];
    const show = table($("summary-table"), "Scores of all agents", columns, sorts.summary);
    const kept = () => data.summary.filter(row =>
      (state.score === "both" || row.score === state.score) && matches(`${row.env} ${row.agent}`, state.find));
    const update = () => show(kept());
    const copy = el("button", { type: "button", class: "push", onclick: () => {
      const head = ["env", "agent", "score", "seeds", "mean", "std", "median", "iqm", "iqm_low", "iqm_high"];
      const quote = v => (/[",\n]/.test(String(v)) ? `"${String(v).replaceAll('"', '""')}"` : String(v));
      copied(copy, [head, ...kept().map(row => head.map(k => quote(row[k] ?? "")))].map(r => r.join(",")).join("\n") + "\n");
    } }, "Copy as CSV");
    $("summary-controls").replaceChildren(
      el("input", { type: "search", id: "find", placeholder: "Filter: agent, environment", "aria-label": "Filter the summary", value: state.find,
        oninput: e => { state.find = e.target.value; update(); } }),
      segments(group(), "Score", [["final", "Final"], ["auc", "Area"], ["both", "Both"]], () => state.score, v => { state.score = v; update(); }),
      copy,
    );
    update();
  }

  async function copied(button, text) {
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Pages of files may not use the clipboard everywhere.
      const area = el("textarea", {}, text);
      (document.querySelector("dialog[open]") || document.body).append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = before; }, 1200);
  }

  // ---- Across environments -------------------------------------------------------------------------------------------

  function drawViews() {
    views.forEach(v => v.destroy());
    views = [];
    const host = $("views");
    host.replaceChildren();
    for (const view of data.views) {
      const figure = el("figure", { class: "panel" + (view.panels.length > 1 ? " whole" : ""), "data-view": view.kind },
        el("figcaption", {}, view.title));
      host.append(figure);
      if (view.panels.length) {
        figure.append(el("div", { class: "intervals" }, view.panels.map(intervals)));
      } else {
        const plot = el("div", { class: "plot" });
        figure.append(plot);
        const share = view.kind === "profiles";
        views.push(chart(plot, view.lines.filter(line => state.agents.has(line.agent)).map(curveOf), {
          height: w => (printing ? 220 : Math.round(Math.min(360, Math.max(220, 0.55 * w)))),
          unit: 1, xTick: share ? tick : steps, xName: share ? "= \u03c4" : view.x.includes("%") ? "% of the steps" : "steps",
          range: share ? () => [0, 1.02] : null,
          label: `${view.title}: ${view.y} against ${view.x}`,
        }));
      }
      const axes = view.panels.length ? view.x : `${view.y}, against ${view.x}`;
      figure.append(el("p", { class: "caption" }, `${axes[0].toUpperCase()}${axes.slice(1)}. ${view.caption}`));
    }
    if (!data.views.length) host.append(el("p", { class: "quiet" }, "There is nothing to compare across environments."));
    $("view-notes").replaceChildren(...(data.views.length ? folded(data.view_notes, "About these comparisons")
      : data.view_notes.map(note => el("p", { class: "quiet small" }, note))));
  }

  function intervals(panel) {
    const low = panel.range ? panel.range[0] : Math.min(...panel.rows.map(r => r.low));
    const high = panel.range ? panel.range[1] : Math.max(...panel.rows.map(r => r.high));
    const rows = panel.rows.map(row => el("div", { class: "irow" },
      el("span", { class: "who" }, row.name),
      whisker(row.agent, row.value, row.low, row.high, low, high),
      el("span", { class: "num", title: `${figures(row.value)} [${figures(row.low)}, ${figures(row.high)}]` }, figures(row.value))));
    const end = v => el("span", {}, minus(String(Number(v.toPrecision(3)))));
    const part = el("div", {}, el("h3", {}, panel.title), rows, el("div", { class: "iaxis", "aria-hidden": "true" }, el("span", {}),
      el("div", {}, end(low), panel.range ? end((low + high) / 2) : null, end(high)), el("span", {})));
    const longest = Math.max(...panel.rows.map(row => row.name.length));
    part.style.setProperty("--who", `${Math.min(20, Math.max(6, longest + 1.5))}ch`);
    return part;
  }

  // ---- Runs ----------------------------------------------------------------------------------------------------------

  const last = run => run.returns[run.returns.length - 1];
  const title = run => `${data.agents[run.agent].name} \u00b7 ${data.envs[run.env]} \u00b7 seed ${run.seed}`;
  const badge = (kind, text) => el("span", { class: "badge " + kind }, text || kind);

  function runTable() {
    const detailed = data.runs.some(run => run.status !== "unknown");
    const columns = [
      { name: "agent", value: run => data.agents[run.agent].name + "\n" + data.envs[run.env] + "\n" + run.seed, wrap: true,
        cell: (run, all) => el("button", { type: "button", class: "name", onclick: () => open(run, all) }, named(run.agent)) },
      { name: "environment", value: run => data.envs[run.env], cell: run => data.envs[run.env], wrap: true },
      { name: "seed", number: true, value: run => run.seed, cell: run => String(run.seed) },
      detailed && { name: "status", value: run => run.status, cell: run => badge(run.status) },
      { name: "steps", number: true, value: run => run.step, cell: run => steps(run.step) },
      { name: "last return", number: true, value: last, cell: run => figures(last(run)) },
      detailed && { name: "time", number: true, value: run => run.wall_s, cell: run => duration(run.wall_s) },
      detailed && { name: "warnings", number: true, value: run => run.warnings.length,
        cell: run => (run.warnings.length ? badge("warn", String(run.warnings.length)) : "") },
      data.runs.some(run => run.pictures.length) && { name: "pictures", number: true, value: run => run.pictures.length,
        cell: run => (run.pictures.length ? String(run.pictures.length) : "") },
    ].filter(Boolean);
    const show = table($("run-table"), "All runs", columns, sorts.runs, open);
    const count = el("span", { class: "quiet" });
    const update = () => {
      const rows = data.runs.filter(run => matches(`${title(run)} ${run.status}`, state.findRun) && (
        state.only === "all" || (state.only === "warned" ? run.warnings.length > 0 : !["done", "unknown"].includes(run.status))));
      count.textContent = `${rows.length} of ${data.runs.length}`;
      show(rows);
    };
    const only = detailed ? segments(group(), "Which runs", [["all", "All"], ["warned", "With warnings"], ["odd", "Not done"]],
      () => state.only, v => { state.only = v; update(); }) : null;
    $("run-controls").replaceChildren(
      el("input", { type: "search", id: "find-run", placeholder: "Filter: agent, environment, seed 3", "aria-label": "Filter the runs",
        value: state.findRun, oninput: e => { state.findRun = e.target.value; update(); } }),
      ...(only ? [only] : []), count,
    );
    update();
  }

  function flat(config, prefix = "") {
    return Object.entries(config || {}).flatMap(([key, value]) =>
      value && typeof value === "object" && !Array.isArray(value) ? flat(value, `${prefix}${key}.`) : [[prefix + key, value]]);
  }

  function open(run, among) {
    const dialog = $("run");
    dialogPlots.forEach(p => p.destroy());
    dialogPlots = [];
    const all = among || data.runs, at = all.indexOf(run);
    const move = by => el("button", {
      type: "button", disabled: at + by < 0 || at + by >= all.length, "aria-label": by < 0 ? "Previous run" : "Next run",
      onclick: () => { open(all[at + by], all); dialog.querySelectorAll(".dialog-top button")[by < 0 ? 0 : 1].focus(); },
    }, by < 0 ? "\u2190" : "\u2192");
    const facts = [
      ["status", run.status === "unknown" ? null : badge(run.status)],
      ["steps", known(run.steps) && run.status !== "done" && run.steps !== run.step ? `${steps(run.step)} of ${steps(run.steps)}` : steps(run.step)],
      ["last return", figures(last(run))], ["computing", known(run.wall_s) ? duration(run.wall_s) : null],
      ["ran with", run.origin],
    ].filter(fact => fact[1]);
    const body = el("div", { class: "dialog-body" },
      run.reason ? el("p", { class: "note bad" }, run.reason) : null,
      run.warnings.map(text => el("p", { class: "note" }, text)),
      el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))));
    const curve = el("div", { class: "plot" });
    body.append(el("figure", { class: "panel" }, el("figcaption", {}, "Greedy evaluation return: this seed, and all seeds of the agent"), curve));
    if (run.pictures.length) {
      body.append(el("h3", {}, "Episodes"), el("div", { class: "pictures" }, run.pictures.map(p => (p.data
        ? el("figure", {}, el("img", { src: p.data, alt: `Rendered episode, ${title(run)}` }), el("figcaption", { class: "caption" }, p.name))
        : el("p", { class: "quiet small" }, `${p.name} is too large to be put in here.`)))));
    }
    if (run.command) {
      const button = el("button", { type: "button", onclick: () => copied(button, run.command) }, "Copy");
      body.append(el("h3", {}, "Command that repeats it"), el("div", { class: "command" }, el("pre", { tabindex: 0 }, run.command), button));
    }
    const hosts = [];
    if (run.metrics.length) {
      body.append(el("h3", {}, "Training"));
      const grid = el("div", { class: "small-panels" });
      for (const [name, x, values] of run.metrics) {
        if (!values.some(known)) continue;
        const host = el("div", { class: "plot" });
        grid.append(el("figure", { class: "panel" }, el("figcaption", { class: "small" }, name.replaceAll("_", " ")), host));
        hosts.push([host, { agent: run.agent, x: data.grids[x], centre: values }, name]);
      }
      body.append(grid);
    }
    const config = known(run.config) ? data.configs[run.config] : null;
    if (config) {
      const show = v => (Array.isArray(v) ? `[${v.join(", ")}]` : String(v));
      body.append(el("h3", {}, "Settings"), el("ul", { class: "config" }, [...flat(config), ["seed", run.seed]].map(([key, value]) =>
        el("li", {}, el("code", {}, key.replace(/^(options|env_options)\./, "")), el("span", {}, show(value))))));
    }
    $("tip").hidden = true;
    document.body.append($("tip"));
    dialog.replaceChildren(el("div", { class: "dialog-top" },
      move(-1), move(1), el("h2", { id: "run-h" }, swatch(run.agent), " ", title(run)),
      el("button", { type: "button", onclick: () => dialog.close(), "aria-label": "Close" }, "\u2715")), body);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    const lines = [];
    const group = data.columns.find(c => c.name === "return_mean")?.step.lines.find(l => l.env === run.env && l.agent === run.agent);
    if (group) lines.push({ ...curveOf(group), centre: group.centre.map(() => null), name: "all seeds" });
    for (const other of data.runs) {
      if (other !== run && other.env === run.env && other.agent === run.agent) {
        lines.push({ agent: run.agent, x: data.grids[other.grid], centre: other.returns, thin: true, name: `seed ${other.seed}` });
      }
    }
    lines.push({ agent: run.agent, x: data.grids[run.grid], centre: run.returns, name: `seed ${run.seed}` });
    const base = { unit: 1, xName: "steps", solid: true, label: `Evaluation returns of ${title(run)}` };
    dialogPlots.push(chart(curve, lines, { ...base, height: () => 250, everyLine: true }));
    for (const [host, line, name] of hosts) {
      dialogPlots.push(chart(host, [line], { ...base, height: () => 140, label: `${name} of ${title(run)}` }));
    }
    history.replaceState(null, "", "#" + address(run));
  }

  const address = run => "run=" + [data.agents[run.agent].name, data.envs[run.env], run.seed].map(encodeURIComponent).join("/");

  $("run").addEventListener("close", () => {
    dialogPlots.forEach(p => p.destroy());
    dialogPlots = [];
    $("tip").hidden = true;
    document.body.append($("tip"));
    history.replaceState(null, "", location.pathname + location.search);
  });
  // A click on the ground around it.
  $("run").addEventListener("click", event => { if (event.target === $("run")) $("run").close(); });

  // ---- Heading, warnings ---------------------------------------------------------------------------------------------

  function heading() {
    $("title").textContent = data.title;
    const bySeeds = new Set(data.runs.map(run => run.seed)).size;
    const most = Math.max(0, ...data.runs.map(run => run.step));
    const bad = data.runs.filter(run => run.status === "diverged").length;
    const facts = [plural(data.runs.length, "run"), plural(data.agents.length, "agent"), plural(data.envs.length, "environment"),
      plural(bySeeds, "seed"), `up to ${steps(most)} steps`];
    if (bad) facts.push(`${bad} diverged`);
    $("facts").textContent = facts.join(" \u00b7 ");
    const cells = $("cells");
    cells.replaceChildren();
    if (data.cells.length) {
      const order = ["done", "diverged", "running", "failed", "stopped", "missing"];
      const count = kind => data.cells.filter(c => c.state === kind).length;
      const present = order.filter(count);
      if (present.some(kind => kind !== "done")) {
        cells.append(el("div", { class: "progress", role: "img", "aria-label": present.map(k => `${count(k)} ${k}`).join(", ") },
          present.map(kind => { const part = el("i", { class: kind }); part.style.width = 100 * count(kind) / data.cells.length + "%"; return part; })),
        el("p", { class: "small quiet" }, `Cells: ${present.map(kind => `${count(kind)} ${kind}`).join(", ")} of ${data.cells.length}`));
      }
    }
    $("foot").replaceChildren(`Written by steadfast ${data.version}. Point estimates and intervals are those of `, el("code", {}, "steadfast summary"),
      " and ", el("code", {}, "steadfast plot"), ". The page loads nothing from the network.");
  }

  function warningList() {
    const parts = [];
    const cells = data.cells.filter(c => c.reason && c.state !== "done");
    for (const c of cells) parts.push(el("li", { class: "note bad" }, `${c.agent} on ${c.env}, seed ${c.seed} ${c.state}: ${c.reason}`));
    // The same sign in many runs is one entry.
    const signs = new Map();
    for (const run of data.runs) {
      for (const text of run.warnings) {
        const key = text.replace(/\d[\d.e+-]*/g, "#");
        if (!signs.has(key)) signs.set(key, []);
        signs.get(key).push([run, text]);
      }
    }
    for (const found of signs.values()) {
      const links = found.slice(0, 12).map(([run]) => el("button", { type: "button", class: "link", onclick: () => open(run) }, title(run)));
      parts.push(el("li", { class: "note" }, found[0][1], el("div", { class: "small" }, links,
        found.length > links.length ? `and ${found.length - links.length} more` : "")));
    }
    for (const text of data.warnings) parts.push(el("li", { class: "note" }, text));
    $("warning-count").textContent = parts.length ? String(parts.length) : "";
    $("warning-list").replaceChildren(parts.length ? el("ul", { class: "plain" }, parts) : el("p", { class: "quiet" }, "None."));
  }

  // ---- All together --------------------------------------------------------------------------------------------------

  function render() {
    heading();
    curveControls();
    legend();
    draw();
    summaryTable();
    drawViews();
    runTable();
    warningList();
  }

  function begin() {
    // Of very many agents the best few, by the environments on which they lead.
    const all = data.agents.map((_, i) => i);
    let first = all;
    if (all.length > MANY) {
      const sums = all.map(() => 0);
      for (const env of data.envs) {
        const rows = data.summary.filter(r => r.env === env && r.score === "final").sort((a, b) => b.iqm - a.iqm);
        rows.forEach((row, rank) => { sums[place(row.agent)] += 1 / (1 + rank); });
      }
      first = [...all].sort((a, b) => sums[b] - sums[a]).slice(0, FIRST);
    }
    state.agents = new Set(first);
    state.envs = new Set(data.envs.map((_, i) => i));
    if (!data.columns.some(c => c.name === state.column) && data.columns.length) state.column = data.columns[0].name;
    render();
    const named = decodeURIComponent(location.hash).match(/^#run=/) && data.runs.find(run => "#" + address(run) === location.hash);
    if (named) open(named);
  }

  // ---- News of a sweep that runs ---------------------------------------------------------------------------------------

  // Where the focus is, in words that outlive a new drawing.
  function focus() {
    const at = document.activeElement, host = at && at.closest("[id]");
    if (!host || host === document.body) return () => {};
    const key = ["data-id", "data-value", "data-column"].find(name => at.hasAttribute(name));
    const query = `#${CSS.escape(host.id)}` + (at === host ? "" : key ? ` [${key}="${CSS.escape(at.getAttribute(key))}"]` : "");
    const range = at.type === "search" ? [at.selectionStart, at.selectionEnd] : null;
    return () => {
      const found = document.querySelector(query);
      if (found && found !== document.activeElement && (key || at === host)) found.focus({ preventScroll: true });
      if (found && range) found.setSelectionRange(...range);
    };
  }

  function renew(fresh) {
    const names = (list, chosen) => [...chosen].map(i => list[i]);
    const agents = names(data.agents.map(a => a.name), state.agents), oldAgents = data.agents.map(a => a.name);
    const envs = names(data.envs, state.envs), oldEnvs = data.envs;
    data = fresh;
    // What is new is shown; what was switched off stays off.
    state.agents = new Set(data.agents.map((_, i) => i).filter(i =>
      agents.includes(data.agents[i].name) || (!oldAgents.includes(data.agents[i].name) && data.agents.length <= MANY)));
    state.envs = new Set(data.envs.map((_, i) => i).filter(i => envs.includes(data.envs[i]) || !oldEnvs.includes(data.envs[i])));
    const back = focus(), top = scrollY;
    render();
    scrollTo({ top, behavior: "instant" });
    back();
  }

  async function follow() {
    const status = $("live");
    const say = (text, bad) => { status.textContent = text; status.className = bad ? "bad" : ""; };
    try {
      // Not under the eyes of somebody who reads a run.
      if (!document.hidden && !$("run").open) {
        const news = await (await fetch(`state?${root.dataset.live}`)).json();
        if (news.data) {
          renew(news.data);
          root.dataset.live = news.mark;
        }
        if (news.error) say("waiting for whole files", true);
        else if (news.data || !status.textContent || status.className) say(`\u25cf live, ${new Date().toLocaleTimeString()}`);
        status.title = news.error || "";
      }
    } catch {
      say("the server has ended", true);
    }
    setTimeout(follow, 3000);
  }

  segments($("theme"), "Colours of the page", [["auto", "Auto"], ["light", "Light"], ["dark", "Dark"]], () => theme, value => {
    theme = value;
    try { localStorage.setItem("steadfast-theme", value); } catch { /* not allowed here */ }
    applyTheme();
    render();
  });
  system.addEventListener("change", () => { applyTheme(); render(); });
  addEventListener("beforeprint", () => { printing = true; applyTheme(); render(); });
  addEventListener("afterprint", () => { printing = false; applyTheme(); render(); });
  let settled = 0;
  addEventListener("resize", () => {
    clearTimeout(settled);
    settled = setTimeout(() => [...plots, ...views, ...dialogPlots].forEach(p => p.resize()), 60);
  });

  applyTheme();
  begin();
  if (root.dataset.live) follow();
})();
