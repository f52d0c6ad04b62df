// The metric by each hyperparameter: a line for each setting of the other hyperparameters, and their mean.

const MAX_COLORED = 8; // up to this number, each setting of the other hyperparameters has its own color
const MAX_IN_LEGEND = 5; // up to this number, the settings are in the legend; hovering shows them always
const GROUPS = 8; // the number of groups for a number with many values

function drawGrouped() {
  const order = data.relations[state.metric].map(row => row.key);
  const sorted = [...parameters].sort((a, b) => order.indexOf(a.key) - order.indexOf(b.key));
  const node = byId('grouped-charts');
  while (node.children.length < sorted.length) node.append(element('div'));
  const runs = measured(state.metric);
  const range = metricRange(runs);
  sorted.forEach((parameter, i) => {
    const draw = isContinuous(parameter) ? pointsChart : levelsChart;
    draw(node.children[i], parameter, runs, range);
  });
  byId('grouped-caption').textContent =
    'Thick line: mean over all other hyperparameters and seeds. Its bars: standard deviation of that mean over seeds. ' +
    'Grey band: standard deviation over the settings of the other hyperparameters. Thin lines: each is one setting of ' +
    'the other hyperparameters, with mean and standard deviation over seeds; one seed has no deviation. Texts and booleans ' +
    'have a bar each, from zero, and the settings are points. ' + (sorted.some(isContinuous) ?
      'For a number with many values, each run is a point, and the thick line connects the means of groups of runs ' +
      'with similar values, with their standard deviation. ' : '') +
    'Unfinished runs and infinite values are not shown.';
}

