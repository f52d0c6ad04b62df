// Parallel coordinates: each run is a line through its hyperparameters to the metric, which sets its color. They are
// drawn as plotly scatter lines, because plotly's parcoords needs WebGL and eval and shows no names on hover.

const MAX_AXES = 10;
const SHADES = 24;
const BUNDLE = 0.035; // the distance between the highest and the lowest run at one value
const BENDS = 12; // the number of straight pieces of a curve between two axes; half as many for many runs

function drawParallel() {
  const runs = measured(state.metric);
  const order = data.relations[state.metric].map(row => row.key);
  const chosen = [...parameters].sort((a, b) => order.indexOf(a.key) - order.indexOf(b.key)).slice(0, MAX_AXES);
  const axes = [...parameters.filter(parameter => chosen.includes(parameter)).map(parameterAxis), metricAxis(runs)];
  const node = byId('parallel-chart');
  const draw = () => Plotly.react(node, parallelTraces(axes, runs), parallelLayout(axes, node.layout?.selections), CONFIG);
  const brush = ranges => {
    state.brushed = ranges && new Set(runs.filter(run => passes(axes, ranges, run)));
    byId('parallel-clear').hidden = !state.brushed;
    draw();
    filterTable();
  };
  const clear = () => {
    if (node.layout) node.layout.selections = [];
    brush(null);
  };
  clear();
  node.removeAllListeners('plotly_selected');
  node.removeAllListeners('plotly_deselect');
  node.on('plotly_selected', () => brush(brushedRanges(node.layout.selections ?? [], axes.length)));
  node.on('plotly_deselect', clear);
  byId('parallel-clear').onclick = clear;
}

// Returns an axis: its label, its ticks as [place, text], the place of each run between 0 and 1 (null for a metric that
// is missing), and whether many runs share a place.
function parameterAxis(parameter) {
  if (parameter.numbers === null) {
    const levels = [...new Set(counted.map(run => parameter.at[run]))].sort((a, b) => a - b);
    const place = scale([0, levels.length - 1], false);
    const ticks = levels.map((level, i) => [place(i), parameter.levels[level]]);
    return { label: parameter.label, ticks, place: run => place(levels.indexOf(parameter.at[run])), shared: true };
  }
  return numberAxis(parameter.label, parameter.numbers, counted, parameter.log, parameter.levels.map(Number));
}

