"use strict";
// Draws charts and token views from the data of the page. Every text goes in as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const variants = data.result.variants.map((variant) => variant.name);
const seeds = data.result.seeds;
const colour = (variant) => `var(--v${variants.indexOf(variant) % 6})`;
const dash = (variant) => ["", "7 3", "2 3", "9 3 2 3", "4 2", "1 4"][variants.indexOf(variant) % 6];
const at = (id) => document.getElementById(id);

function make(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "circle", "text", "rect", "title"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}
// A tie such as 56.25 goes to the even digit, as in the tables; toFixed alone would write 56.3 there.
const percent = (value) => { const p = 100 * value; return (p % 1 === 0.25 ? p - 0.05 : p).toFixed(1); };
const bracket = (interval) => (interval ? ` [${percent(interval.low)}, ${percent(interval.high)}]` : "");
function brief(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(1);
  return String(Number(value.toPrecision(3))).replace("-", "−");
}
document.querySelectorAll(".key").forEach((key) => { key.style.background = `var(--v${key.dataset.variant % 6})`; });

// Axes with round numbers.
function ticks(low, high, wanted = 4) {
  const rough = (high - low) / wanted || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}
const W = 340, H = 220, LEFT = 46, RIGHT = 10, TOP = 10, BOTTOM = 38;
function plane(label, xs, ys, xName, yName) {
  const pad = (ends) => { const d = (ends[1] - ends[0]) * 0.05 || Math.abs(ends[0]) * 0.1 || 1; return [ends[0] - d, ends[1] + d]; };
  const x = xs.fixed ?? [Math.min(...xs), Math.max(...xs) || 1], y = ys.fixed ?? pad([Math.min(...ys), Math.max(...ys)]);
  const px = (v) => LEFT + ((v - x[0]) / (x[1] - x[0] || 1)) * (W - LEFT - RIGHT);
  const py = (v) => H - BOTTOM - ((v - y[0]) / (y[1] - y[0] || 1)) * (H - TOP - BOTTOM);
  const svg = make("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label });
  for (const t of ticks(...y)) svg.append(make("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: py(t), y2: py(t) }), make("text", { x: LEFT - 5, y: py(t) + 4, "text-anchor": "end" }, brief(t)));
  for (const t of ticks(...x)) svg.append(make("text", { x: px(t), y: H - BOTTOM + 15, "text-anchor": "middle" }, brief(t)));
  svg.append(make("text", { x: (LEFT + W - RIGHT) / 2, y: H - 5, "text-anchor": "middle" }, xName));
  if (yName) svg.append(make("text", { transform: `translate(10 ${(H - BOTTOM + TOP) / 2}) rotate(-90)`, "text-anchor": "middle" }, yName));
  return { svg, px, py };
}
const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
const chart = (title, note, svg) => make("div", { class: "chart" }, make("h4", {}, title), note ? make("small", {}, note) : null, svg);

// Win rates: an interval a variant, a small point a seed.
function forest() {
  const rows = data.result.win_rates, wide = Math.min(900, Math.max(340, at("forest").clientWidth || 900));
  const narrow = wide < 560, left = narrow ? 10 : 240, right = narrow ? 20 : 190, high = narrow ? 56 : 34, tall = rows.length * high + 46;
  const ends = rows.flatMap((row) => { const o = row.win_rate.overall; return [o?.interval?.low, o?.interval?.high, ...row.win_rate.seeds.map((s) => s.value.rate)]; }).filter((v) => typeof v === "number");
  const low = Math.max(0, Math.min(0.5, ...ends) - 0.04), top = Math.min(1, Math.max(0.5, ...ends) + 0.04);
  const x = (v) => left + ((v - low) / (top - low)) * (wide - left - right);
  const svg = make("svg", { viewBox: `0 0 ${wide} ${tall}`, role: "img", "aria-label": "Win rates with 95% intervals", style: `max-width:${wide}px` });
  const base = rows.length * high + 6;
  svg.append(make("line", { class: "axis", x1: left, x2: wide - right, y1: base, y2: base }), make("line", { class: "reference", x1: x(0.5), x2: x(0.5), y1: 0, y2: base }));
  for (const t of ticks(low, top, 5)) svg.append(make("text", { x: x(t), y: base + 16, "text-anchor": "middle" }, (100 * t).toFixed(0)));
  svg.append(make("text", { x: (left + wide - right) / 2, y: base + 34, "text-anchor": "middle" }, narrow ? "win rate %, 95% interval" : "win rate %, 95% interval; small: seeds; dashed: as good as the reference"));
  rows.forEach((row, i) => {
    const y = i * high + (narrow ? 40 : 20), o = row.win_rate.overall, c = colour(row.variant), figures = o ? `${percent(o.value)}${bracket(o.interval)}, n = ${o.n}` : "–";
    if (narrow) svg.append(make("text", { class: "name", x: left, y: y - 16 }, `${row.variant}: ${figures}`));
    else svg.append(make("text", { class: "name", x: 0, y: y + 4 }, row.variant), make("text", { x: wide, y: y + 4, "text-anchor": "end" }, figures));
    if (!o) return;
    if (o.interval) svg.append(make("line", { x1: x(o.interval.low), x2: x(o.interval.high), y1: y, y2: y, stroke: c, "stroke-width": 3 }));
    if (row.win_rate.seeds.length > 1) for (const s of row.win_rate.seeds) if (s.value.rate !== null) svg.append(make("circle", { cx: x(s.value.rate), cy: y + 9, r: 2.5, fill: c, "fill-opacity": 0.7 }, make("title", {}, `seed ${s.seed}: ${percent(s.value.rate)}`)));
    svg.append(make("circle", { cx: x(o.value), cy: y, r: 6, fill: c }));
  });
  at("forest").replaceChildren(svg);
}

// The 2×2: trained on × tested on.
function cells() {
  const models = data.result.reward_models, rows = [];
  for (const cell of models.cells) if (!rows.some((row) => row.trained_on === cell.trained_on && row.scheme === cell.scheme)) rows.push(cell);
  if (!rows.length) return at("cells").append(make("p", {}, "No reward model was trained."));
  const one = (cell) => {
    const overall = cell?.accuracy.overall;
    if (!overall) return make("td", {}, "–");
    const distance = (overall.value - 0.5) * 2, side = distance >= 0 ? "up" : "down";
    return make("td", { style: `background: rgba(var(--${side}), ${Math.min(0.5, Math.abs(distance) * 0.6).toFixed(3)})` }, `${percent(overall.value)}${bracket(overall.interval)}`, make("small", {}, `n = ${overall.n}`));
  };
  const line = (name, of) => make("tr", {}, make("th", { scope: "row" }, name), ...["pairs", "edits"].map((on) => one(of(on))));
  const body = make("tbody", {}, ...rows.map((row) => line(`trained on ${row.trained_on}, ${row.scheme}`, (on) => models.cells.find((c) => c.trained_on === row.trained_on && c.scheme === row.scheme && c.tested_on === on))));
  if (models.longer_is_better.length) body.append(line("longer is better", (on) => models.longer_is_better.find((c) => c.tested_on === on)));
  const head = make("thead", {}, make("tr", {}, ...["Accuracy %, 95% interval", "tested on pairs", "tested on edits"].map((name) => make("th", { scope: "col" }, name))));
  at("cells").append(make("div", { class: "scroll", tabindex: 0 }, make("table", { class: "cells" }, head, body)));
}

function calibration() {
  if (!data.calibration.length) at("calibration").append(make("p", {}, "No reward model was tested."));
  for (const { trained_on, scheme, tested_on, of } of data.calibration) {
    const x = [], y = []; x.fixed = [0.5, 1]; y.fixed = [0, 1];
    const { svg, px, py } = plane(`Calibration of ${trained_on}, ${scheme} on ${tested_on}`, x, y, "confidence", "label agrees (95% interval)");
    svg.append(make("line", { class: "reference", x1: px(0.5), y1: py(0.5), x2: px(1), y2: py(1) }));
    for (const bin of of.bins) {
      if (bin.interval) svg.append(make("line", { x1: px(bin.predicted), x2: px(bin.predicted), y1: py(bin.interval.low), y2: py(bin.interval.high), stroke: "var(--v0)", "stroke-width": 1.5 }));
      svg.append(make("circle", { cx: px(bin.predicted), cy: py(bin.observed), r: 2 + 5 * Math.sqrt(bin.n / of.n), fill: "var(--v0)" }, make("title", {}, `${bin.n} pairs: confidence ${percent(bin.predicted)} %, label agrees ${percent(bin.observed)} %${bracket(bin.interval)}`)));
    }
    at("calibration").append(chart(`Trained on ${trained_on}, ${scheme}; tested on ${tested_on}`, `n = ${of.n} pairs, ECE ${of.ece.toFixed(3)}, Brier ${of.brier.toFixed(3)} (guessing: ${data.brier_of_guessing})`, svg));
  }
}

function lengths() {
  for (const [variant, { points, r }] of Object.entries(data.lengths)) {
    if (!points.length) continue;
    const xs = [0, ...points.map((p) => p[0])];
    const { svg, px, py } = plane(`Length against reward, ${variant}`, xs, points.map((p) => p[1]), "tokens of the response", "total reward");
    for (const [x, y] of points) svg.append(make("circle", { cx: px(x), cy: py(y), r: 3, fill: colour(variant), "fill-opacity": 0.5 }));
    at("lengths").append(chart(variant, `n = ${points.length} responses${r === null ? "" : `, r = ${r.toFixed(2)}`}`, svg));
  }
  if (!at("lengths").children.length) at("lengths").append(make("p", {}, "No token views were kept (evaluation.token_views)."));
}

const titles = {
  "evaluation/score": "Win rate while training (judge)", "reward/total": "Reward, all channels", "reward/kl": "Reward channel: KL",
  "kl/response_k1": "KL to the reference", "policy/entropy": "Entropy", "response/mean_length": "Length",
  "response/eos_rate": "Responses that end by themselves", "value/explained_variance": "Critic: explained variance",
};
const units = {
  "evaluation/score": "share, 0 to 1", "kl/response_k1": "nats per response", "policy/entropy": "nats per token", "response/mean_length": "tokens",
  "response/eos_rate": "share, 0 to 1", "value/explained_variance": "at most 1",
};
function curves() {
  const axis = Number(at("axis").value), names = new Set();
  for (const run of data.curves) for (const name of Object.keys(run.metrics)) names.add(name);
  const first = ["evaluation/score", "reward/total"], last = Object.keys(titles).filter((name) => !name.startsWith("reward/") && !first.includes(name));
  const order = [...first, ...[...names].filter((n) => !first.includes(n) && !last.includes(n)).sort(), ...last].filter((n) => names.has(n));
  at("curves").replaceChildren();
  at("band").textContent = seeds.length > 1 ? `Lines are means over ${seeds.length} seeds; bands reach from the lowest to the highest seed.` : "One seed: no bands.";
  for (const name of order) {
    const lines = [];
    for (const variant of variants) {
      const own = data.curves.filter((run) => run.variant === variant && run.metrics[name]).map((run) => run.metrics[name]);
      if (!own.length) continue;
      // Seeds meet at their steps; wall times at a step are averaged.
      const steps = own[0].map((p) => p[0]).filter((step) => own.every((line) => line.some((p) => p[0] === step)));
      lines.push({ variant, seeds: own.length, points: steps.map((step) => {
        const there = own.map((line) => line.find((p) => p[0] === step)), values = there.map((p) => p[3]).filter((v) => v !== null);
        return [there.reduce((sum, p) => sum + p[axis], 0) / there.length, values.reduce((a, b) => a + b, 0) / values.length, Math.min(...values), Math.max(...values)];
      }).filter((p) => Number.isFinite(p[1])) });
    }
    // An evaluation carries no count of its own: it happens at the end of its step.
    if (name === "evaluation/score") for (const line of lines) {
      const run = data.curves.filter((r) => r.variant === line.variant), clock = run.map((r) => r.metrics["reward/total"] ?? []);
      line.points.forEach((p, i) => {
        const step = run[0].metrics[name][i][0], there = clock.map((c) => c.find((q) => q[0] === step)).filter(Boolean);
        p[0] = axis === 0 ? step : there.length ? there.reduce((sum, q) => sum + q[axis], 0) / there.length : 0;
      });
    }
    const all = lines.flatMap((line) => line.points);
    if (!all.length) continue;
    const { svg, px, py } = plane(titles[name] ?? name, [0, ...all.map((p) => p[0])], all.flatMap((p) => [p[2], p[3]]), ["PPO steps", "responses sampled", "seconds"][axis], units[name] ?? "per response");
    for (const line of lines) {
      if (line.seeds > 1) svg.append(make("path", { d: `${path([...line.points.map((p) => [px(p[0]), py(p[3])]), ...line.points.map((p) => [px(p[0]), py(p[2])]).reverse()])}Z`, fill: colour(line.variant), "fill-opacity": 0.15 }));
      svg.append(make("path", { d: path(line.points.map((p) => [px(p[0]), py(p[1])])), fill: "none", stroke: colour(line.variant), "stroke-width": 2, "stroke-dasharray": dash(line.variant) }, make("title", {}, line.variant)));
    }
    at("curves").append(chart(titles[name] ?? `Reward channel: ${name.slice(7)}`, null, svg));
  }
  const key = lines => variants.map((variant) => make("span", { style: "margin-right:1.4em;white-space:nowrap" }, make("svg", { viewBox: "0 0 34 10", style: "display:inline-block;width:34px;vertical-align:middle;margin-right:.4em" }, make("line", { x1: 0, x2: 34, y1: 5, y2: 5, stroke: colour(variant), "stroke-width": 2.5, "stroke-dasharray": dash(variant) })), variant));
  at("band").append(make("br"), ...key());
}

// Responses: coloured tokens, side by side.
const measures = { reward: "reward", advantage: "advantage", kl: "KL: log π − log π_ref", value: "value", plain: "nothing" };
const channels = new Set(data.responses.flatMap((row) => Object.values(row.of).flatMap((own) => Object.keys(own.tokens?.channels ?? {}))));
const list = (own, measure) => (measure.startsWith("channel/") ? own.tokens?.channels[measure.slice(8)] : own.tokens?.[measure]) ?? null;
const state = { shown: 12 };
const largest = {};
function scale(measure) {
  // The 98th percentile, so that one extreme token does not pale all others.
  if (!(measure in largest)) {
    const sizes = data.responses.flatMap((row) => Object.values(row.of).flatMap((own) => list(own, measure) ?? [])).filter((v) => v !== null && v !== 0).map(Math.abs).sort((a, b) => a - b);
    largest[measure] = sizes.length ? sizes[Math.floor(0.98 * (sizes.length - 1))] : 0;
  }
  return largest[measure];
}
function shade(value, most) {
  if (value === null || !most) return "";
  return `background:rgba(var(--${value >= 0 ? "up" : "down"}),${(0.75 * Math.min(1, Math.abs(value) / most)).toFixed(3)})`;
}
function words(text, query) {
  if (!query) return [text];
  const found = [], lower = text.toLowerCase();
  for (let from = 0; ;) {
    const to = lower.length === text.length ? lower.indexOf(query, from) : -1;
    if (to < 0) { found.push(text.slice(from)); return found; }
    found.push(text.slice(from, to), make("mark", {}, text.slice(to, to + query.length)));
    from = to + query.length;
  }
}
function side(row, variant, measure, query) {
  const own = row.of[variant];
  if (!own) return null;
  const text = make("p"), values = list(own, measure), judged = own.preference === null ? "not judged" : `judge ${brief(own.preference)}`;
  if (own.tokens && measure !== "plain") own.tokens.pieces.forEach((piece, i) => {
    const end = own.tokens.ended && i === own.tokens.pieces.length - 1;
    const token = make("span", { class: end ? "tok eos" : "tok", style: shade(values?.[i] ?? null, scale(measure)) }, ...(end ? ["end"] : words(piece, query)));
    token.figures = { own, i, piece: end ? "end of the response" : piece };
    text.append(token);
  });
  else text.append(...words(own.text, query));
  const total = own.tokens ? `, total reward ${brief(own.tokens.total)}, ${own.tokens.pieces.length} tokens` : "";
  return make("div", { class: "side" }, make("header", {}, make("i", { class: "key", style: `background:${colour(variant)}` }), make("b", {}, variant), ` ${judged}${total}`), text);
}
function responses() {
  const measure = at("measure").value, query = at("search").value.trim().toLowerCase(), [kind, variant] = at("filter").value.split("|"), [order, by] = at("sort").value.split("|");
  const seed = Number(at("seed").value);
  const rows = data.responses.filter((row) => {
    if (row.seed !== seed) return false;
    const own = row.of[variant];
    if (kind === "tokens" && !Object.values(row.of).some((one) => one.tokens)) return false;
    if (kind === "win" && !(own && own.preference !== null && own.preference > 0.5)) return false;
    if (kind === "loss" && !(own && own.preference !== null && own.preference < 0.5)) return false;
    return !query || [row.prompt, ...Object.values(row.of).map((one) => one.text)].some((text) => text.toLowerCase().includes(query));
  });
  const total = (row) => row.of[by]?.tokens?.total ?? null;
  if (order !== "order") rows.sort((a, b) => {
    const [x, y] = [total(a), total(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return order === "best" ? y - x : x - y;
  });
  const shown = rows.slice(0, state.shown), most = scale(measure);
  at("cards").replaceChildren(...shown.map((row) => make("article", { class: "card" },
    make("h4", {}, ...words(row.prompt, query), make("small", {}, ` ${row.id}`)),
    make("div", { class: "sides" }, ...variants.map((one) => side(row, one, measure, query))),
    make("details", {}, make("summary", {}, "the reference's response"), make("p", {}, row.reference)))));
  at("count").textContent = `${shown.length} of ${rows.length} prompts; the page holds at most the first ${data.prompts_shown} of each seed.`;
  at("more").hidden = rows.length <= shown.length;
  at("legend").replaceChildren(...(measure === "plain" || !most ? [] : [make("span", {}, `${measures[measure] ?? measure.slice(8)} per token:`), make("span", {}, `−${brief(most)} or less`), make("span", { class: "scale", role: "img", "aria-label": "orange below 0, no colour at 0, blue above 0" }), make("span", {}, `${brief(most)} or more; no colour at 0. Point at a token for its figures.`)]));
}
function option(select, value, text) { at(select).append(make("option", { value }, text)); }
function setUp() {
  for (const [value, text] of Object.entries(measures)) if (value === "plain" || data.responses.some((row) => Object.values(row.of).some((own) => list(own, value)))) option("measure", value, text);
  if (channels.size > 1) for (const name of channels) option("measure", `channel/${name}`, `reward channel: ${name}`);
  for (const seed of seeds) if (data.responses.some((row) => row.seed === seed)) option("seed", seed, seed);
  option("filter", "all", "all");
  option("filter", "tokens", "those with token views");
  for (const variant of variants) { option("filter", `win|${variant}`, `${variant} wins`); option("filter", `loss|${variant}`, `${variant} loses`); }
  option("sort", "order", "as evaluated");
  for (const variant of variants) { option("sort", `best|${variant}`, `best by ${variant}'s reward`); option("sort", `worst|${variant}`, `worst by ${variant}'s reward`); }
  for (const id of ["measure", "seed", "filter", "sort", "search"]) at(id).addEventListener("input", () => { state.shown = 12; responses(); });
  at("more").addEventListener("click", () => { state.shown += 24; responses(); });
  at("axis").addEventListener("input", curves);
  if (!data.responses.length) at("cards").append(make("p", {}, "No responses lie beside the result."));
}

// The figures of the token under the pointer.
function tip(token, x, y) {
  const { own, i, piece } = token.figures, tokens = own.tokens;
  const rows = [["reward", tokens.reward[i]], ...Object.entries(tokens.channels).filter(() => Object.keys(tokens.channels).length > 1).map(([name, values]) => [`  ${name}`, values[i]]), ["advantage", tokens.advantage?.[i]], ["KL (nats)", tokens.kl[i]], ["value", tokens.value?.[i]]];
  at("tip").replaceChildren(make("b", {}, `“${piece}”`), ` token ${i + 1} of ${tokens.pieces.length}`, make("table", {}, ...rows.filter(([, value]) => value !== undefined).map(([name, value]) => make("tr", {}, make("td", {}, name), make("td", {}, brief(value))))));
  at("tip").hidden = false;
  const box = at("tip").getBoundingClientRect();
  at("tip").style.left = `${Math.max(4, Math.min(x + 12, innerWidth - box.width - 4))}px`;
  at("tip").style.top = `${y + 18 + box.height > innerHeight ? y - box.height - 8 : y + 18}px`;
}
document.addEventListener("pointermove", (event) => {
  const token = event.target.closest?.(".tok");
  if (token?.figures) tip(token, event.clientX, event.clientY);
  else at("tip").hidden = true;
});

function edits() {
  for (const row of data.edits) {
    const text = (keep, tag) => row.diff.filter(([kind]) => kind === "=" || kind === keep).map(([kind, words]) => (kind === "=" ? words : make(tag, {}, words)));
    const margins = Object.entries(row.margins).map(([name, value]) => `${name} ${brief(value)}`).join("; ");
    at("edit-cards").append(make("article", { class: "card" }, make("h4", {}, row.prompt, make("small", {}, ` ${row.id}`)),
      make("div", { class: "sides" }, make("div", { class: "side" }, make("header", {}, make("b", {}, "original")), make("p", {}, ...text("-", "del"))), make("div", { class: "side" }, make("header", {}, make("b", {}, "edit")), make("p", {}, ...text("+", "ins")))),
      margins ? make("small", {}, `margin: ${margins}`) : null));
  }
  if (!data.edits.length) at("edit-cards").append(make("p", {}, "No held-out edits lie beside the result."));
}

setUp();
forest();
cells();
calibration();
lengths();
curves();
responses();
edits();
addEventListener("resize", forest);