// The range of the metric axis, which is the same in all panels of numbers: of the runs, the bars and the bands.
function metricRange(runs) {
  const values = runs.map(run => data.values[state.metric][run]);
  for (const parameter of parameters.filter(one => one.numbers !== null && !isContinuous(one))) {
    const { thin, all } = atLevels(parameter, runs);
    for (const point of [...all, ...thin.flatMap(line => line.points)].filter(Boolean)) {
      const reach = Math.max(point.spread ?? 0, point.others ?? 0);
      values.push(point.mean - reach, point.mean + reach);
    }
  }
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

// The levels of a parameter, and at each one the runs of each setting of the other hyperparameters and all runs.
function atLevels(parameter, runs) {
  const others = parameters.filter(other => other !== parameter);
  const settingOf = run => others.map(other => other.at[run]).join();
  const levels = [...new Set(runs.map(run => parameter.at[run]))].sort((a, b) => a - b);
  const cells = members => levels.map(level => members.filter(run => parameter.at[run] === level));
  const inOrder = (a, b) => others.map(other => other.at[a] - other.at[b]).find(difference => difference) ?? 0;
  const settings = others.length ? [...groupBy([...runs].sort(inOrder), settingOf).values()] : [];
  const title = group => others.map(other => `${other.label} ${cut(levelOf(other, group[0]))}`).join(', ');
  const thin = settings.map(group => ({ name: title(group), points: cells(group).map(cell => (cell.length ? overSeeds(cell) : null)) }));
  return { levels, thin, all: cells(runs).map(cell => atLevel(cell, settingOf)) };
}

function levelsChart(node, parameter, runs, range) {
  const { levels, thin, all } = atLevels(parameter, runs);
  const texts = all.map((point, i) => levelText(parameter, levels[i], point));
  const draw = parameter.numbers === null ? categoryPanel : numberPanel;
  const { traces, ...axes } = draw(parameter, runs, levels, thin, all, texts, range);
  Plotly.react(node, traces, layout({ ...axes, showlegend: thin.length > 0 && thin.length <= MAX_IN_LEGEND }), CONFIG);
}

// Numbers on a continuous axis, joined by lines; no line leads to None.
function numberPanel(parameter, runs, levels, thin, all, texts, range) {
  const places = numberPlaces(parameter, runs);
  const x = levels.map(level => places.of(runs.find(run => parameter.at[run] === level)));
  const traces = coloured(thin, (lines, color, name) => thinTrace(lines, x, places.none, color, name));
  const numbers = x.filter(at => at !== places.none).length;
  const [low, high] = [-1, 1].map(sign => all.slice(0, numbers).map(p => p.mean + sign * (p.others ?? 0)));
  if (thin.length > 1) traces.unshift(band(x.slice(0, numbers), low, high));
  const mean = meanTrace(x, all, texts);
  traces.push(places.none === null ? mean : { ...meanTrace(x, all, texts), connectgaps: false, ...gapBefore(mean, numbers) });
  return { traces, xaxis: numberAxisLayout(parameter, places, levels.map((level, i) => [x[i], parameter.levels[level]])),
    yaxis: { title: { text: plain(state.metric) }, range } };
}

// Inserts an empty point before the last one, so that no line leads to it.
function gapBefore(trace, at) {
  const insert = values => [...values.slice(0, at), null, ...values.slice(at)];
  return { x: insert(trace.x), y: insert(trace.y), hovertext: insert(trace.hovertext),
    error_y: { ...trace.error_y, array: insert(trace.error_y.array) } };
}

// A bar from zero for each category, and a point for each setting of the other hyperparameters.
function categoryPanel(parameter, runs, levels, thin, all, texts) {
  const aside = i => 0.5 * ((i + 0.5) / thin.length - 0.5);
  const places = new Map(thin.map((line, i) => [line, levels.map((_, k) => k + aside(i))]));
  const points = coloured(thin, (lines, color, name) => pointTrace(lines, places, color, name));
  const bars = { type: 'bar', name: 'mean', x: levels.map((_, i) => i), y: all.map(point => point.mean), hovertext: texts, hoverinfo: 'text',
    marker: { color: '#d5d9e0' }, width: 0.7, showlegend: false, error_y: errorBars(all, '#30343c', 2, 5) };
  const ticks = levels.map((level, i) => `${plain(cut(parameter.levels[level], 20))}<br><b>${format(all[i].mean)}</b>`);
  return { traces: [bars, ...points], yaxis: { title: { text: plain(state.metric) }, rangemode: 'tozero' },
    xaxis: { title: { text: plain(parameter.label) }, tickvals: levels.map((_, i) => i), ticktext: ticks, range: [-0.6, levels.length - 0.4] } };
}

// One trace for each setting in its own color, or a single grey one if there are many settings.
function coloured(thin, trace) {
  return thin.length <= MAX_COLORED
    ? thin.map((line, i) => trace([line], PALETTE[i % PALETTE.length], line.name))
    : [trace(thin, '#c3c8d1', 'other settings')];
}

function pointTrace(settings, places, color, name) {
  const shown = settings.flatMap(line => line.points.map((point, i) => ({ point, x: places.get(line)[i], name: line.name })))
    .filter(({ point }) => point);
  return { type: 'scatter', mode: 'markers', name: plain(name), x: shown.map(({ x }) => x), y: shown.map(({ point }) => point.mean),
    hovertext: shown.map(({ name: setting, point }) => settingText(setting, point)), hoverinfo: 'text',
    marker: { size: 6, color: color === '#c3c8d1' ? '#8b93a1' : color } };
}

function thinTrace(settings, places, none, color, name) {
  const x = [], y = [], spread = [], hovertext = [];
  const gap = () => { x.push(null); y.push(null); spread.push(null); hovertext.push(''); };
  for (const { name: setting, points } of settings) {
    points.forEach((point, i) => {
      if (places[i] === none) gap();
      x.push(places[i]);
      y.push(point ? point.mean : null);
      spread.push(point ? point.spread : null);
      hovertext.push(point ? settingText(setting, point) : '');
    });
    gap();
  }
  return { type: 'scatter', mode: 'lines+markers', name: plain(name), x, y, hovertext, hoverinfo: 'text',
    line: { color, width: 1.2 }, marker: { size: 4, color }, error_y: { type: 'data', array: spread, color, thickness: 1, width: 2 } };
}

const errorBars = (points, color, thickness, width) =>
  ({ type: 'data', array: points.map(point => point.spread), color, thickness, width });

function meanTrace(x, points, hovertext) {
  return { type: 'scatter', mode: 'lines+markers', name: 'mean', x, y: points.map(point => point.mean), hovertext, hoverinfo: 'text',
    line: { color: '#30343c', width: 3 }, marker: { symbol: 'square', size: 8, color: '#30343c' },
    error_y: errorBars(points, '#30343c', 2, 5) };
}

function levelText(parameter, level, point) {
  return [`<b>${plain(parameter.label)} ${plain(cut(parameter.levels[level]))}</b>`, `mean <b>${format(point.mean)}</b>`,
    plusMinus(point.spread, 'over seeds'), plusMinus(point.others, `over ${point.settings} settings of the other hyperparameters`),
    `${point.runs.length} runs`].join('<br>');
}

function settingText(setting, point) {
  return [plain(setting), `mean <b>${format(point.mean)}</b>`, plusMinus(point.spread, 'over seeds'), ...runLines(point.runs)].join('<br>');
}

function runLines(runs, max = 6) {
  const shown = runs.slice(0, max).map(run => `${plain(cut(data.runs[run], 60))}: ${format(data.values[state.metric][run])}`);
  return runs.length > max ? [...shown, `and ${runs.length - max} more`] : shown;
}

// A number with many values, as in a random search: one point per run, and the means of groups of similar values.
function pointsChart(node, parameter, all, range) {
  const places = numberPlaces(parameter, all);
  const runs = all.filter(run => parameter.numbers[run] !== null).sort((a, b) => parameter.numbers[a] - parameter.numbers[b]);
  const groups = Array.from({ length: GROUPS }, (_, i) =>
    runs.slice(Math.round(i * runs.length / GROUPS), Math.round((i + 1) * runs.length / GROUPS))).filter(g => g.length);
  const points = groups.map(group => ({ ...overSeeds(group), x: parameter.numbers[group[Math.floor(group.length / 2)]] }));
  const texts = points.map(point => [`<b>${plain(parameter.label)} about ${format(point.x)}</b>`, `mean <b>${format(point.mean)}</b>`,
    plusMinus(point.spread, `over ${point.runs.length} runs`)].join('<br>'));
  const cloud = { type: 'scatter', mode: 'markers', name: 'runs', x: all.map(places.of), y: all.map(run => data.values[state.metric][run]),
    hovertext: all.map(describe), hoverinfo: 'text', marker: { size: 5, color: '#5387dd', opacity: 0.5 } };
  const round = roundNumbers([places.low, places.high], parameter.log).map(number => [number, format(number)]);
  const ticks = places.none === null ? round : [...round.filter(([number]) => number <= places.high), [places.none, 'none']];
  Plotly.react(node, [cloud, { ...meanTrace(points.map(point => point.x), points, texts), name: 'mean of a group' }], layout({
    xaxis: numberAxisLayout(parameter, places, ticks),
    yaxis: { title: { text: plain(state.metric) }, range },
    showlegend: false,
  }), CONFIG);
}
