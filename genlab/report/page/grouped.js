// The metric by each hyperparameter: a line for each setting of the other hyperparameters, and their mean.

const MAX_COLORED = 8; // up to this number, each setting of the other hyperparameters has its own color
const MAX_IN_LEGEND = 5; // up to this number, the settings are in the legend; hovering shows them always
const GROUPS = 8; // the number of groups for a number with many values

function drawGrouped() {
  const order = data.relations[state.metric].map(row => row.key);
  const sorted = [...parameters].sort((a, b) => order.indexOf(a.key) - order.indexOf(b.key));
  const node = byId('grouped-charts');
  while (node.children.length < sorted.length) node.append(element('div'));
  sorted.forEach((parameter, i) => {
    const draw = isContinuous(parameter) ? pointsChart : levelsChart;
    draw(node.children[i], parameter, measured(state.metric));
  });
  byId('grouped-caption').textContent =
    'Thick line: mean over all other hyperparameters and seeds. Its bars: standard deviation of that mean over seeds. ' +
    'Grey band: standard deviation over the settings of the other hyperparameters. Thin lines: each is one setting of ' +
    'the other hyperparameters, with mean and standard deviation over seeds. ' + (sorted.some(isContinuous) ?
      'For a number with many values, each run is a point, and the thick line connects the means of groups of runs ' +
      'with similar values, with their standard deviation. ' : '') +
    'Unfinished runs and infinite values are not shown.';
}

