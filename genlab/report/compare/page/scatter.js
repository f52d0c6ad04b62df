// The scatter chart: any number against any number or category. Only points whose metrics compare share a panel.

const MAX_PANELS = 12;
const PANELS_IN_ROW = 3;
const FINGERPRINTS = ['data_fingerprint', 'classifier'];
const TIMED = ['seconds', 'images/s'];
const CONTROLS = ['y', 'x', 'colour', 'facet', 'points', 'x-scale', 'y-scale', 'pareto', 'better-x', 'better-y'];

const control = name => byId(`scatter-${name}`);

function setUpScatter() {
  const numbers = quantities.filter(quantity => quantity.numeric);
  const groups = [...keyQuantities, ...factQuantities.filter(fact => !fact.numeric)];
  control('y').append(...quantityOptions(numbers));
  control('x').append(...quantityOptions([...numbers, ...groups.filter(quantity => !quantity.numeric)]));
  control('colour').append(...quantityOptions(quantities, 'nothing'));
  control('facet').append(...quantityOptions(groups, 'nothing'));
  const asked = data.chart;
  const first = ['seconds', 'parameters', ...numbers.map(quantity => quantity.name)];
  control('y').value = asked.y ?? data.metrics[0]?.name ?? 'seconds';
  control('x').value = asked.x ?? first.find(name => quantityNamed(name)?.numeric && name !== control('y').value);
  control('colour').value = asked.colour ?? keyQuantities.find(key => key.telling)?.name ?? '';
  control('facet').value = asked.facet ?? '';
  (asked.better ?? []).forEach((direction, i) => { control(['better-x', 'better-y'][i]).value = direction; });
  byId('scatter').hidden = !quantityNamed(control('y').value) || !quantityNamed(control('x').value);
  if (byId('scatter').hidden) return;
  for (const name of CONTROLS) remembered(control(name)).addEventListener('change', drawScatter);
  if (asked.better && !choices.has('scatter-pareto')) control('pareto').checked = true;
  onSelection(drawScatter);
}

// What the chart shows, as the controls say.
function chosen() {
  const [y, x, colour, facet] = ['y', 'x', 'colour', 'facet'].map(name => quantityNamed(control(name).value));
  const isLogarithmic = (quantity, name) => (control(name).value ? control(name).value === 'log' : quantity.log);
  return { y, x, colour, facet, logX: x.numeric && isLogarithmic(x, 'x-scale'), logY: x.numeric && isLogarithmic(y, 'y-scale'),
    perRun: control('points').value === 'runs' };
}

function drawScatter() {
  const chart = chosen();
  const { placed, told } = placePoints(chart);
  const panels = panelsOf(chart, placed);
  const shown = panels.slice(0, MAX_PANELS);
  const fronts = showFronts(chart, shown);
  const colouring = colouringOf(chart.colour, shown.flatMap(panel => panel.points));
  const drawn = shown.map((panel, i) => panelTraces(chart, panel, colouring, fronts[i])
    .map(trace => ({ ...trace, xaxis: `x${i + 1}`, yaxis: `y${i + 1}` })));
  const rows = Math.ceil(shown.length / PANELS_IN_ROW);
  Plotly.react(byId('scatter-chart'), [...colouring.legend, ...drawn.flat()], scatterLayout(chart, shown, colouring, rows), CONFIG);
  byId('scatter-caption').textContent = captionOf(chart, placed, panels, told);
}

// The metrics in the chart, which all points must have.
const measuredIn = ({ y, x, colour }) => [y, x, colour].filter(quantity => quantity?.kind === 'metric');

