// The table of configurations. Its filter chooses those that all charts show.

const ARROWS = { lower: ' ↓', higher: ' ↑' };
const configurationPoint = configuration => ({ configuration, run: null });

function setUpTable() {
  const early = data.configurations.some(configuration => configuration.early);
  const columns = [
    { name: '#', numeric: true, number: index => index + 1, key: index => index, text: index => String(index + 1), node: numberNode },
    ...keyQuantities.filter(key => key.telling).map(keyColumn),
    { name: 'seeds', number: seedsOf, key: seedsOf, text: index => (seedsOf(index) === 1 ? 'one seed' : String(seedsOf(index))) },
    ...(early ? [{ name: 'state', key: stateOf, text: stateOf, node: index => stateNode(stateOf(index)) }] : []),
    ...metricQuantities.filter(metric => metric.shown).flatMap(metricColumns),
    ...factQuantities.map(factColumn),
    ...(data.runs.some(run => run.folder) ? [{ name: 'runs', key: runCount, text: runTexts, node: runLinks }] : []),
    ...keyQuantities.filter(key => !key.telling).map(key => ({ ...keyColumn(key), hidden: true })),
    ...metricQuantities.filter(metric => !metric.shown).flatMap(metricColumns).map(column => ({ ...column, hidden: true })),
  ];
  const texts = index => data.configurations[index].runs.map(run => data.runs[run].name).join(' ');
  fillTable(byId('configurations'), columns, data.configurations.map((_, index) => index), '#', false, texts);
  remembered(byId('table-filter')).addEventListener('input', filterTable);
}

const seedsOf = index => data.configurations[index].seeds;
const stateOf = index => (data.configurations[index].early ? 'ended early' : 'finished');
const runCount = index => data.configurations[index].runs.length;
const runTexts = index => data.configurations[index].runs.map(run => data.runs[run].name).join('\n');

function numberNode(index) {
  return element('span', { textContent: String(index + 1), className: 'place' });
}

function runLinks(index) {
  const links = data.configurations[index].runs.flatMap(run => {
    const { folder, seed } = data.runs[run];
    return folder ? [link(seed === null ? 'run' : `seed ${seed}`, folder), ' '] : [];
  });
  return element('span', { className: 'files' }, ...links);
}

function keyColumn(key) {
  return { name: key.label, title: key.name, numeric: key.numeric, number: key.numeric && (index => key.numbers[index]),
    key: index => key.at[index], text: index => key.text(configurationPoint(index)) };
}

function factColumn(fact) {
  const of = index => data.configurations[index].facts[fact.name] ?? null;
  const text = index => (isNumber(of(index)) ? grouped(of(index)) : of(index) ?? '–');
  return { name: fact.name, numeric: fact.numeric, number: fact.numeric && of, key: of, text };
}

const grouped = number => (Math.abs(number) >= 100 ? Math.round(number).toLocaleString('en') : format(number));

// The columns of a metric: its mean and deviation and, if there is a baseline, the difference to it.
function metricColumns(metric) {
  const cell = index => data.configurations[index].metrics[metric.name] ?? null;
  const number = index => cell(index)?.mean ?? null;
  const head = [metric.name, metric.unit].filter(Boolean).join(' ') + (ARROWS[metric.better] ?? '');
  const column = { name: metric.name, head, metric, numeric: true, number, key: number, text: index => cellText(index, cell(index)) };
  if (!data.configurations.some(configuration => configuration.baseline)) return [column];
  const change = index => cell(index)?.difference?.[0] ?? null;
  return [column, { name: `Δ ${metric.name}`, numeric: true, number: change, key: change, text: index => differenceText(index, cell(index)) }];
}

function cellText(index, cell) {
  if (!cell) return '–';
  const missing = cell.values.length < seedsOf(index) ? ` (${cell.values.length} of ${seedsOf(index)})` : '';
  return formatFold(cell.mean, cell.deviation) + missing;
}

function differenceText(index, cell) {
  if (cell && data.configurations[index].baseline) return 'baseline';
  if (!cell?.difference) return '–';
  const signed = number => (number > 0 ? '+' : '') + String(Number(number.toPrecision(3)));
  const [value, low, high] = cell.difference;
  return `${signed(value)} ${low === null ? '(one seed)' : `[${signed(low)}, ${signed(high)}]`}`;
}

function filterTable() {
  const { items, problems } = filterRows(byId('table-filter').value);
  byId('table-count').textContent = [`${items.length} of ${data.configurations.length} configurations`, ...problems].join('; ');
  markBest(items);
  select([...items].sort((a, b) => a - b));
}

// Prints the best value in bold among the shown ones that compare with each other.
function markBest(items) {
  table.columns.forEach(({ metric }, column) => {
    if (!metric?.better) return;
    const cells = items.map(index => [index, data.configurations[index].metrics[metric.name]]).filter(([, cell]) => cell);
    const best = new Set([...groupBy(cells, ([, cell]) => cell.group).values()].flatMap(group => {
      const means = group.map(([, cell]) => cell.mean);
      if (new Set(means).size === 1) return [];
      const wanted = (metric.better === 'lower' ? Math.min : Math.max)(...means);
      return group.filter(([, cell]) => cell.mean === wanted).map(([index]) => index);
    }));
    for (const { item, node } of table.rows) node.cells[column].classList.toggle('best', best.has(item));
  });
}