// The range of the metric axis, which is the same in all panels.
function metricRange() {
  const values = measured(state.metric).map(run => data.values[state.metric][run]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = 0.06 * (high - low) || 0.06 * Math.abs(high) || 1;
  return [low - room, high + room];
}

// Mean and standard deviation of the metric over runs that differ only in their seeds.
function overSeeds(runs) {
  const values = runs.map(run => data.values[state.metric][run]);
  return { runs, mean: mean(values), spread: deviation(values) };
}

// At one value: the mean over all runs, its standard deviation over seeds, and that over the other settings.
function atLevel(runs, settingOf) {
  const values = run => data.values[state.metric][run];
  const perSeed = [...groupBy(runs, run => (seed ? seed.at[run] : 0)).values()].map(group => mean(group.map(values)));
  const perSetting = [...groupBy(runs, settingOf).values()].map(group => mean(group.map(values)));
  return { runs, mean: mean(perSeed), spread: deviation(perSeed), others: deviation(perSetting), settings: perSetting.length };
}

function levelsChart(node, parameter, runs) {
  const others = parameters.filter(other => other !== parameter);
  const settingOf = run => others.map(other => other.at[run]).join();
  const levels = [...new Set(runs.map(run => parameter.at[run]))].sort((a, b) => a - b);
  const cells = members => levels.map(level => members.filter(run => parameter.at[run] === level));
  const inOrder = (a, b) => others.map(other => other.at[a] - other.at[b]).find(difference => difference) ?? 0;
  const settings = others.length ? [...groupBy([...runs].sort(inOrder), settingOf).values()] : [];
  const title = group => others.map(other => `${other.label} ${cut(levelOf(other, group[0]))}`).join(', ');
  const thin = settings.map(group => {
    const points = cells(group).map(cell => (cell.length ? overSeeds(cell) : null));
    return { name: title(group), points };
  });
  const traces = settings.length <= MAX_COLORED
    ? thin.map((line, i) => thinTrace([line], PALETTE[i % PALETTE.length], line.name))
    : [thinTrace(thin, '#c3c8d1', 'other settings')];
  const all = cells(runs).map(cell => atLevel(cell, settingOf));
  const x = levels.map((_, i) => i);
  if (settings.length > 1) traces.unshift(band(x, all.map(p => p.mean - p.others), all.map(p => p.mean + p.others)));
  traces.push(meanTrace(x, all, all.map((point, i) => levelText(parameter, levels[i], point))));
  const ticks = levels.map(level => plain(cut(parameter.levels[level], 20)));
  Plotly.react(node, traces, layout({
    xaxis: { title: { text: plain(parameter.label) }, tickvals: x, ticktext: ticks, range: [-0.3, levels.length - 0.7] },
    yaxis: { title: { text: plain(state.metric) }, range: metricRange() },
    showlegend: settings.length > 0 && settings.length <= MAX_IN_LEGEND,
  }), CONFIG);
}

function thinTrace(settings, color, name) {
  const x = [], y = [], spread = [], hovertext = [];
  for (const { name: setting, points } of settings) {
    points.forEach((point, i) => {
      x.push(i);
      y.push(point ? point.mean : null);
      spread.push(point ? point.spread : null);
      hovertext.push(point ? settingText(setting, point) : '');
    });
    x.push(null); y.push(null); spread.push(null); hovertext.push('');
  }
  return { type: 'scatter', mode: 'lines+markers', name: plain(name), x, y, hovertext, hoverinfo: 'text',
    line: { color, width: 1.2 }, marker: { size: 4, color }, error_y: { type: 'data', array: spread, color, thickness: 1, width: 2 } };
}

function meanTrace(x, points, hovertext) {
  return { type: 'scatter', mode: 'lines+markers', name: 'mean', x, y: points.map(point => point.mean), hovertext, hoverinfo: 'text',
    line: { color: '#30343c', width: 3 }, marker: { symbol: 'square', size: 8, color: '#30343c' },
    error_y: { type: 'data', array: points.map(point => point.spread), color: '#30343c', thickness: 2, width: 5 } };
}

function band(x, low, high, color = 'rgba(90,100,120,0.13)') {
  return { type: 'scatter', mode: 'lines', x: [...x, ...[...x].reverse()], y: [...high, ...[...low].reverse()], fill: 'toself',
    fillcolor: color, line: { width: 0 }, hoverinfo: 'skip', showlegend: false };
}

function levelText(parameter, level, point) {
  return [`<b>${plain(parameter.label)} ${plain(cut(parameter.levels[level]))}</b>`, `mean <b>${format(point.mean)}</b>`,
    `± ${format(point.spread)} over seeds`, `± ${format(point.others)} over ${point.settings} settings of the other hyperparameters`,
    `${point.runs.length} runs`].join('<br>');
}

function settingText(setting, point) {
  return [plain(setting), `mean <b>${format(point.mean)}</b> ± ${format(point.spread)} over seeds`, ...runLines(point.runs)].join('<br>');
}

function runLines(runs, max = 6) {
  const shown = runs.slice(0, max).map(run => `${plain(cut(data.runs[run], 60))}: ${format(data.values[state.metric][run])}`);
  return runs.length > max ? [...shown, `and ${runs.length - max} more`] : shown;
}

// A number with many values, as in a random search: one point per run, and the means of groups of similar values.
function pointsChart(node, parameter, all) {
  const runs = all.filter(run => parameter.numbers[run] !== null).sort((a, b) => parameter.numbers[a] - parameter.numbers[b]);
  const x = runs.map(run => parameter.numbers[run]);
  const groups = Array.from({ length: GROUPS }, (_, i) =>
    runs.slice(Math.round(i * runs.length / GROUPS), Math.round((i + 1) * runs.length / GROUPS))).filter(g => g.length);
  const points = groups.map(group => ({ ...overSeeds(group), x: parameter.numbers[group[Math.floor(group.length / 2)]] }));
  const texts = points.map(point => [`<b>${plain(parameter.label)} about ${format(point.x)}</b>`, `mean <b>${format(point.mean)}</b>`,
    `± ${format(point.spread)} over ${point.runs.length} runs`].join('<br>'));
  const cloud = { type: 'scatter', mode: 'markers', name: 'runs', x, y: runs.map(run => data.values[state.metric][run]),
    hovertext: runs.map(describe), hoverinfo: 'text', marker: { size: 5, color: '#5387dd', opacity: 0.5 } };
  Plotly.react(node, [cloud, { ...meanTrace(points.map(point => point.x), points, texts), name: 'mean of a group' }], layout({
    xaxis: { title: { text: plain(parameter.label) }, type: parameter.log ? 'log' : 'linear' },
    yaxis: { title: { text: plain(state.metric) }, range: metricRange() },
    showlegend: false,
  }), CONFIG);
}