// Returns the points with their places, and what is to be said of those that have none.
function placePoints(chart) {
  const points = selection.configurations.flatMap(configuration => (chart.perRun
    ? data.configurations[configuration].runs.map(run => ({ configuration, run })) : [{ configuration, run: null }]));
  const keepsNone = quantity => !quantity.numeric || quantity.kind === 'key'; // None has a place among them
  const has = (quantity, point) => keepsNone(quantity) || quantity.number(point) !== null;
  const fits = (quantity, log, point) => !log || quantity.number(point) === null || quantity.number(point) > 0;
  const needed = measuredIn(chart);
  const valued = points.filter(point => has(chart.x, point) && [chart.y, ...needed].every(quantity => quantity.number(point) !== null));
  const placed = valued.filter(point => fits(chart.x, chart.logX, point) && fits(chart.y, chart.logY, point));
  const what = chart.perRun ? 'runs' : 'configurations';
  const told = [[points.length - valued.length, `${what} have no finite value of ${[...new Set([chart.y, chart.x, ...needed])].map(({ name }) => name).join(' or ')}`],
    [valued.length - placed.length, `${what} have values that are not positive, which have no place on a logarithmic axis`]];
  return { told: told.filter(([count]) => count > 0).map(([count, text]) => `${count} ${text}.`),
    placed: placed.map(point => ({ ...point, x: chart.x.number(point), y: chart.y.number(point) })) };
}

// The groups of points of which all metrics in the chart compare, in panels of their own, for each value of the facet.
function panelsOf(chart, points) {
  const groupOf = point => measuredIn(chart).map(metric => metric.group(point)).join();
  const facets = chart.facet ? levelsOf(chart.facet, points) : [{ level: null, members: points }];
  const sameScale = (key, made) => { // panels whose values compare have the same axes
    for (const panels of groupBy(made, panel => panel[`${key}Group`]).values()) {
      const axis = (key === 'x' ? numberAxisOfX : yAxis)(chart, panels.flatMap(panel => panel.points));
      for (const panel of panels) panel[key] = axis;
    }
  };
  const several = members => new Set(members.map(groupOf)).size > 1;
  const made = facets.flatMap(({ level, members }) => [...groupBy(members, groupOf)].sort(([, a], [, b]) => b.length - a.length)
    .map(([group, own]) => ({ points: own, group, yGroup: String(chart.y.group?.(own[0]) ?? ''),
      xGroup: String(chart.x.group?.(own[0]) ?? ''),
      title: [level === null ? '' : `${chart.facet.label} ${level}`, several(members) ? describeGroup(own, members) : '']
        .filter(Boolean).join(', ') })));
  sameScale('y', made);
  if (chart.x.numeric) sameScale('x', made);
  return made;
}

// Names what the points of a group have in common, in distinction from other points: data MNIST, model VAE.
function describeGroup(members, points) {
  const others = points.filter(point => !members.includes(point));
  const common = keyQuantities.filter(key => !FINGERPRINTS.includes(key.name) && new Set(points.map(key.text)).size > 1
    && new Set(members.map(key.text)).size === 1);
  const alone = common.filter(key => others.every(point => key.text(point) !== key.text(members[0])));
  return (alone.length ? alone.slice(0, 1) : common.slice(0, 2)).map(key => `${key.label} ${cut(key.text(members[0]), 24)}`).join(', ') || `${members.length} that compare`;
}

function panelTraces(chart, panel, colouring, front) {
  const levels = chart.x.numeric ? [] : levelsOf(chart.x, panel.points);
  const place = chart.x.numeric ? panel.x.place : asidePlaces(levels);
  const groups = [...groupBy(panel.points, colouring.traceOf).values()];
  const points = groups.map(members => pointsTrace(chart, members, place, colouring.marker(members)));
  return [...(chart.x.numeric ? [] : [barsTrace(chart, levels)]), ...(front ? [frontTrace(front)] : []), ...points];
}

// The points of a category lie side by side on its bar.
function asidePlaces(levels) {
  const places = new Map(levels.flatMap(({ members }, i) =>
    members.map((point, k) => [point, i + 0.6 * ((k + 0.5) / members.length - 0.5)])));
  return point => places.get(point);
}

function barsTrace(chart, levels) {
  const means = levels.map(({ members }) => mean(members.map(point => point.y)));
  const what = chart.perRun ? 'runs' : 'configurations';
  return { type: 'bar', x: levels.map((_, i) => i), y: means, width: 0.75, marker: { color: '#dfe3e9' }, showlegend: false, hoverinfo: 'text',
    hovertext: levels.map(({ level, members }, i) => `<b>${plain(level)}</b><br>mean of ${members.length} ${what}: <b>${large(means[i])}</b>`) };
}

