// The scatter chart: any number against any number or category. Only points whose metrics compare share a panel.

const MAX_PANELS = 12;
const PANELS_IN_ROW = 3;
const MAX_COLORS = PALETTE.length;
const MAX_LISTED = 30; // members of a Pareto front
const FINGERPRINTS = ['data_fingerprint', 'classifier'];
const GREY = '#b3bac5';
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

// Returns the points with their places, and what is to be said of those that have none.
function placePoints(chart) {
  const points = selection.configurations.flatMap(configuration => (chart.perRun
    ? data.configurations[configuration].runs.map(run => ({ configuration, run })) : [{ configuration, run: null }]));
  const keepsNone = quantity => !quantity.numeric || quantity.kind === 'key'; // None has a place among them
  const has = (quantity, point) => keepsNone(quantity) || quantity.number(point) !== null;
  const fits = (quantity, log, point) => !log || quantity.number(point) === null || quantity.number(point) > 0;
  const valued = points.filter(point => chart.y.number(point) !== null && has(chart.x, point));
  const placed = valued.filter(point => fits(chart.x, chart.logX, point) && fits(chart.y, chart.logY, point));
  const what = chart.perRun ? 'runs' : 'configurations';
  const told = [[points.length - valued.length, `${what} have no finite value of ${chart.y.name} or ${chart.x.name}`],
    [valued.length - placed.length, `${what} have values that are not positive, which have no place on a logarithmic axis`]];
  return { told: told.filter(([count]) => count > 0).map(([count, text]) => `${count} ${text}.`),
    placed: placed.map(point => ({ ...point, x: chart.x.number(point), y: chart.y.number(point) })) };
}