function metricAxis(runs) {
  const values = runs.map(run => data.values[state.metric][run]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return numberAxis(state.metric, data.values[state.metric], runs, low > 0 && high > LOG_SPAN * low, null);
}

function numberAxis(label, numbers, runs, log, levels) {
  const there = runs.map(run => numbers[run]).filter(number => number !== null);
  const range = there.length ? [Math.min(...there), Math.max(...there)] : [0, 1];
  const lowest = levels !== null && there.length < runs.length ? NONE_DISTANCE : 0; // None is below the numbers
  const share = scale(range, log);
  const place = number => lowest + (1 - lowest) * share(number);
  const shared = levels !== null && levels.length <= MAX_LEVELS;
  const wanted = shared ? levels.filter(Number.isFinite) : roundNumbers(range, log);
  const inside = wanted.map(number => [place(number), format(number)])
    .filter(([at]) => at > lowest - 0.001 && at < 1.001); // levels are rounded to six digits
  const ticks = [...(lowest ? [[0, 'none']] : []), ...spaced(inside, 0.045)];
  const absent = lowest ? 0 : null;
  return { label, ticks, shared, place: run => (numbers[run] === null ? absent : place(numbers[run])) };
}

function parallelTraces(axes, runs) {
  const color = axes.at(-1).place;
  const kept = state.brushed ? runs.filter(run => state.brushed.has(run)) : runs;
  const dropped = state.brushed ? runs.filter(run => !state.brushed.has(run)) : [];
  const shades = groupBy(kept, run => Math.min(SHADES - 1, Math.floor(color(run) * SHADES)));
  const values = runs.map(run => data.values[state.metric][run]);
  return [
    { ...lines(axes, dropped), line: { color: '#e9ebef', width: 1 }, hoverinfo: 'skip' },
    ...[...shades].sort(([a], [b]) => a - b).map(([shade, members]) => ({
      ...lines(axes, members),
      line: { color: mix((shade + 0.5) / SHADES), width: runs.length > 200 ? 1 : 1.6 },
    })),
    { type: 'scatter', mode: 'markers', x: axes.map((_, i) => i), y: axes.map(() => 0.5), marker: { size: 1, opacity: 0 },
      selected: { marker: { opacity: 0 } }, unselected: { marker: { opacity: 0 } }, hoverinfo: 'skip', showlegend: false },
    { type: 'scatter', mode: 'markers', x: [null, null], y: [null, null], showlegend: false, hoverinfo: 'skip',
      marker: { color: [Math.min(...values), Math.max(...values)], colorscale: SCALE, showscale: true,
        colorbar: { thickness: 10, outlinewidth: 0, x: 1.02, len: 1, showticklabels: false } } },
  ];
}

// All lines are one trace with gaps between them, because a thousand traces are slow.
function lines(axes, runs) {
  const x = [], y = [], hovertext = [];
  const bends = runs.length > 300 ? BENDS / 2 : BENDS;
  for (const run of runs) {
    const text = describe(run);
    const offset = BUNDLE * (axes.at(-1).place(run) - 0.5);
    const places = axes.map(axis => (axis.shared && axis.place(run) !== null ? axis.place(run) + offset : axis.place(run)));
    places.forEach((place, i) => {
      const next = places[i + 1] ?? null;
      for (let bend = 0; bend < (next === null || place === null ? 1 : bends); bend += 1) {
        const share = bend / bends;
        x.push(i + share);
        y.push(bend ? place + (next - place) * (1 - Math.cos(Math.PI * share)) / 2 : place);
        hovertext.push(text);
      }
    });
    x.push(null); y.push(null); hovertext.push('');
  }
  return { type: 'scatter', mode: 'lines', x, y, hovertext, hoverinfo: 'text', opacity: 0.75, showlegend: false };
}

function describe(run) {
  const settings = [...parameters, ...(seed ? [seed] : [])].map(p => `${plain(p.label)}: ${plain(cut(levelOf(p, run)))}`);
  const value = `${plain(state.metric)}: <b>${format(data.values[state.metric][run])}</b>`;
  return [`<b>${plain(cut(data.runs[run], 60))}</b>`, value, ...settings].join('<br>');
}

function parallelLayout(axes, selections) {
  const longest = Math.max(...axes[0].ticks.map(([, text]) => cut(text, 18).length)); // left of the first axis
  const ticks = axes.flatMap((axis, i) => axis.ticks.map(([y, text]) => ({
    x: i, y, text: plain(cut(text, 18)), showarrow: false, xanchor: 'right', xshift: -4, font: { size: 11, color: '#4b5563' },
    bgcolor: 'rgba(255,255,255,0.85)', borderpad: 1,
  })));
  const names = axes.map((axis, i) => ({
    x: i, y: 1, yshift: 22, text: plain(cut(axis.label, Math.max(10, Math.round(110 / axes.length)))), hovertext: plain(axis.label),
    showarrow: false, font: { size: 12, weight: 600 },
  }));
  return layout({
    margin: { l: 8 + 6.5 * Math.max(longest, 5), r: 40, t: 64, b: 16 },
    dragmode: 'select',
    selectdirection: 'd',
    newselection: { line: { color: '#1a1d24', width: 1, dash: 'solid' } },
    selections: selections ?? [],
    showlegend: false,
    hoverdistance: 12,
    annotations: [...ticks, ...names],
    shapes: axes.map((_, i) => ({ type: 'line', x0: i, x1: i, y0: 0, y1: 1, line: { color: '#9aa1ad', width: 1 } })),
    xaxis: { visible: false, range: [-0.2, axes.length - 0.9], fixedrange: true },
    yaxis: { visible: false, range: [-0.04, 1.04], fixedrange: true },
  });
}

// Returns axis -> the ranges that were selected on it; a rectangle between two axes belongs to the nearest one.
function brushedRanges(selections, count) {
  const ranges = new Map();
  for (const { x0, x1, y0, y1 } of selections) {
    const [left, right] = [Math.min(x0, x1), Math.max(x0, x1)];
    let hit = Array.from({ length: count }, (_, i) => i).filter(i => i >= left && i <= right);
    if (hit.length === 0) hit = [Math.max(0, Math.min(count - 1, Math.round((left + right) / 2)))];
    for (const i of hit) ranges.set(i, [...(ranges.get(i) ?? []), [Math.min(y0, y1), Math.max(y0, y1)]]);
  }
  return ranges.size ? ranges : null;
}

function passes(axes, ranges, run) {
  return [...ranges].every(([i, all]) => {
    const at = axes[i].place(run);
    return at !== null && all.some(([low, high]) => at >= low - 1e-9 && at <= high + 1e-9);
  });
}