function pointsTrace(chart, members, place, marker) {
  const symbol = ({ configuration, run }) => {
    if (run === null ? data.configurations[configuration].early : data.runs[run].state === 'ended early') return 'x';
    return data.configurations[configuration].baseline ? 'star' : 'circle';
  };
  const bars = quantity => {
    const spreads = quantity.spread ? members.map(quantity.spread) : [];
    return spreads.some(spread => spread) ? { type: 'data', array: spreads, thickness: 1, width: 3, color: '#8b93a1' } : undefined;
  };
  return { type: 'scatter', mode: 'markers', x: members.map(place), y: members.map(point => point.y), error_y: bars(chart.y),
    error_x: bars(chart.x), showlegend: false, hoverinfo: 'text', hovertext: members.map(point => hoverText(chart, point)),
    marker: { ...marker, size: members.map(point => (symbol(point) === 'star' ? 13 : 8)), symbol: members.map(symbol),
      opacity: 0.85, line: { color: '#fff', width: 0.8 } } };
}

function hoverText(chart, point) {
  const { name, seeds } = data.configurations[point.configuration];
  const run = point.run === null ? null : data.runs[point.run];
  const head = run ? [`<b>${plain(cut(run.name, 90))}</b>`, plain(cut(name, 90))] : [`<b>${plain(cut(name, 90))}</b>`];
  const shown = [...new Set([chart.y, chart.x, chart.colour, chart.facet])].filter(Boolean);
  const lines = shown.map(quantity => `${plain(quantity.label)} <b>${plain(cut(valueText(quantity, point), 60))}</b>`);
  const seedLine = run ? `seed ${plain(run.seed ?? 'not recorded')}` : seeds === 1 ? 'one seed' : `${seeds} seeds${seedValues(chart.y, point)}`;
  const early = (run ? run.state === 'ended early' : data.configurations[point.configuration].early) ? ['ended early'] : [];
  return [...head, ...lines, seedLine, ...early].join('<br>');
}

function valueText(quantity, point) {
  const spread = quantity.spread?.(point) ?? null;
  return spread === null ? quantity.text(point) : formatFold(quantity.number(point), spread);
}

function seedValues(quantity, point) {
  const values = quantity.kind === 'metric' ? data.configurations[point.configuration].metrics[quantity.name].values : [];
  const rest = values.length > 6 ? `, and ${values.length - 6} more` : '';
  return values.length ? `: ${values.slice(0, 6).map(format).join(', ')}${rest}` : '';
}

function captionOf(chart, placed, panels, told) {
  const rest = panels.slice(MAX_PANELS);
  const left = sum(rest.map(panel => panel.points.length));
  const what = chart.perRun ? 'runs' : 'configurations';
  const groups = new Set(panels.map(panel => panel.group)).size;
  const drawn = new Set(placed.map(({ configuration }) => configuration));
  const any = name => data.configurations.some((configuration, index) => configuration[name] && drawn.has(index));
  const timed = [chart.x, chart.y, chart.colour].filter(quantity => TIMED.includes(quantity?.name)).map(({ name }) => name);
  const hardware = new Set(placed.map(quantityNamed('hardware')?.text ?? (() => '')));
  return [
    chart.perRun ? 'Each point is a run.' : 'Each point is a configuration; its bars are one standard deviation over seeds, and one seed has none.',
    chart.x.numeric ? '' : `A bar is the mean of its ${what}.`,
    groups > 1 ? `Only ${what} that compare share a panel: ${[...new Set(measuredIn(chart).map(({ name, scope }) => `${name} needs ${scope}`))].join('; ')}.` : '',
    hardware.size > 1 && timed.length ? `${timed.join(', ')}: compares on equal hardware only, and there are ${hardware.size} kinds.` : '',
    any('early') ? '✕: ended early.' : '',
    any('baseline') ? '★: the baseline.' : '',
    chart.colour?.numeric && placed.some(point => chart.colour.number(point) === null) ? `Grey: no value of ${chart.colour.name}.` : '',
    ...told,
    rest.length ? `Not shown: ${rest.length} more panels with ${left} ${what}; filter the table to see them.` : '',
    placed.length ? '' : `None of the shown ${what} has values to draw.`,
  ].filter(Boolean).join(' ');
}
