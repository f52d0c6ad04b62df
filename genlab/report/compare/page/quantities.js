// What a chart can show of a configuration or of a run: a metric, a recorded number such as seconds, or a config key.
//
// A point is a configuration {configuration, run: null}, whose numbers are means over its runs, or one of its runs.

const isLog = numbers => numbers.length > 0 && Math.min(...numbers) > 0 && Math.max(...numbers) > LOG_SPAN * Math.min(...numbers);
const there = numbers => numbers.filter(number => number !== null);
const isNumber = value => typeof value === 'number';

const metricQuantities = data.metrics.map(metric => {
  const of = ({ configuration, run }) => (run === null ? data.configurations[configuration].metrics[metric.name]?.mean
    : data.runs[run].metrics[metric.name]) ?? null;
  const cell = point => data.configurations[point.configuration].metrics[metric.name];
  return { ...metric, kind: 'metric', label: metric.name, numeric: true, number: of, text: point => format(of(point)),
    group: point => cell(point)?.group ?? null, spread: point => (point.run === null ? cell(point)?.deviation ?? null : null),
    log: isLog(there(data.configurations.map((_, index) => of({ configuration: index, run: null })))) };
});

const factQuantities = data.facts.map(({ name, better }) => {
  const of = ({ configuration, run }) => (run === null ? data.configurations[configuration] : data.runs[run]).facts[name] ?? null;
  const values = data.configurations.map((_, index) => of({ configuration: index, run: null }));
  const numeric = there(values).every(isNumber);
  const number = point => (isNumber(of(point)) ? of(point) : null);
  const text = point => (isNumber(of(point)) ? large(of(point)) : of(point) ?? 'none');
  return { name, kind: 'fact', label: name, better, numeric, number, text, log: numeric && isLog(there(values)) };
});

const keyQuantities = data.keys.map(key => ({
  ...key, name: key.key, kind: 'key', better: null, numeric: key.numbers !== null,
  number: ({ configuration }) => (key.numbers === null ? null : key.numbers[configuration]),
  order: ({ configuration }) => key.at[configuration],
  text: ({ configuration }) => key.levels[key.at[configuration]],
}));

const quantities = [...metricQuantities, ...factQuantities, ...keyQuantities];
const quantityNamed = name => quantities.find(quantity => quantity.name === name) ?? null;

// Formats a number; a large one with k, M or B.
const COMPACT = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 4 });
function large(number) {
  return number !== null && Math.abs(number) >= 1e4 ? COMPACT.format(number) : format(number);
}

// Formats a mean and its deviation with as many digits as two digits of the deviation have.
function formatFold(mean, deviation) {
  if (!deviation || deviation <= 1e-12 * Math.abs(mean)) return format(mean) + (deviation === null ? '' : ' ± 0');
  const places = Math.max(0, 1 - Math.floor(Math.log10(deviation)));
  if (places > 8 || Math.abs(mean) >= 1e8) return `${mean.toExponential(3)} ± ${deviation.toExponential(1)}`;
  return `${mean.toFixed(places)} ± ${deviation.toFixed(places)}`;
}

// The values of a quantity in the order of its axis, each with its points.
function levelsOf(quantity, points) {
  const groups = [...groupBy(points, quantity.text)].map(([level, members]) => ({ level, members }));
  const order = quantity.order ?? (() => 0);
  return groups.sort((a, b) => order(a.members[0]) - order(b.members[0]) || (quantity.order ? 0 : a.level.localeCompare(b.level)));
}

// Options of a select, grouped by what they are.
function quantityOptions(wanted, none) {
  const kinds = { metric: 'metrics', fact: 'recorded', key: 'config keys' };
  const groups = Object.entries(kinds).map(([kind, label]) => {
    const options = wanted.filter(quantity => quantity.kind === kind);
    return element('optgroup', { label }, ...options.map(({ name }) => element('option', { value: name, textContent: name })));
  });
  return [...(none ? [element('option', { value: '', textContent: none })] : []), ...groups.filter(group => group.children.length)];
}
