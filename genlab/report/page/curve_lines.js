// Learning curves of groups of runs: their mean and standard deviation, and a limited number of single runs.
//
// The page has the controls curves-metric, curves-axis, curves-log and curves-smoothing, a function runName(run), and a
// function curveKey(run), which finds the curves of a run in the data.

const MAX_CURVES = 100;
const MAX_GROUPS = 10;
const QUANTILES = 4; // the number of groups for a number with many values
const MAX_POSITIONS = 200; // where means are computed
const AXES = { step: 'step (training batches; several optimizers count once)', epoch: 'epoch', seconds: 'seconds since the start of the run' };

function setUpCurveControls(metric, draw) {
  byId('curves-metric').append(...Object.keys(data.curves.metrics).map(value => element('option', { value, textContent: value })));
  byId('curves-metric').value = metric;
  const named = Object.keys(AXES).filter(name => data.curves.axes.some(axis => axis[name]));
  byId('curves-axis').append(...named.map(name => element('option', { value: name, textContent: name })));
  byId('curves-axis').value = data.curves.axes.every(({ epoch }) => epoch.at(-1) === epoch[0]) ? 'step' : 'epoch';
  for (const id of ['curves-metric', 'curves-axis', 'curves-log', 'curves-smoothing', 'curves-group']) {
    remembered(byId(id)).addEventListener(id === 'curves-smoothing' ? 'input' : 'change', draw);
  }
}

// Draws the curves of the runs, grouped by a parameter {label, levels, at, numbers} with a value for each run. With
// firstOnly, groups beyond the limit are left out, otherwise they share a mean. Returns the runs that are drawn.
function drawCurvesOf(runs, parameter) {
  const axis = byId('curves-axis').value, metric = byId('curves-metric').value, weight = Number(byId('curves-smoothing').value);
  const curves = readCurves(metric, axis, runs);
  const smooth = new Map([...curves].map(([run, curve]) => [run, smoothed(curve, weight)]));
  const positions = commonPositions([...curves.values()]);
  const groups = curveGroups([...curves.keys()], parameter);
  const drawn = groups.flatMap(group => group.runs);
  const single = new Set(evenly(drawn, MAX_CURVES));
  const traces = groups.flatMap(({ name, runs: members }, i) =>
    groupTraces(name, members, smooth, curves, positions, single, PALETTE[i % PALETTE.length], axis));
  Plotly.react(byId('curves-chart'), traces, layout({
    xaxis: { title: { text: AXES[axis] }, ...(positions.at(-1) - positions[0] < 12 && axis !== 'seconds' ? { dtick: 1 } : {}) },
    yaxis: { title: { text: plain(metric) }, type: byId('curves-log').checked ? 'log' : 'linear' },
    legend: { orientation: 'v', x: 1.01, y: 1 },
    showlegend: true,
  }), CONFIG);
  const without = runs.filter(run => data.curves.metrics[metric][curveKey(run)] && !curves.has(run)).length;
  byId('curves-caption').textContent = 'Thick lines: mean of each group of runs. Bands: one standard deviation over its runs. Thin lines: ' +
    (single.size < drawn.length ? `${single.size} of the ${drawn.length} runs` : 'the runs') +
    (weight ? `, not smoothed. Smoothing ${weight}: exponential moving average with this weight, without bias.` : '.') +
    (new Set(drawn.map(run => curves.get(run).at(-1)[0])).size > 1 ? ' Where a run has ended, the mean is that of the others.' : '') +
    (drawn.length < curves.size ? ` Only the first ${MAX_GROUPS} of ${new Set([...curves.keys()].map(run => parameter.at[run])).size} ` +
      'configurations are drawn; filter the table to see others.' : '') +
    (data.curves.thinned_to ? ` Longer histories are thinned to ${data.curves.thinned_to} means.` : '') +
    (without ? ` ${without} runs have recorded no ${axis} and are not shown.` : '');
  return drawn;
}

// Returns run -> [[x, y], ...], with one point per x.
function readCurves(metric, axis, runs) {
  const curves = new Map();
  for (const run of runs) {
    const found = data.curves.metrics[metric][curveKey(run)];
    const x = found && data.curves.axes[found[0]][axis];
    if (!x) continue;
    const same = groupBy(found[1].map((_, i) => i), i => x[i]);
    curves.set(run, [...same].map(([at, all]) => [at, mean(all.map(i => found[1][i]))]).sort((a, b) => a[0] - b[0]));
  }
  return curves;
}

// The exponential moving average of a curve, divided by the sum of its weights, as in TensorBoard.
function smoothed(curve, weight) {
  let average = 0, total = 0;
  return curve.map(([x, y]) => {
    average = weight * average + (1 - weight) * y;
    total = weight * total + (1 - weight);
    return [x, average / total];
  });
}

function curveGroups(runs, parameter) {
  if (!parameter) return [{ name: 'all runs', runs }];
  if (parameter.numbers !== null && parameter.levels.length > MAX_GROUPS) return quantileGroups(runs, parameter);
  const groups = [...groupBy(runs, run => parameter.at[run])].sort(([a], [b]) => a - b);
  const named = groups.slice(0, parameter.firstOnly ? MAX_GROUPS : MAX_GROUPS - (groups.length > MAX_GROUPS ? 1 : 0));
  const rest = groups.slice(named.length).flatMap(([, members]) => members);
  const shown = named.map(([level, members]) => ({ name: `${parameter.label} ${cut(parameter.levels[level])}`, runs: members }));
  return rest.length && !parameter.firstOnly ? [...shown, { name: `other ${parameter.label}`, runs: rest }] : shown;
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

function groupTraces(name, runs, smooth, curves, positions, single, color, axis) {
  const values = runs.map(run => interpolate(smooth.get(run), positions));
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
      x.push(at); y.push(value); hovertext.push(`${plain(cut(runName(run), 60))}<br>${axis} ${format(at)}: <b>${format(value)}</b>`);
    }
    x.push(null); y.push(null); hovertext.push('');
  }
  return { x, y, hovertext };
}
