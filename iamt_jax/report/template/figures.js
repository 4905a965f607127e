"use strict";
// Draws every plot from the page's data, in the page's colours; draws again when those change.

const DATA = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const percent = (x) => (x === null ? "-" : `${(100 * x).toFixed(1)} %`);

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function layout(extra, x, y) {
  const axis = { gridcolor: colour("rule"), zerolinecolor: colour("rule"), fixedrange: true, automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("ink"), family: getComputedStyle(document.body).fontFamily, size: 13 },
    margin: { l: 8, r: 8, t: 12, b: 8 }, uirevision: "kept",
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    xaxis: { ...axis, ...x }, yaxis: { ...axis, ...y }, ...extra,
  };
}

function draw(id, traces, shape) {
  return Plotly.react(at(id), traces, shape, { displayModeBar: false, responsive: true });
}

const scaled = (rows) => rows.map((row) => row.map((v) => (v === null ? null : 100 * v)));

// The best pair of a sigma: [i of n, j of beta].
function best(grid) {
  let found = [0, 0];
  grid.forEach((row, i) => row.forEach((v, j) => { if (v > grid[found[0]][found[1]]) found = [i, j]; }));
  return found;
}

function drawNoise() {
  const plane = DATA.plane, metric = at("noise-metric").value, grids = plane.scores[metric];
  const one = plane.n.indexOf(1), zero = plane.beta.indexOf(0), own = plane.beta.indexOf(plane.own_beta);
  const line = (name, values, tone, dash, symbol, text) => ({
    name, x: plane.sigmas, y: values.map((v) => (v === null ? null : 100 * v)), text,
    mode: "lines+markers", line: { color: colour(tone), dash, width: 2.5 }, marker: { symbol, size: 8 },
    hovertemplate: "σ %{x}: %{y:.1f} % %{text}<extra></extra>",
  });
  const blank = plane.sigmas.map(() => "");
  const pairs = grids.map(best);
  const named = pairs.map(([i, j]) => `(n ${plane.n[i]}, β ${plane.beta[j]})`);
  const traces = [
    line("n 1, β 0", grids.map((g) => g[one][zero]), "quiet", "solid", "circle", blank),
    ...(own > 0 ? [line(`own curve, n 1, β ${plane.own_beta}`, grids.map((g) => g[one][own]), "quiet", "dash", "circle-open", blank)] : []),
    line("best pair, by hindsight", grids.map((g, s) => g[pairs[s][0]][pairs[s][1]]), "other", "dash", "square", named),
  ];
  if (plane.automatic) {
    traces.push(line("calibrated", plane.automatic[metric], "accent", "solid", "diamond", blank));
  }
  if (metric === "accuracy" && plane.majority !== null) {
    traces.push({ ...line("majority", plane.sigmas.map(() => plane.majority), "third", "dot", "x", blank), mode: "lines" });
  }
  draw("noise-plot", traces, layout({}, { title: { text: "σ of the noise" } }, { title: { text: `${plane.names[metric]}, %` } }));
}

// Fig. 5 of the paper: accuracy over sigma, one line for each pair (n, β).
const PAIRS = [[1, 0], [1, 0.5], [1, 1], [0.25, 0.8], [4, 0], [4, 1]];
const PAIR_COLOURS = ["#c2571a", "#7a5cc0", "#1f8a84", "#b3478f", "#4a7fd1"];

