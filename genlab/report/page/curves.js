// Learning curves: the mean and standard deviation of each group of runs, and a limited number of single runs.

const MAX_CURVES = 100;
const MAX_GROUPS = 10;
const QUANTILES = 4; // the number of groups for a number with many values
const MAX_POSITIONS = 200; // where means are computed

function setUpCurves() {
  const options = names => names.map(([value, text]) => element('option', { value, textContent: text }));
  byId('curves-metric').append(...options(Object.keys(data.curves.metrics).map(name => [name, name])));
  byId('curves-metric').value = firstCurve(Object.keys(data.curves.metrics));
  const groups = [...parameters, ...(seed ? [seed] : [])].map(parameter => [parameter.key, parameter.label]);
  byId('curves-group').append(...options([['', 'nothing'], ...groups]));
  byId('curves-group').value = mostImportant(state.metric) ?? '';
  if (data.curves.axes.every(axis => axis.epoch.at(-1) === axis.epoch[0])) byId('curves-axis').value = 'step';
  for (const id of ['curves-metric', 'curves-group', 'curves-axis', 'curves-log']) {
    remembered(byId(id)).addEventListener('change', drawCurves);
  }
}

// The curve that is shown first: that of the metric, or of the same metric in validation or training.
function firstCurve(names) {
  const word = (state.metric ?? '').split('/').at(-1);
  return [state.metric, `val/${word}`, `train/${word}`].find(name => names.includes(name)) ?? names[0];
}

function drawCurves() {
  const metric = byId('curves-metric').value;
  const axis = byId('curves-axis').value;
  const curves = readCurves(metric, axis);
  const groups = curveGroups([...curves.keys()], data.hyperparameters.find(p => p.key === byId('curves-group').value));
  const positions = commonPositions([...curves.values()]);
  const single = new Set(evenly([...curves.keys()], MAX_CURVES));
  const traces = groups.flatMap(({ name, runs }, i) =>
    groupTraces(name, runs, curves, positions, single, PALETTE[i % PALETTE.length], axis));
  Plotly.react(byId('curves-chart'), traces, layout({
    xaxis: { title: { text: axis }, ...(positions.at(-1) - positions[0] < 12 ? { dtick: 1 } : {}) },
    yaxis: { title: { text: plain(metric) }, type: byId('curves-log').checked ? 'log' : 'linear' },
    legend: { orientation: 'v', x: 1.01, y: 1 },
    showlegend: true,
  }), CONFIG);
  byId('curves-caption').textContent = 'Thick lines: mean of each group of runs. Bands: one standard deviation over its runs. Thin lines: ' +
    (single.size < curves.size ? `${single.size} of the ${curves.size} runs.` : 'the runs.');
}

// Returns run -> [[x, y], ...], with one point per x.
function readCurves(metric, axis) {
  const curves = new Map();
  for (const run of counted) {
    const found = data.curves.metrics[metric][data.runs[run]];
    if (!found) continue;
    const x = data.curves.axes[found[0]][axis];
    const same = groupBy(found[1].map((_, i) => i), i => x[i]);
    curves.set(run, [...same].map(([at, all]) => [at, mean(all.map(i => found[1][i]))]).sort((a, b) => a[0] - b[0]));
  }
  return curves;
}

function curveGroups(runs, parameter) {
  if (!parameter) return [{ name: 'all runs', runs }];
  if (parameter.numbers !== null && parameter.levels.length > MAX_GROUPS) return quantileGroups(runs, parameter);
  const groups = [...groupBy(runs, run => parameter.at[run])].sort(([a], [b]) => a - b);
  const named = groups.slice(0, MAX_GROUPS - (groups.length > MAX_GROUPS ? 1 : 0));
  const rest = groups.slice(named.length).flatMap(([, members]) => members);
  const shown = named.map(([level, members]) => ({ name: `${parameter.label} ${cut(parameter.levels[level])}`, runs: members }));
  return rest.length ? [...shown, { name: `other ${parameter.label}`, runs: rest }] : shown;
}

function quantileGroups(runs, parameter) {
  const number = run => parameter.numbers[run];
  const sorted = runs.filter(run => number(run) !== null).sort((a, b) => number(a) - number(b));
  const cuts = Array.from({ length: QUANTILES + 1 }, (_, i) => Math.round(i * sorted.length / QUANTILES));
  const parts = cuts.slice(1).map((end, i) => sorted.slice(cuts[i], end)).filter(part => part.length);
  return parts.map(part => ({ name: `${parameter.label} ${format(number(part[0]))} to ${format(number(part.at(-1)))}`, runs: part }));
}

function commonPositions(curves) {
  const all = [...new Set(curves.flatMap(curve => curve.map(([x]) => x)))].sort((a, b) => a - b);
  return all.length <= MAX_POSITIONS ? all : evenly(all, MAX_POSITIONS);
}

const evenly = (items, max) =>
  items.length <= max ? items : Array.from({ length: max }, (_, i) => items[Math.round(i * (items.length - 1) / (max - 1))]);

// Returns the linearly interpolated values at the positions, NaN before the start and after the end of the curve.
function interpolate(curve, positions) {
  let i = 0;
  return positions.map(x => {
    while (i < curve.length - 1 && curve[i + 1][0] <= x) i += 1;
    const [x0, y0] = curve[i];
    if (x0 === x) return y0;
    if (x < x0 || i === curve.length - 1) return NaN;
    const [x1, y1] = curve[i + 1];
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0);
  });
}

function groupTraces(name, runs, curves, positions, single, color, axis) {
  const values = runs.map(run => interpolate(curves.get(run), positions));
  const points = positions.map((x, i) => ({ x, all: values.map(line => line[i]).filter(Number.isFinite) }))
    .filter(({ all }) => all.length)
    .map(({ x, all }) => ({ x, n: all.length, mean: mean(all), spread: deviation(all) ?? 0, least: Math.min(...all) }));
  const x = points.map(point => point.x);
  const low = points.map(({ mean, spread, least }) => (least > 0 ? Math.max(mean - spread, least) : mean - spread));
  const shared = { type: 'scatter', legendgroup: name, hoverinfo: 'text' };
  return [
    { ...band(x, low, points.map(point => point.mean + point.spread), color + '26'), legendgroup: name },
    { ...shared, ...singleCurves(runs.filter(run => single.has(run)), curves, axis), line: { color, width: 1 }, opacity: 0.35,
      showlegend: false, mode: 'lines' },
    { ...shared, mode: 'lines', name: plain(`${name} (${runs.length})`), x, y: points.map(point => point.mean),
      line: { color, width: 3 },
      hovertext: points.map(point => `<b>${plain(name)}</b><br>${axis} ${format(point.x)}: mean <b>${format(point.mean)}</b>` +
        (point.n > 1 ? ` ± ${format(point.spread)} over ${point.n} runs` : ', one run')) },
  ];
}

function singleCurves(runs, curves, axis) {
  const x = [], y = [], hovertext = [];
  for (const run of runs) {
    for (const [at, value] of curves.get(run)) {
      x.push(at); y.push(value); hovertext.push(`${plain(cut(data.runs[run], 60))}<br>${axis} ${format(at)}: <b>${format(value)}</b>`);
    }
    x.push(null); y.push(null); hovertext.push('');
  }
  return { x, y, hovertext };
}