// The groups of points of which all metrics in the chart compare, in panels of their own, for each value of the facet.
function panelsOf(chart, points) {
  const measured = [chart.y, chart.x, chart.colour].filter(quantity => quantity?.kind === 'metric');
  const groupOf = point => measured.map(metric => metric.group(point)).join();
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

// How the points are colored: function of a point to a color, or to a number on the shared color axis.
function colouringOf(colour, points) {
  if (!colour) return { traceOf: () => '', marker: () => ({ color: PALETTE[0] }), legend: [], layout: {} };
  return colour.numeric ? numberColouring(colour, points) : categoryColouring(colour, points);
}

function numberColouring(colour, points) {
  const bend = colour.log ? Math.log10 : number => number;
  const numbers = there(points.map(colour.number));
  const range = numbers.length ? [Math.min(...numbers), Math.max(...numbers)] : [0, 1];
  const ticks = roundNumbers(range, colour.log).filter(number => number >= range[0] && number <= range[1]);
  const shown = ticks.length > 1 ? ticks : range;
  const bar = { title: { text: plain(colour.label), side: 'right' }, thickness: 14, outlinewidth: 0, tickvals: shown.map(bend),
    ticktext: shown.map(large) };
  const [low, high] = range.map(bend);
  const marker = members => (colour.number(members[0]) === null ? { color: GREY }
    : { color: members.map(point => bend(colour.number(point))), coloraxis: 'coloraxis' });
  return { traceOf: point => (colour.number(point) === null ? 'none' : ''), marker, legend: [], grey: colour.name,
    layout: { coloraxis: { colorscale: SCALE, cmin: low, cmax: high > low ? high : low + 1, colorbar: bar } } };
}

function categoryColouring(colour, points) {
  const levels = levelsOf(colour, points);
  const named = levels.length > MAX_COLORS ? [...levels].sort((a, b) => b.members.length - a.members.length).slice(0, MAX_COLORS - 1) : levels;
  const kept = levels.filter(level => named.includes(level)).map(({ level }) => level);
  const others = levels.length - kept.length;
  const colorOf = name => (kept.includes(name) ? PALETTE[kept.indexOf(name)] : GREY);
  const traceOf = point => (kept.includes(colour.text(point)) ? colour.text(point) : `${others} others`);
  const names = [...kept, ...(others ? [`${others} others`] : [])];
  const legend = names.map(name => ({ type: 'scatter', mode: 'markers', x: [null], y: [null], name: plain(cut(name)),
    marker: { color: colorOf(name), size: 9 }, showlegend: true, hoverinfo: 'skip' }));
  return { traceOf, marker: members => ({ color: colorOf(traceOf(members[0])) }), legend,
    layout: { showlegend: true, legend: { title: { text: plain(colour.label) }, orientation: 'v', x: 1.01, y: 1, yanchor: 'top',
      itemclick: false, itemdoubleclick: false } } };
}

// The x-axis of numbers: the places of points, and its layout.
function numberAxisOfX(chart, points) {
  const numbers = points.map(point => point.x);
  const places = numberPlaces({ numbers, log: chart.logX }, points.map((_, i) => i));
  const levels = [...new Set(there(numbers))].sort((a, b) => a - b);
  const isFew = chart.x.kind === 'key' && levels.length <= MAX_LEVELS;
  const ticks = (isFew ? levels : roundNumbers([places.low, places.high], chart.logX)).map(number => [number, large(number)]);
  if (places.none !== null) ticks.push([places.none, 'none']);
  const layout = numberAxisLayout({ label: titleOf(chart.x), log: chart.logX }, places, ticks);
  return { place: point => point.x ?? places.none, layout };
}

const titleOf = quantity => [quantity.kind === 'metric' ? quantity.name : quantity.label, quantity.unit].filter(Boolean).join(' ')
  + (ARROWS[quantity.better] ?? '');

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
    customdata: members.map(point => point.configuration),
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

// Small multiples: panels of one group of comparable values have the same y-axis.
function scatterLayout(chart, panels, colouring, rows) {
  const columns = Math.min(PANELS_IN_ROW, Math.max(1, panels.length));
  const gap = { x: columns > 1 ? 0.07 : 0, y: rows > 1 ? 0.34 / rows : 0 };
  const domain = (at, count, space) => {
    const size = (1 - space * (count - 1)) / count;
    return [at * (size + space), at * (size + space) + size];
  };
  const made = layout({ margin: { l: 70, r: 20, t: panels.some(panel => panel.title) ? 62 : 36, b: 56 }, ...colouring.layout,
    annotations: [], autosize: true, height: rows > 1 ? 110 + 310 * rows : 500 });
  const base = { x: made.xaxis, y: made.yaxis };
  panels.forEach((panel, i) => {
    const name = i ? i + 1 : '';
    const [left, top] = [domain(i % columns, columns, gap.x), domain(rows - 1 - Math.floor(i / columns), rows, gap.y)];
    made[`xaxis${name}`] = { ...base.x, domain: left, anchor: `y${name}`, ...(panel.x?.layout ?? categoryAxis(chart, panel)) };
    made[`yaxis${name}`] = { ...base.y, domain: top, anchor: `x${name}`, ...panel.y,
      title: i % columns === 0 ? { text: plain(titleOf(chart.y)) } : undefined };
    if (panel.title) {
      made.annotations.push({ text: plain(cut(panel.title, 60)), x: left[0], y: top[1], xref: 'paper', yref: 'paper', xanchor: 'left',
        yanchor: 'bottom', showarrow: false, font: { size: 12.5 } });
    }
  });
  return made;
}

function categoryAxis(chart, panel) {
  const levels = levelsOf(chart.x, panel.points).map(({ level }) => plain(cut(level, 20)));
  return { title: { text: plain(chart.x.label) }, tickvals: levels.map((_, i) => i), ticktext: levels, range: [-0.6, levels.length - 0.4] };
}

function yAxis(chart, points) {
  const ends = points.flatMap(point => [-1, 0, 1].map(sign => point.y + sign * (chart.y.spread?.(point) ?? 0)));
  const inside = [...(chart.x.numeric ? [] : [0]), ...ends].filter(number => !chart.logY || number > 0);
  const range = [Math.min(...inside), Math.max(...inside)];
  const [low, high] = chart.logY ? range.map(Math.log10) : range;
  const room = 0.05 * (high - low) || 0.05 * Math.abs(high) || 1;
  const ticks = chart.logY ? roundNumbers(range, true) : null;
  return { type: chart.logY ? 'log' : 'linear', range: [low - (low || chart.x.numeric ? room : 0), high + room],
    ...(ticks && { tickvals: ticks, ticktext: ticks.map(large) }) };
}

// The Pareto front of each panel, if it is asked for; marks its members in the table and lists them.
function showFronts(chart, panels) {
  const isOn = control('pareto').checked && chart.x.numeric;
  control('pareto').disabled = !chart.x.numeric;
  const better = [['x', chart.x], ['y', chart.y]].map(([name, quantity]) => {
    control(`better-${name}`).closest('label').hidden = !isOn || quantity.better !== null;
    return quantity.better ?? control(`better-${name}`).value;
  });
  const fronts = isOn ? panels.map(panel => paretoFront(panel.points, better)) : panels.map(() => null);
  const members = new Set(fronts.flatMap(front => (front ?? []).map(point => point.configuration)));
  for (const { item, node } of table.rows) node.classList.toggle('front', members.has(item));
  byId('scatter-front').hidden = !isOn;
  if (isOn) listFronts(chart, panels, fronts, better);
  return fronts;
}

function listFronts(chart, panels, fronts, better) {
  const head = `Pareto front: ${better[0]} ${chart.x.name}, ${better[1]} ${chart.y.name}; no other point is at least as good in both and better ` +
    'in one. Its configurations are marked ◆ in the table.';
  const lists = fronts.map((front, i) => {
    const rows = front.slice(0, MAX_LISTED).map(point => {
      const name = point.run === null ? data.configurations[point.configuration].name : data.runs[point.run].name;
      return element('li', { textContent: `${name}: ${chart.x.label} ${valueText(chart.x, point)}, ${chart.y.label} ${valueText(chart.y, point)}` });
    });
    const rest = front.length > rows.length ? [element('li', { textContent: `and ${front.length - rows.length} more` })] : [];
    const title = panels.length > 1 ? [element('b', { textContent: panels[i].title })] : [];
    return element('div', {}, ...title, element('ul', {}, ...rows, ...rest));
  });
  byId('scatter-front').replaceChildren(element('p', { className: 'caption', textContent: head }), ...lists);
}

function captionOf(chart, placed, panels, told) {
  const rest = panels.slice(MAX_PANELS);
  const left = sum(rest.map(panel => panel.points.length));
  const what = chart.perRun ? 'runs' : 'configurations';
  const metrics = [chart.y, chart.x, chart.colour].filter(quantity => quantity?.kind === 'metric');
  const groups = new Set(panels.map(panel => panel.group)).size;
  const drawn = new Set(placed.map(({ configuration }) => configuration));
  const any = name => data.configurations.some((configuration, index) => configuration[name] && drawn.has(index));
  return [
    chart.perRun ? 'Each point is a run.' : 'Each point is a configuration; its bars are one standard deviation over seeds, and one seed has none.',
    chart.x.numeric ? '' : `A bar is the mean of its ${what}.`,
    groups > 1 ? `Only ${what} that compare share a panel: ${[...new Set(metrics.map(({ name, scope }) => `${name} needs ${scope}`))].join('; ')}.` : '',
    any('early') ? '✕: ended early.' : '',
    any('baseline') ? '★: the baseline.' : '',
    chart.colour?.numeric && placed.some(point => chart.colour.number(point) === null) ? `Grey: no value of ${chart.colour.name}.` : '',
    ...told,
    rest.length ? `Not shown: ${rest.length} more panels with ${left} ${what}; filter the table to see them.` : '',
    placed.length ? '' : `None of the shown ${what} has values to draw.`,
  ].filter(Boolean).join(' ');
}