function drawPaper() {
  const plane = DATA.plane, symbols = ["circle", "square", "diamond", "x", "triangle-up", "star"];
  const traces = PAIRS.map(([n, beta], i) => ({
    name: `n ${n}, β ${beta}`, n: plane.n.indexOf(n), beta: plane.beta.indexOf(beta), mode: "lines+markers", x: plane.sigmas,
    line: { color: i ? PAIR_COLOURS[i - 1] : colour("quiet"), width: 2.5 }, marker: { symbol: symbols[i], size: 8 },
    hovertemplate: `n ${n}, β ${beta}, σ %{x}: %{y:.1f} %<extra></extra>`,
  })).filter((trace) => trace.n >= 0 && trace.beta >= 0)
    .map(({ n, beta, ...trace }) => ({ ...trace, y: plane.scores.accuracy.map((grid) => 100 * grid[n][beta]) }));
  if (plane.majority !== null) {
    traces.push({ name: "majority", x: plane.sigmas, y: plane.sigmas.map(() => 100 * plane.majority), mode: "lines",
      line: { color: colour("third"), dash: "dot", width: 2.5 }, hovertemplate: "majority: %{y:.1f} %<extra></extra>" });
  }
  draw("paper-plot", traces, layout({}, { title: { text: "σ of the noise" } }, { title: { text: "accuracy, %" } }));
}

function chosen() {
  const [n, beta, sigma] = ["n", "beta", "sigma"].map((name) => Number(at(`slider-${name}`).value));
  return { n, beta, sigma, metric: at("plane-metric").value };
}

function drawCurve(n, beta) {
  const plane = DATA.plane, values = plane.curves[n][beta];
  const masks = values.map((_, i) => i / (values.length - 1));
  const traces = [
    { x: [0, 1], y: [0, 1], mode: "lines", name: "identity", line: { color: colour("quiet"), dash: "dot", width: 1.5 }, hoverinfo: "skip" },
    { x: masks, y: values, mode: "lines", name: `n ${plane.n[n]}, β ${plane.beta[beta]}`, line: { color: colour("accent"), width: 3 },
      hovertemplate: "M %{x:.2f}: g %{y:.2f}<extra></extra>" },
  ];
  draw("curve-plot", traces, layout({}, { title: { text: "mask M" }, range: [0, 1] }, { title: { text: "g(M; n, β)" }, range: [-1.05, 1.05] }));
}

// The least and the greatest score of a metric over all sigmas, in percent: one scale for all planes.
function range(metric) {
  const values = DATA.plane.scores[metric].flat(2).filter((v) => v !== null);
  return [100 * Math.min(...values), 100 * Math.max(...values)];
}

function drawPlane(n, beta, grid, metric, name) {
  const plane = DATA.plane, rows = plane.n.map(String), [zmin, zmax] = range(metric), [bestN, bestBeta] = best(grid);
  const traces = [
    { type: "heatmap", x: plane.beta, y: rows, z: scaled(grid), zmin, zmax, colorscale: "Cividis",
      colorbar: { title: { text: "%", side: "top" }, thickness: 12, outlinewidth: 0 },
      hovertemplate: "n %{y}, β %{x}: %{z:.1f} %<extra></extra>" },
    { x: [plane.beta[bestBeta]], y: [rows[bestN]], mode: "text", text: ["★"], hoverinfo: "skip", textfont: { size: 20, color: "white" } },
    { x: [plane.beta[beta]], y: [rows[n]], mode: "markers", hoverinfo: "skip",
      marker: { size: 18, color: "rgba(0,0,0,0)", line: { width: 6, color: "black" } } },
    { x: [plane.beta[beta]], y: [rows[n]], mode: "markers", hoverinfo: "skip",
      marker: { size: 18, color: "rgba(0,0,0,0)", line: { width: 3, color: "white" } } },
  ];
  draw("plane-plot", traces, layout(
    { showlegend: false, title: { text: name, font: { size: 13 }, x: 0.05 }, margin: { l: 8, r: 8, t: 34, b: 8 } },
    { title: { text: "β" }, showgrid: false, zeroline: false }, { title: { text: "n" }, type: "category", showgrid: false },
  ));
}

function tabulate(grid) {
  const plane = DATA.plane, table = document.createElement("table");
  table.className = "numbers";
  const add = (row, kind, scope, text) => {
    const cell = document.createElement(kind);
    if (scope) cell.scope = scope;
    cell.textContent = text;
    row.append(cell);
  };
  const head = table.createTHead().insertRow(), body = table.createTBody();
  ["β", ...plane.n.map((n) => `n ${n}`)].forEach((text) => add(head, "th", "col", text));
  plane.beta.forEach((beta, j) => {
    const row = body.insertRow();
    add(row, "th", "row", beta);
    grid.forEach((line) => add(row, "td", null, percent(line[j])));
  });
  at("plane-table").replaceChildren(table);
}

