// Importance and correlation of each hyperparameter, as in the parameter importance panel of W&B.

function drawImportance() {
  const rows = data.relations[state.metric];
  const noise = rows.find(row => row.key === data.seed)?.importance ?? null;
  const heads = ['hyperparameter', 'importance', 'correlation'];
  const head = element('tr', {}, ...heads.map(text => element('th', { textContent: text })));
  byId('importance-table').replaceChildren(
    element('thead', {}, head), element('tbody', {}, ...rows.map(row => importanceRow(row, noise))));
  const count = measured(state.metric).length;
  byId('importance-caption').textContent =
    'Importance: a random forest of 100 trees predicts ' + `${state.metric} from the hyperparameters of the ${count} finished ` +
    'runs; the importance is the share of the reduction of variance that its splits on a hyperparameter achieve, and all ' +
    'sum to 1. Correlation: the Pearson correlation over the same runs; a hyperparameter with texts as values has one for ' +
    'each text. Even pure noise gets some importance, the more the more values it has. ' + (noise === null ? '' :
      'The importance of the seed estimates this noise floor; hyperparameters that are not more important are pale.');
}

function importanceRow(row, noise) {
  const parameter = data.hyperparameters.find(parameter => parameter.key === row.key);
  const isSeed = row.key === data.seed;
  const name = row.value ? `= ${row.value}` : parameter.label + (isSeed ? ' (noise floor)' : '');
  const node = element('tr', {}, element('td', { textContent: name, title: row.key }),
    element('td', {}, bar(row.importance, 0, '#7d54b2')),
    element('td', {}, ...(row.correlation === null ? [] : [signedBar(row.correlation)])));
  node.classList.toggle('value', row.value !== '');
  node.classList.toggle('noise', isSeed);
  node.classList.toggle('below', !isSeed && noise !== null && row.value === '' && row.importance <= noise);
  return node;
}

const signedBar = value => bar(value, 0.5, value > 0 ? '#1f9d55' : '#d64545', 0.5);

// A bar and its number. The bar starts at `origin`, a share of the track, and is |value| * `unit` of the track long.
function bar(value, origin, color, unit = 1) {
  const fill = element('div', { className: 'fill' });
  const width = Math.abs(value ?? 0) * unit;
  fill.style.left = `${100 * (value < 0 ? origin - width : origin)}%`;
  fill.style.width = `${100 * width}%`;
  fill.style.background = color;
  const number = element('span', { className: 'number', textContent: value === null ? '–' : value.toFixed(2) });
  return element('div', { className: 'bar' }, element('div', { className: 'track' }, fill), number);
}