function showPlane() {
  const plane = DATA.plane, { n, beta, sigma, metric } = chosen();
  const grid = plane.scores[metric][sigma], name = plane.names[metric];
  const [i, j] = best(grid), identity = grid[plane.n.indexOf(1)][plane.beta.indexOf(0)];
  [["n", plane.n[n]], ["beta", plane.beta[beta]], ["sigma", plane.sigmas[sigma]]].forEach(([id, value]) => {
    at(`slider-${id}`).setAttribute("aria-valuetext", value);
    at(`value-${id}`).textContent = value;
  });
  at("plane-readout").textContent =
    `n ${plane.n[n]}, β ${plane.beta[beta]}, σ ${plane.sigmas[sigma]}: ${name} ${percent(grid[n][beta])}` +
    ` (n 1, β 0: ${percent(identity)}; best here ${percent(grid[i][j])} at n ${plane.n[i]}, β ${plane.beta[j]})`;
  drawCurve(n, beta);
  const values = grid.flat().filter((v) => v !== null);
  drawPlane(n, beta, grid, metric, `${name} at σ ${plane.sigmas[sigma]}: ${percent(Math.min(...values))} to ${percent(Math.max(...values))}, best at ★`);
  tabulate(grid);
}

// Purple positive, orange negative, as in the atlas; the middle is the page's own ground.
function signedScale() {
  return [[0, colour("other")], [0.5, colour("ground")], [1, colour("accent")]];
}

// The largest value off the diagonal, which is 1 everywhere.
function reach(matrix) {
  return Math.max(0.01, ...matrix.map((row, i) => Math.max(...row.map((v, j) => (i === j ? 0 : Math.abs(v))))));
}

function drawMatrix(id, matrix, names, template, ticks) {
  const axis = { type: "category", showgrid: false, zeroline: false, tickmode: "array", tickvals: ticks, tickfont: { size: 10 } };
  const limit = reach(matrix);
  const trace = {
    type: "heatmap", x: names, y: names, z: matrix, zmin: -limit, zmax: limit, colorscale: signedScale(),
    colorbar: { orientation: "h", thickness: 12, y: 1.01, yanchor: "bottom", len: 0.6, outlinewidth: 0 },
    hovertemplate: template,
  };
  draw(id, [trace], layout({}, { ...axis, tickangle: 90 }, { ...axis, autorange: "reversed" }));
}

function drawAttributes() {
  // Names of 40 attributes leave no room for the plot on a phone; they are in the table there.
  drawMatrix("attributes-plot", DATA.attributes[at("attributes-kind").value], DATA.attributes.names,
    "%{y}, %{x}: %{z:.2f}<extra></extra>", window.innerWidth > 640 ? DATA.attributes.names : []);
}

function drawFeatures() {
  const channels = DATA.features.order.map(String), every = Math.ceil(channels.length / (window.innerWidth > 640 ? 43 : 16));
  drawMatrix("features-plot", DATA.features.matrix, channels,
    "channels %{y}, %{x}: %{z:.2f}<extra></extra>", channels.filter((_, i) => i % every === 0));
}

function drawAll() {
  drawNoise();
  showPlane();
  drawAttributes();
  drawFeatures();
  drawPaper();
}

at("noise-metric").addEventListener("change", drawNoise);
["plane-metric", "slider-n", "slider-beta", "slider-sigma"].forEach((id) => at(id).addEventListener("input", showPlane));
at("attributes-kind").addEventListener("change", drawAttributes);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
window.matchMedia("(max-width: 640px)").addEventListener("change", () => {
  drawAttributes();
  drawFeatures();
});
drawAll();
